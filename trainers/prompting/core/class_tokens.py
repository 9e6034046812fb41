"""Class names as token sequences, and the words that initialise prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, SettingError
from .openai_clip import clip

# Place of the class name: after all prompts, between their halves, in front of them (CoOp's names).
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class ClassTokens:
    """The tokenised sentences of a class set.

    Attributes:
        ids: `[classes, tokens]`, cut after the longest sentence's EOT: under the causal mask later tokens cannot
            reach a feature.
        eot: `[classes]`, position of EOT, where the text feature is read.
    """

    ids: Tensor
    eot: Tensor


def tokenize_sentences(sentences: Sequence[str], context_length: int) -> ClassTokens:
    """Tokenise with CLIP's byte-pair encoding.

    Raises:
        InputError: a sentence is longer than the checkpoint's context.
    """
    for sentence in sentences:
        try:
            clip.tokenize(sentence, context_length)
        except RuntimeError as error:
            raise SettingError(
                "The sentence {!r} has more than the {} tokens of this backbone; shorten the class name, or the words "
                "or prompts around it ({settings}).",
                *(sentence, context_length),
            ) from error
    ids = clip.tokenize(list(sentences), context_length)
    # EOT has the largest id of the vocabulary, so the first maximum is its position (as in CLIP's encode_text).
    eot = ids.argmax(dim=-1)
    return ClassTokens(ids[:, : int(eot.max()) + 1], eot)


def tokenize_classes(classnames: Sequence[str], templates: Sequence[str], context_length: int) -> ClassTokens:
    """Tokenise a sentence per class and template; underscores in names become spaces, as everywhere in the field.

    Args:
        classnames: the class names, in label order.
        templates: sentences with `{}` for the name; the result has all classes of the first template first.
        context_length: tokens of the checkpoint's text tower (77 for OpenAI's).
    """
    if not classnames:
        raise InputError("The data set has no classes; check DATASET.NAME, DATASET.ROOT and SUBSAMPLE_CLASSES.")
    names = [name.replace("_", " ") for name in classnames]
    return tokenize_sentences([template.format(name) for template in templates for name in names], context_length)


def place_slots(
    tokens: ClassTokens, classnames: Sequence[str], slots: int, positions: Sequence[str]
) -> tuple[ClassTokens, Tensor]:
    """Move the first `slots` tokens after SOS, the placeholders of prompts, to their place.

    The class name counts as many tokens as its separate encoding, as in CoOp; sentence lengths do not change.

    Args:
        tokens: of all classes for each template in turn.
        positions: of the class name, one of `POSITIONS` for each template.

    Returns:
        The reordered sentences, and the positions of the slots, `[sentences, slots]`.
    """
    ids, places = tokens.ids.clone(), []
    lengths = [len(clip._tokenizer.encode(classname.replace("_", " "))) for classname in classnames]
    of_sentences = ((position, name) for position in positions for name in lengths)
    for row, (position, name) in zip(ids, of_sentences):
        before = {"end": slots, "middle": slots // 2, "front": 0}[position]
        places.append([1 + slot + (name if slot >= before else 0) for slot in range(slots)])
        words = row[1 + slots : 1 + slots + name].clone()
        row[1 + before + name : 1 + slots + name] = row[1 + before : 1 + slots].clone()
        row[1 + before : 1 + before + name] = words
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


def context_vectors(
    token_embedding: torch.nn.Embedding, context: str, length: int, length_field: str = "length"
) -> Tensor:
    """Embeddings of the first `length` tokens of `context`, `[length, width]` in fp32.

    Args:
        length_field: name of the length's setting, for messages.

    Raises:
        SettingError: `context` has fewer tokens; upstream would use EOT as a word.
    """
    ids = clip._tokenizer.encode(context.replace("_", " ").strip())
    if len(ids) < length:
        name = f"{{{length_field}}}"
        raise SettingError(
            f"{{context}} is {{!r}}, which has {{}} tokens, but the prompts ({name}) replace its first {{}}; use a "
            f"longer {{context}}, a smaller {name}, or an empty {{context}}.",
            *(context, len(ids), length),
        )
    return token_embedding.weight[ids[:length]].float()
