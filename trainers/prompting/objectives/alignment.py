"""MMRL's objective: all features of an image classify; the first, and those of classes, stay near the frozen CLIP's.

Guo and Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025, arXiv 2503.08497. It
trains any learner; images of most have one feature. MMRL++ (`learners/mmrlpp.py`) has the same, with a key in its own
node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..core.prompted_clip import PromptedCLIP
from ..core.templates import template_of
from ..declaration import MOST_WEIGHT, Method, Settings, changed, declare, setting
from ..learners.mmrl import FOLDER, RECIPES
from ..learners.mmrlpp import LAYOUT, MMRLppConfig, MMRLppLearner
from .objective import (
    Loss,
    Objective,
    cosine_distance,
    frozen_class_features,
    frozen_image_features,
    register_objective,
)


@dataclass(frozen=True)
class AlignmentConfig(Settings):
    """Settings of the distances to the frozen CLIP."""

    weight: float = setting(
        1.0,
        "TRAINER.MMRL.REG_WEIGHT",
        "MMRL's weight of the distances to the frozen CLIP's features",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )


@dataclass(frozen=True)
class MMRLppAlignmentConfig(AlignmentConfig):
    """The same, as MMRL++ has them."""

    weight: float = changed(AlignmentConfig, "weight", 1.0, key="TRAINER.MMRLpp.REG_WEIGHT")


@register_objective
class Alignment(Objective):
    """Cross-entropy of each feature of an image by its share; cosine distances to the frozen CLIP.

    The distances are those of the image's first feature from the frozen CLIP's of the same augmented image, and of the
    class features from the frozen CLIP's of the data set's sentence.
    """

    name = "alignment"
    summary = (
        "+ cosine distances of image features from the frozen CLIP's, and of class features from those of the data "
        "set's sentence; of two features of an image each has a cross-entropy, and the second no distance"
    )
    Config = AlignmentConfig
    recordable = True
    venue, arxiv = "CVPR 2025", "2503.08497"

    teacher_text: Tensor  # normalised, [classes, embed] in fp32; `prepare` makes it

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        self.teacher_text = frozen_class_features(model, template_of(self.run.dataset), classnames)

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        teacher_image = frozen_image_features(model, views[0])
        several, class_features = model.all_features(views[0], teacher_image)
        of_each = [F.cross_entropy(model.logits(one, class_features), labels) for one in several]
        terms = {
            "loss_ce": sum(share * one for share, one in zip(model.shares(len(several)), of_each)),
            "loss_text": self.config.weight * cosine_distance(class_features, self.teacher_text),
            "loss_image": self.config.weight * cosine_distance(several[0], teacher_image),
        }
        return Loss(sum(terms.values()), model.logits(model.fused(several), class_features), terms)


METHOD = declare(
    Method(
        "MMRLpp",
        shown="MMRL++",
        summary="MMRL's tokens, which go on from layer to layer, by maps that share a matrix, and its second feature",
        node="MMRLpp",
        config=MMRLppConfig,
        learner=MMRLppLearner,
        recipes=RECIPES,
        objective=Alignment.name,
        objective_config=MMRLppAlignmentConfig,
        layout=LAYOUT,
        folder=FOLDER,
        venue="IJCV 2026",
        arxiv="2505.10088",
    )
)
