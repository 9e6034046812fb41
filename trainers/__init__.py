"""Prompt-learning trainers, one module a method: listing this folder lists the methods."""

import importlib
import pkgutil


def register_all() -> None:
    """Import every module, of which those of the methods register a trainer in Dassl's ``TRAINER_REGISTRY``.

    Kept out of the import itself, so that ``trainers.prompting`` can be used without Dassl and yacs.
    """
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            importlib.import_module(f"{__name__}.{module.name}")
