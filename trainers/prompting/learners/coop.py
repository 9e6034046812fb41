"""CoOp: learned context words, for all classes or for each (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoints.published import ReleasedLayout
from ..core.class_tokens import POSITIONS, context_template, context_vectors
from ..core.clip_weights import text_width
from ..core.learner import INIT_STD, PromptLearner, Readout, TowerPrompts, random_prompts
from ..errors import InputError


@dataclass(frozen=True)
class CoOpConfig:
    """Settings of the learner.

    Attributes:
        length: context tokens, b; of no account where `context` has words.
        context: words that initialise the prompts, one token each; "" for random ones.
        class_specific: a context of its own for every class.
        position: where the class name stands, one of `class_tokens.POSITIONS`.
        node: configuration node, for messages.
    """

    length: int = 16
    context: str = ""
    class_specific: bool = False
    position: str = "end"
    node: str = "TRAINER.COOP"

    def __post_init__(self) -> None:
        if self.position not in POSITIONS:
            raise InputError(
                f"{self.node}.CLASS_TOKEN_POSITION is {self.position!r}; set it to one of {', '.join(POSITIONS)}."
            )
        if self.class_specific and self.words:
            raise InputError(
                f"{self.node}.CSC is True and {self.node}.CTX_INIT is {self.context!r}, but words initialise one "
                'context for all classes; set CSC to False, or CTX_INIT to "".'
            )
        if self.slots < 1:
            raise InputError(f"{self.node}.N_CTX is {self.length}; set it to 1 or more.")

    @property
    def words(self) -> str:
        return self.context.replace("_", " ").strip()

    @property
    def slots(self) -> int:
        """Context tokens: the number of words where there are any, as in CoOp."""
        return len(self.words.split()) if self.words else self.length


class CoOpLearner(PromptLearner):
    """Context tokens that enter the text tower.

    Attributes:
        text_prompts: for layer 0, `[b, d_t]`, or `[classes, b, d_t]` if class-specific. The latter belong to the
            classes that they are trained for, and exist from `set_class_count` on.
    """

    def __init__(self, config: CoOpConfig, clip_model: nn.Module):
        super().__init__()
        self.config = config
        self.position = config.position
        self.class_specific = config.class_specific
        self.text_slots = config.slots
        # In CoOp all words of the context are prompts, however many there are.
        self.template, use_words = context_template(config.context, config.slots, max_words=config.slots)
        self.width = text_width(clip_model)
        self.text_prompts = nn.ParameterDict()
        if config.class_specific:
            # Drawn here, so that the prompts do not depend on what is drawn before the classes are known.
            self.seed = int(torch.randint(2**31, ()))
            return
        self.text_prompts = random_prompts([0], config.slots, self.width)
        if use_words:
            with torch.no_grad():
                self.text_prompts["0"].copy_(context_vectors(clip_model.token_embedding, config.words, config.slots))

    def set_class_count(self, number: int) -> None:
        """Draw class-specific contexts.

        Raises:
            InputError: there are contexts already, for another number of classes.
        """
        if not self.class_specific:
            return
        if "0" not in self.text_prompts:
            prompts = torch.empty(number, self.config.slots, self.width)
            prompts.normal_(std=INIT_STD, generator=torch.Generator().manual_seed(self.seed))
            self.text_prompts["0"] = nn.Parameter(prompts)
        elif len(self.text_prompts["0"]) != number:
            raise InputError(
                f"{self.config.node}.CSC is True: there are contexts for {len(self.text_prompts['0'])} classes, which "
                f"cannot serve {number} others; train with CSC False to test on other classes."
            )

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        def at(layer: int, readout: Readout) -> Tensor:
            prompts = self.text_prompts["0"]
            return prompts[readout.samples] if self.class_specific and readout.samples is not None else prompts

        return TowerPrompts(self.text_slots, 1, at)


RELEASED = ReleasedLayout(renames=((r"ctx", lambda: "text_prompts.0"),), marker="ctx")
