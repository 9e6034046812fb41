"""Metrics, in per cent, of one pass over images of all classes by a model trained on some of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .harmonic import harmonic_mean

BINS = 15  # of the expected calibration error, as in the literature on prompts


def auroc(base_scores: Tensor, new_scores: Tensor) -> float:
    """Area under the ROC curve of base against new images, in per cent.

    It is the share of pairs of a base and a new image in which the base image has the higher score; pairs of equal
    scores count half.

    Args:
        base_scores, new_scores: `[images]`, score of each image as one of a base class.
    """
    return 100 * _pairs_in_order(base_scores, new_scores) / (len(base_scores) * len(new_scores))


def openworld_auc(base_scores: Tensor, base_correct: Tensor, new_scores: Tensor, new_correct: Tensor) -> float:
    """OpenworldAUC (Hua et al., ICML 2025, arXiv 2505.05180).

    The share of pairs of a base and a new image in which the base image has the higher score and both are classified
    correctly among their own classes; pairs of equal scores count half.

    Args:
        base_scores, new_scores: `[images]`, score of each image as one of a base class.
        base_correct, new_correct: `[images]` bool, classified correctly among the base or the new classes.
    """
    in_order = _pairs_in_order(base_scores[base_correct], new_scores[new_correct])
    return 100 * in_order / (len(base_scores) * len(new_scores))


def _pairs_in_order(base_scores: Tensor, new_scores: Tensor) -> float:
    """The number of pairs in which the base image has the higher score, with half of those of equal scores."""
    base, new = base_scores.contiguous(), new_scores.sort().values
    below = torch.searchsorted(new, base, side="left") + torch.searchsorted(new, base, side="right")
    return below.double().sum().item() / 2


def expected_calibration_error(confidences: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017, Eq. 3), in per cent.

    Images are put into `bins` bins of equal width by the probability of the predicted class, bin b holding those in
    (b / bins, (b + 1) / bins]. The error is the mean over images of the absolute difference between the accuracy and
    the mean probability of their bin.

    Args:
        confidences: `[images]`, probability of the predicted class.
        correct: `[images]` bool, whether that is the label.
    """
    # A probability of 0 belongs to the first bin.
    confidences = confidences.double()
    index = (confidences * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.bincount(index, weights=correct.double() - confidences, minlength=bins)
    return 100 * gaps.abs().sum().item() / len(confidences)


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
        image_is_base, normalizer = is_base[labels], logits.logsumexp(dim=1)
        score = logits.masked_fill(~is_base, -torch.inf).amax(dim=1) - normalizer
        overall = logits.argmax(dim=1) == labels
        confidence = (logits.amax(dim=1) - normalizer).exp()
        for kept, chosen, side in ((self.base, image_is_base, is_base), (self.new, ~image_is_base, ~is_base)):
            own = logits.masked_fill(~side, -torch.inf)
            among, own_confidence = own.argmax(dim=1) == labels, own.softmax(dim=1).amax(dim=1)
            kept.append(torch.stack([among, overall, score, own_confidence, confidence], dim=1)[chosen].cpu())

    def results(self) -> dict[str, float] | None:
        """None without base or without new images; otherwise

        base, new: accuracy of these images among their own classes alone.
        HM: harmonic mean of the two.
        accuracy: of all images among all classes (open-world accuracy). base_among_all, new_among_all: its parts.
        openworld_auc: the score is the largest probability of a base class in the softmax over all classes.
        auroc: of the same score, so that it is at least `openworld_auc`, which also wants the classes right.
        auroc_msp: as in the code of BMIP's authors: the score is the largest probability of any class.
        ece_base, ece_new: expected calibration error of these images, with the softmax over their own classes alone.
        ece_all: of all images, with the softmax over all classes.
        """
        if not any(map(len, self.base)) or not any(map(len, self.new)):
            return None
        base, new = torch.cat(self.base), torch.cat(self.new)
        both = torch.cat([base, new])
        accuracies = [100 * part[:, :2].mean(dim=0) for part in (base, new)]
        (base_accuracy, base_overall), (new_accuracy, new_overall) = (pair.tolist() for pair in accuracies)
        return {
            "base": base_accuracy,
            "new": new_accuracy,
            "HM": harmonic_mean(base_accuracy, new_accuracy),
            "accuracy": 100 * both[:, 1].mean().item(),
            "base_among_all": base_overall,
            "new_among_all": new_overall,
            "openworld_auc": openworld_auc(base[:, 2], base[:, 0].bool(), new[:, 2], new[:, 0].bool()),
            "auroc": auroc(base[:, 2], new[:, 2]),
            "auroc_msp": auroc(base[:, 4], new[:, 4]),
            "ece_base": expected_calibration_error(base[:, 3], base[:, 0]),
            "ece_new": expected_calibration_error(new[:, 3], new[:, 0]),
            "ece_all": expected_calibration_error(both[:, 4], both[:, 1]),
        }
