"""Trainers: the registry, the life cycle, and checkpointing."""

from .build import TRAINER_REGISTRY, build_trainer
from .checkpointing import Checkpointing
from .trainer import SimpleTrainer, TrainerBase, TrainerX

__all__ = ["TRAINER_REGISTRY", "Checkpointing", "SimpleTrainer", "TrainerBase", "TrainerX", "build_trainer"]
