"""DeKg's objective: class features near those of hand-written sentences, but independent of them over the classes.

Li et al., "Divergence-enhanced Knowledge-guided Context Optimization for Visual-Language Prompt Tuning", ICLR 2025. It
trains any learner. It adds to KgCoOp's objective the Hilbert-Schmidt independence criterion (HSIC), of linear kernels.

Differences from the authors' code: those of KgCoOp (`knowledge_guidance.py`); the criterion is computed in fp32
(theirs: in the type of the towers, fp16); the default weight is 6, as in their script (their `train.py`: 1). Their
second method, DeKg_TCP, gives it features that are not normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.prompted_clip import PromptedCLIP
from ..declaration import MOST_WEIGHT, Recipes, setting
from . import knowledge_guidance
from .objective import register_objective


def centred(features: Tensor) -> Tensor:
    """H V, with the features `[..., classes, embed]` divided by their Frobenius norm, and H = I - 11^T / classes."""
    features = features / torch.linalg.matrix_norm(features, keepdim=True)
    return features - features.mean(dim=-2, keepdim=True)


def dependence(features: Tensor, teacher: Tensor) -> Tensor:
    """HSIC of class features and a teacher's: a scalar, the mean over a batch where features have one.

    trace(H K H L) with K = G G^T and L = V V^T, where G and V are the features over their Frobenius norms. H is a
    projection, so that this is the squared norm of (H V)^T G.

    Args:
        features: `[..., classes, embed]`.
        teacher: `centred`, `[classes, embed]`.
    """
    normalised = features / torch.linalg.matrix_norm(features, keepdim=True)
    return (teacher.t() @ normalised).square().sum(dim=(-2, -1)).mean()


@dataclass(frozen=True)
class KnowledgeIndependenceConfig(knowledge_guidance.KnowledgeGuidanceConfig):
    """Settings of both terms."""

    independence: float = setting(
        6.0,
        "LOSS.WEIGHT",
        "DeKg's weight of the dependence of class features on those of hand-written sentences",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )


@register_objective
class KnowledgeIndependence(knowledge_guidance.KnowledgeGuidance):
    """Cross-entropy; KgCoOp's distance from hand-written sentences; dependence on them (HSIC)."""

    name = "knowledge_independence"
    summary = (
        "+ cosine distance of class features from the frozen CLIP's of the data set's hand-written sentence, "
        "+ dependence on them (HSIC)"
    )
    Config = KnowledgeIndependenceConfig
    recordable = True
    venue, arxiv = "ICLR 2025", ""

    teacher_centred: Tensor  # [classes, embed] in fp32; `prepare` makes it

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        super().prepare(model, classnames)
        self.teacher_centred = centred(self.teacher_text)

    def guidance(self, class_features: Tensor) -> dict[str, Tensor]:
        hsic = dependence(class_features, self.teacher_centred)
        return {**super().guidance(class_features), "loss_dependence": self.config.independence * hsic}


METHOD = knowledge_guidance.METHOD.trained_by(
    KnowledgeIndependence,
    "DeKg",
    summary="CoOp's context tokens, as KgCoOp's, which make class features independent of the hand-written ones",
    recipes=Recipes("vit_b16_ep100_ctxv1"),
    venue=KnowledgeIndependence.venue,
    arxiv=KnowledgeIndependence.arxiv,
)
