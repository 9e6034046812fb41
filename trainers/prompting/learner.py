"""What a prompt-learning method answers: which prompt tokens enter layer i of which tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


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
        depth: prompts enter layers 0 ... depth - 1; behind them the slots go on as ordinary tokens.
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

    Nothing in it depends on the class names, so a state dict loads on any class set.

    Attributes:
        template: the sentence of a class, with `{}` for its name.
        text_slots: how many tokens behind SOS the text prompts replace; 0 leaves the sentence as it is.
    """

    template: str
    text_slots: int = 0

    def text(self) -> TowerPrompts | None:
        """Prompts of the text tower; None runs it without."""
        return None

    def vision(self) -> TowerPrompts | None:
        """Prompts of the vision tower; None runs it without."""
        return None


class FixedSentence(PromptLearner):
    """No prompts at all: zero-shot CLIP with one sentence per class."""

    def __init__(self, template: str):
        super().__init__()
        self.template = template
