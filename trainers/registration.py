"""Registers methods' trainers with Dassl under the names of their classes, or others if a plugin finds these taken."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)

from dassl.engine import TRAINER_REGISTRY

from .prompting.declaration import declare

Trainer = TypeVar("Trainer", bound=type)

# Class names and the names to register them under; filled before the methods' modules are imported.
OTHER_NAMES: dict[str, str] = {}


def register(trainer: Trainer) -> Trainer:
    """Register a trainer and its method. A trainer under another name has that name, in capitals, as its node.

    Raises:
        KeyError: the name of the trainer is taken.
        InputError: the name of the method is taken.
    """
    declare(trainer.method)
    name = OTHER_NAMES.get(trainer.__name__)
    if name is not None:
        trainer.__name__, trainer.method = name, dataclasses.replace(trainer.method, node=name.upper())
    TRAINER_REGISTRY.register()(trainer)
    return trainer
