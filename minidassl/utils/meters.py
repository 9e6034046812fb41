"""Running averages for the training log."""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["AverageMeter", "MetricMeter"]


class AverageMeter:
    """Last value and running average of one number."""

    def __init__(self) -> None:
        self.val = 0.0
        self.avg = 0.0
        self.sum = 0.0
        self.count = 0

    def update(self, val: float | torch.Tensor) -> None:
        """Take in ``val``, a number or a one-element tensor."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val
        self.count += 1
        self.avg = self.sum / self.count


class MetricMeter:
    """One :class:`AverageMeter` per name, printed as ``name val (avg)`` in order of first use."""

    def __init__(self) -> None:
        self.meters: dict[str, AverageMeter] = {}

    def update(self, input_dict: Mapping[str, float | torch.Tensor] | None) -> None:
        """Take in one value per name; ``None`` changes nothing.

        Raises:
            TypeError: ``input_dict`` is neither ``None`` nor a mapping.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(f"MetricMeter.update takes a dict of numbers, got {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters.setdefault(name, AverageMeter()).update(value)

    def __str__(self) -> str:
        return " ".join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
