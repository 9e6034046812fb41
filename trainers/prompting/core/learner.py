"""What a prompt-learning method answers: which prompt tokens enter layer i of which tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .adapters import FeatureAdapters


class Readout(Protocol):
    """The attention that the prompt slots of the current layer receive, asked of the core by a learner.

    Attributes:
        samples: `[batch]`, which of all classes the batch holds; None for all of them, in their order. Classes may
            come in several batches, and the same batch again when activations are recomputed.
        total: number of all classes or images.
    """

    samples: Tensor | None
    total: int

    def __call__(self, tokens: Tensor | None = None, *, relative: bool = False) -> Tensor:
        """Read before the slots are replaced.

        Args:
            tokens: `[b, width]` or `[batch, b, width]` prompts to read with in the slots; None reads with what the
                previous layer left there. Layer 0 has no previous layer, so it needs them; the core gives them the
                positional embedding (text) or `ln_pre` (vision) as it does for prompts that enter there.
            relative: see `interaction.attention_readout`.

        Returns:
            `[batch, b]` in fp32, with gradient where the tokens have one.
        """


@dataclass(frozen=True)
class TowerPrompts:
    """The prompts of one tower in one forward pass.

    Attributes:
        length: number of prompt slots.
        depth: prompts enter layers 0 ... depth - 1; after them the slots go on as ordinary tokens.
        at: `at(layer, readout)` gives the tokens that enter that layer, `[length, width]` (the same for the whole
            batch) or `[batch, length, width]`; None keeps what the previous layer left in the slots (never at 0).
    """

    length: int
    depth: int
    at: Callable[[int, Readout], Tensor | None]

    def __post_init__(self) -> None:
        if self.length < 1 or self.depth < 1:
            raise ValueError(f"{self.length} slots in {self.depth} layers; a tower without prompts is None")


class PromptLearner(nn.Module):
    """Base of all methods' learners. Its parameters are all that trains, and all that a checkpoint holds.

    Nothing in it depends on the class names, so a state dict loads on any class set, if it is not class-specific.

    Attributes:
        template: the sentence of a class, with `{}` for its name.
        text_slots: how many tokens after SOS the text prompts replace; 0 leaves the sentence as it is.
        position: where the class name stands among the prompts, one of `class_tokens.POSITIONS`; only at the "end"
            can prompts enter more layers than the first.
        conditional: the text prompts depend on the image.
        class_specific: there are prompts for each class, which serve no others.
        adapters: what both towers' features pass through; None leaves them as they are.
    """

    template: str
    text_slots: int = 0
    position: str = "end"
    conditional: bool = False
    class_specific: bool = False

    def __init__(self) -> None:
        super().__init__()
        # Not an attribute of the class, which would hide the module of that name for ever.
        self.adapters: FeatureAdapters | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """All sentences of a class; the normalised features of several are averaged."""
        return (self.template,)

    def set_class_count(self, number: int) -> None:
        """Told the number of classes before any of them is encoded."""

    def text(self, image_features: Tensor | None = None) -> TowerPrompts | None:
        """Prompts of the text tower; None runs it without.

        Args:
            image_features: normalised, `[images, embed]` in fp32, where the learner is conditional; its prompts are
                `[images, b, width]` then. Otherwise None.
        """
        return None

    def vision(self) -> TowerPrompts | None:
        """Prompts of the vision tower; None runs it without."""
        return None

    def adapt_text(self, features: Tensor) -> Tensor:
        """What becomes of the text tower's features `[..., embed]`, in fp32, before they are normalised."""
        return features if self.adapters is None else self.adapters.text(features)

    def adapt_image(self, features: Tensor) -> Tensor:
        """What becomes of the vision tower's features `[..., embed]`, in fp32, before they are normalised."""
        return features if self.adapters is None else self.adapters.image(features)


class FixedSentence(PromptLearner):
    """No prompts at all: zero-shot CLIP with one or more sentences per class."""

    def __init__(self, *templates: str):
        super().__init__()
        self.fixed = templates

    @property
    def templates(self) -> tuple[str, ...]:
        return self.fixed


INIT_STD = 0.02  # of random prompts, in all methods


def random_prompts(layers: Iterable[int], length: int, width: int) -> nn.ParameterDict:
    """Trainable prompts by layer, each `[length, width]`, drawn from N(0, 0.02²)."""
    # A plain dict would be sorted by its keys, which are text: 0, 1, 10, ...
    prompts = OrderedDict((str(layer), nn.Parameter(torch.empty(length, width))) for layer in layers)
    for prompt in prompts.values():
        nn.init.normal_(prompt, std=INIT_STD)
    return nn.ParameterDict(prompts)


def check_depth(field: str, depth: int, layers: int) -> None:
    """Raises SettingError if prompts are to enter more layers than a backbone has; `field` is the setting's name."""
    if depth > layers:
        raise SettingError(
            f"{{{field}}} is {{}}, but the towers of this backbone have {{}} layers; set it to 1..{{}}.",
            *(depth, layers, layers),
        )
