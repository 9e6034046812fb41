"""Under which name a method's trainer stands in Dassl's registry: its class's, unless a plugin found that taken."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)

from dassl.engine import TRAINER_REGISTRY

from .prompting.declaration import declare

Trainer = TypeVar("Trainer", bound=type)

# Names of classes, and the names that they register under; filled before the methods' modules are imported.
OTHER_NAMES: dict[str, str] = {}


def register(trainer: Trainer) -> Trainer:
    """Register a trainer, and its method; under another name its configuration node is that name, in capitals.

    Raises:
        KeyError: the name of the trainer is taken.
        InputError: that of the method is.
    """
    declare(trainer.method)
    name = OTHER_NAMES.get(trainer.__name__)
    if name is not None:
        trainer.__name__, trainer.method = name, dataclasses.replace(trainer.method, node=name.upper())
    TRAINER_REGISTRY.register()(trainer)
    return trainer
