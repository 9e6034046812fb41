"""Upstream's names for optimisers and schedules, which are this project's own."""

from .own.optim import (
    AVAI_OPTIMS,
    AVAI_SCHEDS,
    AVAI_WARMUPS,
    ConstantWarmupScheduler,
    LinearWarmupScheduler,
    build_lr_scheduler,
    build_optimizer,
)

__all__ = [
    "AVAI_OPTIMS",
    "AVAI_SCHEDS",
    "AVAI_WARMUPS",
    "ConstantWarmupScheduler",
    "LinearWarmupScheduler",
    "build_lr_scheduler",
    "build_optimizer",
]
