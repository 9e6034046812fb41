"""Cross-entropy, the objective of most methods."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from ..core.prompted_clip import PromptedCLIP
from ..declaration import CROSS_ENTROPY
from .objective import Loss, Objective, register_objective


@register_objective
class CrossEntropy(Objective):
    """Cross-entropy of the labels under the softmax over all classes."""

    name = CROSS_ENTROPY
    summary = "cross-entropy of the labels"
    recordable = True

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        logits = model(views[0])
        return Loss(F.cross_entropy(logits, labels), logits, {})
