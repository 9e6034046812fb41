"""Class names as token sequences, and the words that initialise prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError, SettingError
from .design import OPENAI, Design, design_of
from .words import OPENAI_WORDS, Words

# Place of the class name: after all prompts, between their halves, in front of them (CoOp's names).
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class ClassTokens:
    """The tokenised sentences of a class set.

    Attributes:
        ids: `[classes, tokens]`, cut after the longest sentence's EOT where later tokens cannot reach a feature, as
            under the causal mask.
        eot: `[classes]`, position of EOT, or of the last token before the padding.
    """

    ids: Tensor
    eot: Tensor


def words_of(design: Design) -> Words:
    """The tokeniser of a design."""
    return design.words or OPENAI_WORDS


def tokenize_sentences(sentences: Sequence[str], context_length: int, design: Design = OPENAI) -> ClassTokens:
    """Tokenise with the backbone's tokeniser.

    Raises:
        InputError: a sentence is longer than the checkpoint's context.
    """
    ids, end = words_of(design).sentences(sentences, context_length)
    if design.cut_at_end:
        ids = ids[:, : int(end.max()) + 1]
    return ClassTokens(ids, end)


def tokenize_classes(
    classnames: Sequence[str], templates: Sequence[str], context_length: int, design: Design = OPENAI
) -> ClassTokens:
    """Tokenise a sentence per class and template; underscores in names become spaces, as everywhere in the field.

    Args:
        classnames: the class names, in label order.
        templates: sentences with `{}` for the name; the result has all classes of the first template first.
        context_length: tokens of the checkpoint's text tower (77 for OpenAI's).
        design: of the backbone.
    """
    if not classnames:
        raise InputError("The data set has no classes; check DATASET.NAME, DATASET.ROOT and SUBSAMPLE_CLASSES.")
    names = [name.replace("_", " ") for name in classnames]
    sentences = [template.format(name) for template in templates for name in names]
    return tokenize_sentences(sentences, context_length, design)


def check_context(clip_model: nn.Module, templates: Sequence[str]) -> None:
    """Raises SettingError if a backbone's context is too short for a class of a single token."""
    tokenize_classes(["a"], templates, clip_model.context_length, design_of(clip_model))


def place_slots(
    tokens: ClassTokens, classnames: Sequence[str], slots: int, positions: Sequence[str], design: Design = OPENAI
) -> tuple[ClassTokens, Tensor]:
    """Move the first `slots` words (after SOS, if there is one), the placeholders of prompts, to their place.

    The class name counts as many tokens as its separate encoding, as in CoOp; sentence lengths do not change.

    Args:
        tokens: of all classes for each template in turn.
        positions: of the class name, one of `POSITIONS` for each template.

    Returns:
        The reordered sentences, and the positions of the slots, `[sentences, slots]`.
    """
    ids, places, words, start = tokens.ids.clone(), [], words_of(design), words_of(design).first
    lengths = [len(words.encode(classname.replace("_", " "))) for classname in classnames]
    of_sentences = ((position, name) for position in positions for name in lengths)
    for row, (position, name) in zip(ids, of_sentences):
        before = {"end": slots, "middle": slots // 2, "front": 0}[position]
        places.append([start + slot + (name if slot >= before else 0) for slot in range(slots)])
        moved = row[start + slots : start + slots + name].clone()
        row[start + before + name : start + slots + name] = row[start + before : start + slots].clone()
        row[start + before : start + before + name] = moved
    return ClassTokens(ids, tokens.eot), torch.tensor(places)


def context_template(context: str, slots: int, max_words: int = 4) -> tuple[str, bool]:
    """The sentence around a prompt, and whether the words of `context` initialise the prompt.

    With words: "{context} {}.", whose first `slots` words become prompts. Without words, or with more than `max_words`
    slots: one placeholder "X" per slot (upstream behaviour of MaPLe, PromptSRC and BMIP).
    """
    context = context.replace("_", " ").strip()
    use_words = bool(context) and slots <= max_words
    prefix = context if use_words else " ".join(["X"] * slots)
    return prefix.replace("{", "{{").replace("}", "}}") + " {}.", use_words


def context_vectors(clip_model: nn.Module, context: str, length: int, length_field: str = "length") -> Tensor:
    """Embeddings of the first `length` tokens of `context`, `[length, width]` in fp32.

    Args:
        length_field: name of the length's setting, for messages.

    Raises:
        SettingError: `context` has fewer tokens; upstream would use EOT as a word.
    """
    ids = words_of(design_of(clip_model)).encode(context.replace("_", " ").strip())
    if len(ids) < length:
        name = f"{{{length_field}}}"
        raise SettingError(
            f"{{context}} is {{!r}}, which has {{}} tokens, but the prompts ({name}) replace its first {{}}; use a "
            f"longer {{context}}, a smaller {name}, or an empty {{context}}.",
            *(context, len(ids), length),
        )
    return clip_model.token_embedding.weight[ids[:length]].float()
