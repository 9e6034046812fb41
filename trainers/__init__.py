"""Prompt-learning trainers, one module a method: listing this folder lists the methods."""

import importlib
import pkgutil

_NOT_METHODS = {"base", "config", "evaluation", "objectives", "plugin", "records", "registration"}


def register_all() -> None:
    """Import every method's module, which registers its trainer in Dassl's ``TRAINER_REGISTRY``.

    Kept out of the import itself, so that ``trainers.prompting`` can be used without Dassl and yacs.
    """
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg and module.name not in _NOT_METHODS:
            importlib.import_module(f"{__name__}.{module.name}")
