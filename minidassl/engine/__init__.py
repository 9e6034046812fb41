"""Trainers: the registry, the life cycle, and checkpointing."""

from ..own.checkpointing import Checkpointing
from .build import TRAINER_REGISTRY, build_trainer
from .trainer import TrainerX

__all__ = ["TRAINER_REGISTRY", "Checkpointing", "TrainerX", "build_trainer"]
