"""CoCoOp: context words that a small network shifts for each image (Zhou et al., CVPR 2022, arXiv 2203.05557)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.clip_weights import text_width
from ..core.layout import PublishedLayout
from ..core.learner import TowerPrompts
from ..declaration import Method, Recipes, declare
from .coop import CoOpConfig, CoOpLearner

# Width of the network's input over that of its hidden layer (paper, Section 3.2).
REDUCTION = 16


@dataclass(frozen=True)
class CoCoOpConfig(CoOpConfig):
    """CoOp's settings with one context for all classes, in front of the class name."""

    class_specific: bool = False
    position: str = "end"


class CoCoOpLearner(CoOpLearner):
    """Context tokens, and a network that maps an image to a common shift of all tokens.

    Attributes:
        text_prompts: for layer 0, `[b, d_t]`.
        meta_net: `Linear(embed, embed // 16), ReLU, Linear(embed // 16, d_t)` on the normalised image feature.
    """

    conditional = True
    recordable = True

    def __init__(self, config: CoCoOpConfig, clip_model: nn.Module):
        super().__init__(config, clip_model)
        embed = clip_model.text_projection.shape[1]
        hidden = max(1, embed // REDUCTION)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed, hidden),
                relu=nn.ReLU(),
                linear2=nn.Linear(hidden, text_width(clip_model)),
            )
        )

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        shift = self.meta_net(image_features)[:, None]
        return TowerPrompts(self.text_slots, 1, lambda layer, readout: self.text_prompts["0"] + shift)


LAYOUT = PublishedLayout(
    renames=((r"ctx", lambda: "text_prompts.0"), (r"(meta_net\..+)", lambda key: key)), marker="ctx"
)

METHOD = declare(
    Method(
        "CoCoOp",
        summary="context tokens, and a small network that shifts them for each image",
        node="COCOOP",
        config=CoCoOpConfig,
        learner=CoCoOpLearner,
        recipes=Recipes("vit_b16_c4_ep10_batch1_ctxv1"),
        layout=LAYOUT,
        needs_vit=False,
        venue="CVPR 2022",
        arxiv="2203.05557",
    )
)
