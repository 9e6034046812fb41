"""Early stopping as in BMIP's published code: by the validation result of each epoch, and not before the sixth."""

from __future__ import annotations

import math
from typing import Any

from yacs.config import CfgNode

EARLIEST_STOP = 5  # epoch, from 0
NO_PATIENCE = -1  # value of TRAIN.PATIENT_COUNT that never stops


def may_validate(cfg: CfgNode) -> bool:
    """Whether the configuration lets a run validate while it trains."""
    return not cfg.TEST.NO_TEST_EARLY and not cfg.TEST.NO_TEST


class EarlyStopping:
    """Counts the epochs without a better validation result.

    Attributes:
        active: the configuration lets the run stop early.
        best: best result so far, in per cent.
        waited: epochs since then.
    """

    def __init__(self, cfg: CfgNode):
        self.patience = cfg.TRAIN.PATIENT_COUNT
        self.active = may_validate(cfg) and cfg.TRAIN.EARLY_STOPPING and self.patience != NO_PATIENCE
        self.best = -math.inf
        self.waited = 0

    def note(self, result: float) -> None:
        """Record a validation result in per cent."""
        self.waited = 0 if result > self.best else self.waited + 1
        self.best = max(result, self.best)

    def stops_after(self, epoch: int) -> bool:
        """Whether training ends after an epoch, from 0; prints a note if it does."""
        stops = self.active and epoch >= EARLIEST_STOP and self.waited >= self.patience
        if stops:
            print(f"Early stopping: no better validation result for {self.waited} epochs")
        return stops

    def state(self) -> dict[str, Any]:
        """Its part of a checkpoint."""
        return {"epochs_without_gain": self.waited, "best_validation": self.best}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a `state`."""
        self.waited, self.best = state["epochs_without_gain"], state["best_validation"]
