"""Under which name a method's trainer stands in Dassl's registry: its class's, unless a plugin found that taken."""

from __future__ import annotations

from typing import TypeVar

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)

from dassl.engine import TRAINER_REGISTRY

Trainer = TypeVar("Trainer", bound=type)

# Names of classes, and the names that they register under; filled before the methods' modules are imported.
OTHER_NAMES: dict[str, str] = {}


def register(trainer: Trainer) -> Trainer:
    """Register a trainer; under another name it has a configuration node of that name, in capitals.

    Raises:
        KeyError: the name is taken.
    """
    name = OTHER_NAMES.get(trainer.__name__)
    if name is not None:
        node, trainer.node, trainer.__name__ = trainer.node, name.upper(), name
        nodes = {trainer.node if key == node else key: value for key, value in trainer.defaults["TRAINER"].items()}
        trainer.defaults = {**trainer.defaults, "TRAINER": nodes}
    TRAINER_REGISTRY.register()(trainer)
    return trainer
