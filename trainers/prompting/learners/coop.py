"""CoOp: learned context words, common or per class (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.class_tokens import POSITIONS, context_template, context_vectors
from ..core.clip_weights import text_width
from ..core.layout import PublishedLayout
from ..core.learner import INIT_STD, PromptLearner, Readout, TowerPrompts, random_prompts
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting


@dataclass(frozen=True)
class CoOpConfig(Settings):
    """Settings of the learner: b context tokens (`length`), or one for each word of `context`."""

    length: int = setting(
        16,
        "N_CTX",
        "context tokens, b; ignored where CTX_INIT has words",
        least=1,
        most=MOST_TOKENS,
        told_by="text_length",
    )
    # All words are prompts, so a checkpoint only tells their number.
    context: str = setting(
        "", "CTX_INIT", "initial words, one token each; empty: random prompts", told_by=lambda state_dict: ""
    )
    class_specific: bool = setting(
        False,
        "CSC",
        "a context for every class",
        told_by=lambda state_dict: any(value.dim() == 3 for value in state_dict.values()),
    )
    position: str = setting(
        "end", "CLASS_TOKEN_POSITION", "where the class name stands among the prompts", choices=POSITIONS
    )

    def check(self) -> None:
        if self.class_specific and self.words:
            raise self.error(
                "{class_specific} is True and {context} is {!r}, but words initialise one context for all classes; "
                'set {class_specific} to False, or {context} to "".',
                self.context,
            )

    @property
    def words(self) -> str:
        return self.context.replace("_", " ").strip()

    @property
    def slots(self) -> int:
        """Number of context tokens: that of the words if there are any, as in CoOp."""
        return len(self.words.split()) if self.words else self.length

    @property
    def padding(self) -> int:
        """Number of context tokens in front of the words, which start as zeros."""
        return self.slots - len(self.words.split()) if self.words else 0


class CoOpLearner(PromptLearner):
    """Context tokens that enter the text tower.

    Attributes:
        text_prompts: for layer 0, `[b, d_t]`, or `[classes, b, d_t]` if class-specific. The latter serve their
            training classes only, and are created by `set_class_count`.
    """

    recordable = True

    def __init__(self, config: CoOpConfig, clip_model: nn.Module):
        super().__init__()
        self.config = config
        self.position = config.position
        self.class_specific = config.class_specific
        self.text_slots = config.slots
        # In CoOp all words of the context are prompts, whatever their number.
        text = " ".join(["X"] * config.padding + [config.words])
        self.template, use_words = context_template(text, config.slots, max_words=config.slots)
        self.width = text_width(clip_model)
        self.text_prompts = nn.ParameterDict()
        if config.class_specific:
            # Drawn here, so that the prompts do not depend on draws before the classes are known.
            self.seed = int(torch.randint(2**31, ()))
            return
        self.text_prompts = random_prompts([0], config.slots, self.width)
        if use_words:
            words = context_vectors(clip_model, config.words, config.slots - config.padding)
            self.text_prompts["0"].data[: config.padding].zero_()
            self.text_prompts["0"].data[config.padding :].copy_(words)

    def set_class_count(self, number: int) -> None:
        """Draw class-specific contexts.

        Raises:
            SettingError: contexts exist for another number of classes.
        """
        if not self.class_specific:
            return
        if "0" not in self.text_prompts:
            prompts = torch.empty(number, self.config.slots, self.width)
            prompts.normal_(std=INIT_STD, generator=torch.Generator().manual_seed(self.seed))
            self.text_prompts["0"] = nn.Parameter(prompts)
        elif len(self.text_prompts["0"]) != number:
            raise self.config.error(
                "{class_specific} is True: there are contexts for {} classes, which cannot serve {} others; train "
                "with {class_specific} False to test on other classes.",
                *(len(self.text_prompts["0"]), number),
            )

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        def at(layer: int, readout: Readout) -> Tensor:
            prompts = self.text_prompts["0"]
            return prompts[readout.samples] if self.class_specific and readout.samples is not None else prompts

        return TowerPrompts(self.text_slots, 1, at)


LAYOUT = PublishedLayout(renames=((r"ctx", lambda: "text_prompts.0"),), marker="ctx")


def few_shot_recipe(dataset: str, shots: int) -> str:
    """CoOp's schedule for a number of shots, on ResNet-50 as in its main experiments."""
    if dataset == "imagenet" or shots == 1:
        return "rn50_ep50"
    return "rn50_ep100" if shots <= 4 else "rn50"


METHOD = declare(
    Method(
        "CoOp",
        summary="context tokens in front of, around or after the class name, for all classes or for each",
        node="COOP",
        config=CoOpConfig,
        learner=CoOpLearner,
        recipes=Recipes(
            "vit_b16_ctxv1",
            base2new_imagenet="vit_b16_ep50_ctxv1",
            cross_dataset="vit_b16_ep50_ctxv1",
            few_shot=few_shot_recipe,
            chooses_context=True,
        ),
        layout=LAYOUT,
        needs_vit=False,
        venue="IJCV 2022",
        arxiv="2109.01134",
    )
)
