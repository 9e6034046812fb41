"""Tokenisers: sentences as token ids, with the places of their first word and of their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import SettingError
from .openai_clip import clip


class Sentences(NamedTuple):
    """Attributes:
    ids: `[sentences, context]`, padded.
    end: `[sentences]`, position of the last token before the padding.
    """

    ids: Tensor
    end: Tensor


class Words(Protocol):
    """A tokeniser.

    Attributes:
        first: number of special tokens before the first word.
        size: number of its tokens, whose ids are 0 to size - 1.
    """

    first: int
    size: int

    def encode(self, text: str) -> list[int]:
        """Ids of the words alone, without special tokens."""

    def piece(self, number: int) -> str:
        """The text of one token, which may be a part of a word."""

    def sentences(self, texts: Sequence[str], context_length: int) -> Sentences:
        """Ids of whole sentences; raises SettingError for one that is longer than the context."""


def too_long(sentence: str, context_length: int) -> SettingError:
    return SettingError(
        "The sentence {!r} has more than the {} tokens of this backbone; shorten the class name, or the words "
        "or prompts around it ({settings}).",
        *(sentence, context_length),
    )


class OpenAIWords:
    """CLIP's byte-pair encoding."""

    first = 1  # SOS

    def encode(self, text: str) -> list[int]:
        return clip._tokenizer.encode(text)

    @property
    def size(self) -> int:
        return len(clip._tokenizer.decoder)

    def piece(self, number: int) -> str:
        return clip._tokenizer.decode([number]).strip()

    def sentences(self, texts: Sequence[str], context_length: int) -> Sentences:
        for text in texts:
            try:
                clip.tokenize(text, context_length)
            except RuntimeError as error:
                raise too_long(text, context_length) from error
        ids = clip.tokenize(list(texts), context_length)
        # EOT has the largest id of the vocabulary, so the first maximum is its position (as in CLIP's encode_text).
        return Sentences(ids, ids.argmax(dim=-1))


OPENAI_WORDS = OpenAIWords()


class HuggingFaceWords:
    """A tokeniser of `transformers`, with the treatment of its text and ids that open_clip adds.

    Args:
        tokenizer: of `transformers`.
        clean: applied to a text first.
        strip_sep: the closing token becomes 0, as in CLIPA.

    Raises:
        SettingError: prompts cannot take the places of its tokens.
    """

    def __init__(self, tokenizer: Any, clean: Callable[[str], str] = str.strip, strip_sep: bool = False):
        self.tokenizer, self.clean, self.strip_sep = tokenizer, clean, strip_sep
        if tokenizer.pad_token_id is None or tokenizer.padding_side != "right":
            raise SettingError(
                "The tokeniser of {backbone} does not pad sentences at their end, so prompts would not stand in their "
                "places; choose another {backbone}."
            )
        (word, *_), whole = self.encode("a"), self._whole("a")
        self.first = whole.index(word)
        if len(self.encode("X X")) != 2:
            raise SettingError(
                "The tokeniser of {backbone} has {} tokens for 'X X', whose two words hold the places of prompts; "
                "choose another {backbone}.",
                len(self.encode("X X")),
            )

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(self.clean(text), add_special_tokens=False).input_ids

    @property
    def size(self) -> int:
        return len(self.tokenizer)

    def piece(self, number: int) -> str:
        return self.tokenizer.decode([number]).strip()

    def sentences(self, texts: Sequence[str], context_length: int) -> Sentences:
        rows = [self._whole(text) for text in texts]
        for text, row in zip(texts, rows):
            if len(row) > context_length:
                raise too_long(text, context_length)
        ids = torch.full((len(rows), context_length), self.tokenizer.pad_token_id, dtype=torch.long)
        for line, row in zip(ids, rows):
            line[: len(row)] = torch.tensor(row)
        if self.strip_sep:
            ids[ids == self.tokenizer.sep_token_id] = 0
        return Sentences(ids, torch.tensor([len(row) - 1 for row in rows]))

    def _whole(self, text: str) -> list[int]:
        return self.tokenizer(self.clean(text)).input_ids
