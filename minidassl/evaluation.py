"""Evaluators: collect predictions batch by batch, then print and return the result.

Differences from upstream: all results are Python floats; the confusion matrix is saved as a tensor, which
``torch.load`` reads with its safe default, and not as a NumPy array; an evaluation without any sample says so.
"""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

import torch
from sklearn.metrics import confusion_matrix, f1_score

from .utils import Registry, check_availability, mkdir_if_missing

if TYPE_CHECKING:
    from yacs.config import CfgNode

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> EvaluatorBase:
    """Build the evaluator that ``cfg.TEST.EVALUATOR`` names; ``kwargs`` (``lab2cname``) go to its constructor."""
    name = cfg.TEST.EVALUATOR
    check_availability(name, EVALUATOR_REGISTRY.registered_names(), "TEST.EVALUATOR")
    if cfg.VERBOSE:
        print(f"Loading evaluator: {name}")
    return EVALUATOR_REGISTRY.get(name)(cfg, **kwargs)


class EvaluatorBase:
    """What a trainer calls: ``reset``, ``process`` for every batch, ``evaluate``."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all samples."""
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Take in one batch of model outputs and ground truths."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return the results; the first value is the one that decides which model is best."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error, macro F1, and on request accuracy per class and the confusion matrix.

    Args:
        cfg: ``TEST.PER_CLASS_RESULT``, ``TEST.COMPUTE_CMAT`` and ``OUTPUT_DIR`` are read.
        lab2cname: class name of every label; needed for per-class results.

    Raises:
        ValueError: per-class results without ``lab2cname``.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT needs the class names: build the evaluator with lab2cname=...")
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._correct = 0
        self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Take in one batch.

        Args:
            mo: scores [batch, num_classes].
            gt: labels [batch].
        """
        pred = mo.max(dim=1).indices
        self._correct += int(pred.eq(gt).sum().item())
        self._total += gt.shape[0]
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(pred.tolist())

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block and return it.

        Returns:
            ``accuracy``, ``error_rate``, ``macro_f1`` and, on request, ``perclass_accuracy``, all in percent. Macro F1
            averages over the labels that occur in the ground truth.

        Raises:
            ValueError: no sample has been processed.
        """
        if self._total == 0:
            raise ValueError("there is nothing to evaluate: no sample was processed, so the data loader was empty")
        accuracy = 100.0 * self._correct / self._total
        macro_f1 = 100.0 * f1_score(self._y_true, self._y_pred, average="macro", labels=sorted(set(self._y_true)))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=float(macro_f1))
        print("=> result")
        print(f"* total: {self._total:,}")
        print(f"* correct: {self._correct:,}")
        print(f"* accuracy: {accuracy:.1f}%")
        print(f"* error: {results['error_rate']:.1f}%")
        print(f"* macro_f1: {macro_f1:.1f}%")
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._report_classes()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        return results

    def _report_classes(self) -> float:
        """Print one line per label that occurs, ascending; return the unweighted mean of their accuracies."""
        hits: dict[int, list[bool]] = defaultdict(list)
        for true, predicted in zip(self._y_true, self._y_pred):
            hits[true].append(true == predicted)
        print("=> per-class result")
        accuracies = []
        for label in sorted(hits):
            total, correct = len(hits[label]), sum(hits[label])
            accuracies.append(100.0 * correct / total)
            name = self._lab2cname[label]
            print(
                f"* class: {label} ({name})\ttotal: {total:,}\tcorrect: {correct:,}\tacc: {accuracies[-1]:.1f}%",
            )
        average = sum(accuracies) / len(accuracies)
        print(f"* average: {average:.1f}%")
        return average

    def _save_confusion_matrix(self) -> None:
        """Rows are true labels, columns predicted ones; every row with samples sums to 1."""
        matrix = confusion_matrix(self._y_true, self._y_pred, normalize="true")
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        mkdir_if_missing(self.cfg.OUTPUT_DIR)
        torch.save(torch.from_numpy(matrix), path)
        print(f"Confusion matrix is saved to {path}")
