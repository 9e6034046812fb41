"""Metrics, in per cent, of one pass over images of all classes by a model trained on some of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .harmonic import harmonic_mean


def openworld_auc(base_scores: Tensor, base_correct: Tensor, new_scores: Tensor, new_correct: Tensor) -> float:
    """OpenworldAUC (Hua et al., ICML 2025, arXiv 2505.05180).

    The share of pairs of a base and a new image in which the base image has the higher score and both are classified
    correctly among their own classes; pairs of equal scores count half.

    Args:
        base_scores, new_scores: `[images]`, score of each image as one of a base class.
        base_correct, new_correct: `[images]` bool, classified correctly among the base or the new classes.
    """
    base, new = base_scores[base_correct], new_scores[new_correct].sort().values
    below = torch.searchsorted(new, base, side="left") + torch.searchsorted(new, base, side="right")
    return 100 * below.double().sum().item() / 2 / (len(base_scores) * len(new_scores))


@dataclass
class OpenWorld:
    """Collects predictions batch by batch.

    Attributes:
        is_base: `[classes]` bool, True for learned classes; the others are new.
    """

    is_base: Tensor
    base: list[Tensor] = field(default_factory=list)
    new: list[Tensor] = field(default_factory=list)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Logits `[batch, classes]` over all classes, labels `[batch]`."""
        logits, is_base = logits.double(), self.is_base.to(logits.device)
        of_base, of_new = (logits.masked_fill(~side, -torch.inf) for side in (is_base, ~is_base))
        among_base, among_new = (side.argmax(dim=1) == labels for side in (of_base, of_new))
        overall = logits.argmax(dim=1) == labels
        score = of_base.amax(dim=1) - logits.logsumexp(dim=1)
        image_is_base = is_base[labels]
        for kept, chosen, among in ((self.base, image_is_base, among_base), (self.new, ~image_is_base, among_new)):
            kept.append(torch.stack([among, overall, score], dim=1)[chosen].cpu())

    def results(self) -> dict[str, float] | None:
        """None without base or without new images; otherwise

        base, new: accuracy of these images among their own classes alone.
        HM: harmonic mean of the two.
        accuracy: of all images among all classes (open-world accuracy). base_among_all, new_among_all: its parts.
        openworld_auc: the score is the largest probability of a base class in the softmax over all classes.
        """
        if not any(map(len, self.base)) or not any(map(len, self.new)):
            return None
        base, new = torch.cat(self.base), torch.cat(self.new)
        accuracies = [100 * part[:, :2].mean(dim=0) for part in (base, new)]
        (base_accuracy, base_overall), (new_accuracy, new_overall) = (pair.tolist() for pair in accuracies)
        return {
            "base": base_accuracy,
            "new": new_accuracy,
            "HM": harmonic_mean(base_accuracy, new_accuracy),
            "accuracy": 100 * torch.cat([base, new])[:, 1].mean().item(),
            "base_among_all": base_overall,
            "new_among_all": new_overall,
            "openworld_auc": openworld_auc(base[:, 2], base[:, 0].bool(), new[:, 2], new[:, 0].bool()),
        }
