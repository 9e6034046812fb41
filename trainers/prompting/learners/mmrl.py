"""MMRL: tokens of a space that both modalities share enter the upper layers, and give images a second feature.

Guo and Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025, arXiv 2503.08497. A map
for each layer and tower makes the layer's tokens out of the space's. The second feature of an image comes from what
the last layer leaves in the slots. Classes of the training are tested by both features, others by the first alone, so
a test has to know which they are.

Differences from the authors' code: logits are scaled by the checkpoint's own scale (theirs: 100, which is OpenAI's);
the settings of each data set are recipes, and the command line overrules them; a test takes each class's features by
the record of the training, not by a key TASK, and so does one of base and new classes together (theirs: the first
feature for all).
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.design import design_of
from ..core.layout import PublishedLayout
from ..core.learner import INIT_STD, PromptLearner, Readout, TowerPrompts, check_depth
from ..core.templates import template_of
from ..declaration import Method, Recipes, Settings, declare, setting
from ..errors import SettingError

FUSES = ("learned", "always", "never")
MOST_SHARED, MOST_WIDTH = 100, 10_000  # tokens of the shared space, and their width


@dataclass(frozen=True)
class MMRLConfig(Settings):
    """Settings of the learner; layers count from 1, as in the authors' code."""

    length: int = setting(
        5,
        "N_REP_TOKENS",
        "tokens of the shared space",
        least=1,
        most=MOST_SHARED,
        told_by=lambda state_dict: len(state_dict.get("shared_tokens", ())),
    )
    width: int = setting(
        512,
        "REP_DIM",
        "width of the shared space",
        least=1,
        most=MOST_WIDTH,
        told_by=lambda state_dict: state_dict["shared_tokens"].shape[1] if "shared_tokens" in state_dict else 0,
    )
    layers: tuple = setting(
        (6, 7, 8, 9, 10, 11, 12), "REP_LAYERS", "layers that tokens enter, from 1, but not the first", least=2
    )
    share: float = setting(
        0.7,
        "ALPHA",
        "share of the image's first feature in loss and logits; the rest is the second's",
        least=0.0,
        most=1.0,
    )
    fuses: str = setting(
        "learned",
        "FUSES",
        "which classes are tested by both features: learned (the training's), always (all), never (none)",
        choices=FUSES,
    )
    sentence: str = setting("a photo of a {}.", "", "sentence of a class, with {} for its name")

    def check(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise self.error("{layers} is {}; set it to one or more layers in order.", list(self.layers))

    def for_dataset(self, dataset: str) -> MMRLConfig:
        return dataclasses.replace(self, sentence=template_of(dataset))


class MMRLLearner(PromptLearner):
    """The space's tokens, a map to each layer of each tower, and the projection of the second image feature.

    Attributes:
        shared_tokens: `[b, r]`.
        text_maps, vision_maps: linear, for each of the layers in order, from r to the tower's width.
        projection: `[d_v, embed]`.

    Raises:
        InputError: a layer beyond the towers; a CLIP that pools the tokens of images.
    """

    recordable = True
    inference = "an image has two features: classes of the training are tested by both, others by the first alone"

    def __init__(self, config: MMRLConfig, clip_model: nn.Module):
        super().__init__()
        if design_of(clip_model).pooled is not None:
            raise SettingError(
                "{backbone} pools the tokens of images, but MMRL's second feature needs a class token's "
                "projection; set {backbone} to one that has it."
            )
        self.vision_depth = vision_depth(clip_model)
        check_depth("layers", config.layers[-1], min(text_depth(clip_model), self.vision_depth))
        self.config = config
        self.template, self.class_share, self.fuses = config.sentence, config.share, config.fuses
        self.shared_tokens = nn.Parameter(torch.empty(config.length, config.width).normal_(std=INIT_STD))
        self.vision_maps = self.maps(vision_width(clip_model))
        self.text_maps = self.maps(text_width(clip_model))
        self.add_projection(*clip_model.visual.proj.shape)

    def maps(self, width: int) -> nn.ModuleList:
        """Maps to the layers of a tower of this width, which start as copies of one."""
        first = nn.Linear(self.config.width, width)
        return nn.ModuleList(copy.deepcopy(first) for _ in self.config.layers)

    def add_projection(self, width: int, embed: int) -> None:
        """Make what maps slots `[width]` of images to features."""
        self.projection = nn.Parameter(torch.empty(width, embed).normal_(std=width**-0.5))

    @property
    def trains_text(self) -> bool:
        return True

    def slot_projection(self, projection: Tensor) -> Tensor:
        return self.projection

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        return self._tower(self.text_maps, self.config.layers[-1])

    def vision(self) -> TowerPrompts:
        return self._tower(self.vision_maps, self.vision_depth)

    def _tower(self, maps: nn.ModuleList, depth: int) -> TowerPrompts:
        """The tokens of a tower; layers between and after those of the settings keep what they find."""
        numbers = {layer - 1: number for number, layer in enumerate(self.config.layers)}

        def at(layer: int, readout: Readout) -> Tensor | None:
            return self.entering(maps[numbers[layer]](self.shared_tokens), readout) if layer in numbers else None

        return TowerPrompts(self.config.length, depth, at, first=min(numbers))

    def entering(self, tokens: Tensor, readout: Readout) -> Tensor:
        """What enters a layer whose map gives these tokens, `[b, width]`."""
        return tokens


MODALITIES = {"t": "text", "v": "vision"}
CLASS_TOKENS = {"prompt_embeddings": "tokens of the class names, which are rebuilt"}


def few_shot_recipe(dataset: str, shots: int) -> str:
    """That of base-to-new on ImageNet, and another one elsewhere."""
    return "vit_b16_imagenet" if dataset == "imagenet" else "vit_b16_few_shot"


RECIPES = Recipes("vit_b16", cross_dataset="vit_b16_cross_datasets", few_shot=few_shot_recipe)
FOLDER = "MultiModalRepresentationLearner"

METHOD = declare(
    Method(
        "MMRL",
        summary="tokens of a space that both towers share, mapped into their upper layers, and a second image feature",
        node="MMRL",
        config=MMRLConfig,
        learner=MMRLLearner,
        recipes=RECIPES,
        objective="alignment",
        layout=PublishedLayout(
            renames=(
                (r"representation_learner\.compound_rep_tokens", lambda: "shared_tokens"),
                (
                    r"representation_learner\.compound_rep_tokens_r2([tv])proj\.(\d+\.(?:weight|bias))",
                    lambda tower, rest: f"{MODALITIES[tower]}_maps.{rest}",
                ),
                (r"image_encoder\.proj_rep", lambda: "projection"),
            ),
            marker=r"representation_learner\.compound_rep_tokens_r2vproj\..+",
            unused=CLASS_TOKENS,
        ),
        folder=FOLDER,
        venue="CVPR 2025",
        arxiv="2503.08497",
    )
)
