"""HiCroPL's objective: features that are mixed with the frozen CLIP's, and stay near them.

Zheng et al., "Hierarchical Cross-modal Prompt Learning for Vision-Language Models", ICCV 2025, arXiv 2507.14976. It
trains any learner; training and tests classify by the mixed features.

Differences from the authors' code: the image teacher is the backbone itself, as in their recipes (their default is
ViT-L/14, whose features are too wide for a ViT-B/16); data sets without descriptions are described by their sentence;
the default weight is 12, as in their recipes (their `train.py`: 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP
from ..declaration import MOST_WEIGHT, Settings, setting
from .descriptions import check_lengths, describe, descriptions_setting, find_descriptions
from .objective import (
    SENTENCES_TOGETHER,
    Loss,
    Objective,
    cosine_distance,
    encode_in_steps,
    frozen_image_features,
    in_fp32,
    register_objective,
)


@dataclass(frozen=True)
class AnchoringConfig(Settings):
    """Settings of the distances to the teachers."""

    weight: float = setting(
        12.0,
        "TRAINER.HICROPL.LAMBD",
        "HiCroPL's weight of the distances to the frozen CLIP's features",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    descriptions: str = descriptions_setting()


@register_objective
class Anchoring(Objective):
    """Cross-entropy of features mixed with the frozen CLIP's, and cosine distances of the mixed features from those.

    The frozen CLIP sees the same augmented image. Its feature of a class is the mean over the class's descriptions.
    """

    name = "anchoring"
    summary = (
        "features are the normalised sums of prompted and frozen ones, in tests too; + cosine distances of the sums "
        "from the frozen CLIP's features of the image and of descriptions of the class"
    )
    Config = AnchoringConfig
    recordable = True
    mixes_features = True
    venue, arxiv = "ICCV 2025", "2507.14976"

    def describe(self, classnames: Sequence[str]) -> Sequence[Sequence[str]]:
        """The sentences about each class."""
        return describe(self.run.dataset, self.config.descriptions, classnames)

    def check_training(self) -> None:
        find_descriptions(self.run.dataset, self.config.descriptions)

    def extend(self, learner: PromptLearner, clip_model: nn.Module) -> None:
        learner.anchors = self.encode_classes

    def encode_classes(self, clip_model: nn.Module, classnames: Sequence[str]) -> Tensor:
        """Each class's mean of the normalised features of its descriptions, normalised: `[classes, embed]` in fp32."""
        by_class = self.describe(classnames)
        check_lengths(classnames, by_class, clip_model)
        sentences = [sentence for described in by_class for sentence in described]
        encoded = torch.cat(list(encode_in_steps(in_fp32(clip_model), sentences, SENTENCES_TOGETHER)))
        features = F.normalize(encoded, dim=-1).split([len(described) for described in by_class])
        return F.normalize(torch.stack([rows.mean(dim=0) for rows in features]), dim=-1)

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        # They must be there before a step is recorded.
        model.class_anchors()

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        teacher_image, teacher_text = frozen_image_features(model, views[0]), model.class_anchors()
        image_features, class_features = model.features(views[0], teacher_image)
        logits = model.logits(image_features, class_features)
        terms = {
            "loss_ce": F.cross_entropy(logits, labels),
            "loss_text": self.config.weight * cosine_distance(class_features, teacher_text),
            "loss_image": self.config.weight * cosine_distance(image_features, teacher_image),
        }
        return Loss(sum(terms.values()), logits, terms)
