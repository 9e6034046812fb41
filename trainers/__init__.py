"""Prompt-learning trainers, one module per method."""

import importlib
import pkgutil


def register_all() -> None:
    """Import every module; those of methods register a trainer in Dassl's ``TRAINER_REGISTRY``.

    A function of its own, so that ``trainers.prompting`` can be used without Dassl and yacs.
    """
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            importlib.import_module(f"{__name__}.{module.name}")
