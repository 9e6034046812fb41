"""The evaluator: collects predictions batch by batch, then prints and returns the result.

Differences from upstream: all results are Python floats; an evaluation without samples is an error that says so; there
are no results per class and no confusion matrix.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from sklearn.metrics import f1_score

from .utils import check_availability

if TYPE_CHECKING:
    from yacs.config import CfgNode


def build_evaluator(cfg: CfgNode) -> Classification:
    """Build the evaluator that ``cfg.TEST.EVALUATOR`` names; ``Classification`` is the only one."""
    name = cfg.TEST.EVALUATOR
    check_availability(name, [Classification.__name__], "TEST.EVALUATOR")
    if cfg.VERBOSE:
        print(f"Loading evaluator: {name}")
    return Classification()


class Classification:
    """Accuracy, error and macro F1. A trainer calls ``reset``, ``process`` for every batch, and ``evaluate``."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._correct = self._total = 0
        self._y_true, self._y_pred = [], []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add scores ``mo`` [batch, num_classes] and labels ``gt`` [batch]."""
        pred = mo.max(dim=1).indices
        self._correct += int(pred.eq(gt).sum())
        self._total += gt.shape[0]
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(pred.tolist())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return ``accuracy``, which selects the best model, ``error_rate`` and ``macro_f1``, in percent.

        Macro F1 averages over the labels in the ground truth. Without samples it is a ``ValueError``.
        """
        if self._total == 0:
            raise ValueError("there is nothing to evaluate: no sample was processed, so the data loader was empty")
        accuracy = 100.0 * self._correct / self._total
        macro_f1 = 100.0 * f1_score(self._y_true, self._y_pred, average="macro", labels=sorted(set(self._y_true)))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=float(macro_f1))
        print(f"=> result\n* total: {self._total:,}\n* correct: {self._correct:,}")
        print(f"* accuracy: {accuracy:.1f}%\n* error: {100.0 - accuracy:.1f}%\n* macro_f1: {macro_f1:.1f}%")
        return results
