"""KgCoOp's objective: class features that stay near those of hand-written sentences.

Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023, arXiv 2303.13283. It
trains any learner.

The paper's term is the mean squared distance of unit vectors, 2 (1 - mean cosine). The authors' code has 1 - mean
cosine; so has this module, and the published weight means the same.

Differences from the authors' code: the sentences are CoOp's, with "{} texture." for DescribableTextures (theirs: "a
photo of a {}, a type of texture."); the teacher computes in the precision of the towers (theirs: always in half
precision); PREC amp works (theirs: an error); the default weight is 8, as in their script (their `train.py`: 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..core.prompted_clip import PromptedCLIP
from ..core.templates import template_of
from ..declaration import MOST_WEIGHT, Recipes, Settings, setting
from ..learners import coop
from .objective import (
    Loss,
    Objective,
    cosine_distance,
    frozen_class_features,
    register_objective,
)


@dataclass(frozen=True)
class KnowledgeGuidanceConfig(Settings):
    """Settings of the distance to the hand-written sentences."""

    weight: float = setting(
        8.0,
        "TRAINER.COOP.W",
        "KgCoOp's weight of the distance from the frozen CLIP's features of hand-written sentences",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )


@register_objective
class KnowledgeGuidance(Objective):
    """Cross-entropy; cosine distance of class features from the frozen CLIP's of the data set's sentence."""

    name = "knowledge_guidance"
    summary = "+ cosine distance of class features from the frozen CLIP's of the data set's hand-written sentence"
    Config = KnowledgeGuidanceConfig
    recordable = True
    venue, arxiv = "CVPR 2023", "2303.13283"

    teacher_text: Tensor  # normalised, [classes, embed] in fp32; `prepare` makes it

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        self.teacher_text = frozen_class_features(model, template_of(self.run.dataset), classnames)

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features, class_features = model.features(views[0])
        logits = model.logits(image_features, class_features)
        terms = {"loss_ce": F.cross_entropy(logits, labels), **self.guidance(class_features)}
        return Loss(sum(terms.values()), logits, terms)

    def guidance(self, class_features: Tensor) -> dict[str, Tensor]:
        """Weighted terms of normalised class features, `[..., classes, embed]`, by name."""
        return {"loss_text": self.config.weight * cosine_distance(class_features, self.teacher_text)}


# Tensors in the authors' file that their model never reads.
UNUSED = {r"bias_vectors|meta_net\..+": "parts that take no part in the authors' model either"}

METHOD = coop.METHOD.trained_by(
    KnowledgeGuidance,
    "KgCoOp",
    summary="CoOp's context tokens, which keep class features near those of hand-written sentences",
    recipes=Recipes("vit_b16_ep100_ctxv1"),
    layout=dataclasses.replace(coop.LAYOUT, unused=UNUSED),
    venue=KnowledgeGuidance.venue,
    arxiv=KnowledgeGuidance.arxiv,
)
