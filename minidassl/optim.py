"""Upstream's names for optimisers and schedules, which are this project's own."""

from .own.optim import build_lr_scheduler, build_optimizer

__all__ = ["build_lr_scheduler", "build_optimizer"]
