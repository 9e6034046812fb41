"""TCP: context tokens, and tokens out of each class's own features, which replace them in an upper layer.

Yao et al., "TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model", CVPR 2024, arXiv 2311.18231. A
small network maps the frozen CLIP's features of a class's hand-written sentence to the class's tokens. KgCoOp's
objective trains it, with the weight 8 that stands in the authors' code.

Differences from the authors' code: the hand-written sentences are CoOp's (theirs differ on FGVCAircraft, Food101 and
DescribableTextures); the number of tokens and the layer are settings (theirs: 4, and the ninth).
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.clip_weights import text_depth, text_width
from ..core.layout import PublishedLayout
from ..core.learner import Readout, TowerPrompts, check_depth
from ..core.openai_clip import QuickGELU
from ..core.templates import template_of
from ..declaration import Method, Recipes, declare, setting
from .coop import CoOpConfig, CoOpLearner

# Width of the network's input over that of its hidden layer.
REDUCTION = 4
# The layer after this share of the tower gets the classes' tokens: the ninth of twelve.
SHARE = 2, 3
# Words after the context, by data set, where they are more than the name and a full stop.
ENDINGS = {
    "OxfordPets": "{}, a type of pet.",
    "OxfordFlowers": "{}, a type of flower.",
    "FGVCAircraft": "{}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "StanfordCars": "{}, a type of car",
    "Food101": "{}, a type of food.",
    "UCF101": "person doing {}.",
}


@dataclass(frozen=True)
class TCPConfig(CoOpConfig):
    """CoOp's settings with one context for all classes, before the class name, and those of the classes' tokens."""

    class_specific: bool = False
    position: str = "end"
    class_layer: int = setting(
        0, "CLASS_LAYER", "TCP's layer that the classes' tokens enter, from 1; 0: after two thirds of all", least=0
    )
    sentence: str = setting("a photo of a {}.", "", "hand-written sentence of a class, with {} for its name")
    ending: str = setting("{}.", "", "words after the context, with {} for the name of a class")

    def check(self) -> None:
        super().check()
        if self.class_layer == 1:
            raise self.error("{class_layer} is 1, which the context enters; set it to 0, or to 2 or more.")

    def for_dataset(self, dataset: str) -> TCPConfig:
        return dataclasses.replace(self, sentence=template_of(dataset), ending=ENDINGS.get(dataset, "{}."))


class TCPLearner(CoOpLearner):
    """Context tokens, and a network that maps the class features to tokens that replace them.

    Attributes:
        text_prompts: for layer 0, `[b, d_t]`.
        meta_net: `Linear(embed, embed // 4), QuickGELU, Linear(embed // 4, b d_t)`.

    Raises:
        InputError: a layer beyond the tower.
    """

    recordable = True

    def __init__(self, config: TCPConfig, clip_model: nn.Module):
        super().__init__(config, clip_model)
        layers = text_depth(clip_model)
        check_depth("class_layer", config.class_layer, layers)
        self.class_layer = config.class_layer - 1 if config.class_layer else max(1, layers * SHARE[0] // SHARE[1])
        self.class_sentence = config.sentence
        self.template = f"{' '.join(['X'] * config.slots)} {config.ending}"
        embed = clip_model.text_projection.shape[1]
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(embed, embed // REDUCTION),
                relu=QuickGELU(),
                linear2=nn.Linear(embed // REDUCTION, config.slots * text_width(clip_model)),
            )
        )

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        of_classes = self.meta_net(self.class_features).unflatten(-1, (self.text_slots, -1))

        def at(layer: int, readout: Readout) -> Tensor | None:
            if layer == 0:
                return self.text_prompts["0"]
            if layer < self.class_layer:
                return None
            return of_classes if readout.samples is None else of_classes[readout.samples]

        return TowerPrompts(self.text_slots, 1 + self.class_layer, at)


METHOD = declare(
    Method(
        "TCP",
        summary="context tokens, and a network that makes each class's tokens in an upper layer of its own features",
        node="COOP",
        config=TCPConfig,
        learner=TCPLearner,
        recipes=Recipes("vit_b16_ep100_ctxv1"),
        objective="knowledge_guidance",
        layout=PublishedLayout(
            renames=((r"ctx", lambda: "text_prompts.0"), (r"(meta_net\..+)", lambda key: key)), marker="ctx"
        ),
        needs_vit=False,
        venue="CVPR 2024",
        arxiv="2311.18231",
    )
)
