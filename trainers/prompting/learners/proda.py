"""ProDA: several contexts, whose sentences of a class are samples of a distribution of its features.

Lu et al., "Prompt Distribution Learning", CVPR 2022, arXiv 2205.03340, as BMIP's authors have it in their repository.
A quarter of the sentences begins with the class name, a quarter has it in the middle of the context, the others end
with it. The mean of the normalised features of a class's sentences classifies, as it is. Its objective is
`objectives/prompt_distribution.py`.

Differences from the authors' code: underscores in class names become spaces (theirs: they stay); numbers of contexts
that are not divisible by 4 are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.class_tokens import context_template
from ..core.clip_weights import text_width
from ..core.layout import PublishedLayout
from ..core.learner import INIT_STD, PromptLearner, Readout, TowerPrompts
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting

SHARE = 4  # one of so many sentences has the class name in front, one has it in the middle


def _told_number(state_dict: Mapping[str, Tensor]) -> int:
    return len(state_dict["text_prompts.0"])


@dataclass(frozen=True)
class ProDAConfig(Settings):
    """Settings of the learner: K contexts (`number`) of b tokens (`length`)."""

    length: int = setting(16, "N_CTX", "tokens of each context, b", least=1, most=MOST_TOKENS, told_by="text_length")
    number: int = setting(
        32, "N_PROMPT", "contexts, hence sentences of each class, K", least=2, most=MOST_TOKENS, told_by=_told_number
    )


class ProDALearner(PromptLearner):
    """Contexts for sentences with the class name in front, in the middle and at the end, in this order.

    Attributes:
        text_prompts: for layer 0, `[K, b, d_t]`.
    """

    recordable = True
    renormalised = False

    def __init__(self, config: ProDAConfig, clip_model: nn.Module):
        super().__init__()
        self.config = config
        self.text_slots = config.length
        self.template, _ = context_template("", config.length)
        contexts = torch.empty(config.number, config.length, text_width(clip_model)).normal_(std=INIT_STD)
        self.text_prompts = nn.ParameterDict({"0": nn.Parameter(contexts)})

    @property
    def templates(self) -> tuple[str, ...]:
        return (self.template,) * self.config.number

    @property
    def positions(self) -> tuple[str, ...]:
        each = self.config.number // SHARE
        return ("front",) * each + ("middle",) * each + ("end",) * (self.config.number - 2 * each)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        def at(layer: int, readout: Readout) -> Tensor:
            contexts, classes = self.text_prompts["0"], readout.total // self.config.number
            if readout.samples is None:
                return contexts.repeat_interleave(classes, dim=0)
            return contexts[readout.samples // classes]

        return TowerPrompts(self.text_slots, 1, at)


METHOD = declare(
    Method(
        "ProDA",
        summary="32 contexts, whose sentences of a class are samples of a distribution of its features",
        node="ProDA",
        config=ProDAConfig,
        learner=ProDALearner,
        recipes=Recipes("vit_b16_c2_e100_ctx16_warmup5_BZ64_ProDA"),
        objective="prompt_distribution",
        layout=PublishedLayout(
            renames=((r"prompt_learner\.ctx", lambda: "text_prompts.0"),),
            marker=r"prompt_learner\.nc_token_prefix",
            unused={r"prompt_learner\.nc_token_(prefix|suffix)": "tokens of sentences without a class name"},
        ),
        needs_vit=False,
        venue="CVPR 2022",
        arxiv="2205.03340",
    )
)
