"""The trainer registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils import Registry, check_availability

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from .trainer import TrainerX

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode) -> TrainerX:
    """Build the trainer that ``cfg.TRAINER.NAME`` names.

    Raises:
        ValueError: no such trainer is registered; a trainer registers when its module is imported.
    """
    name = cfg.TRAINER.NAME
    check_availability(name, TRAINER_REGISTRY.registered_names(), "TRAINER.NAME")
    if cfg.VERBOSE:
        print(f"Loading trainer: {name}")
    return TRAINER_REGISTRY.get(name)(cfg)
