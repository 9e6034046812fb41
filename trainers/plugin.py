"""Plug methods into another code base of the field: its registry of trainers and its configuration defaults.

`scripts/install_plugin.py` copies this package into a checkout, whose `train.py` then imports it.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from minidassl.own.checkpoint import CheckpointError
from minidassl.own.processes import end_with_launcher

from dassl.config import cfg_default
from dassl.engine import TRAINER_REGISTRY

from .base import OTHER_NAMES
from .config import Common, declare_missing, declared_keys
from .prompting.errors import InputError

# Data sets and loaders are the code base's own; records need this one of their keys.
_DATA = ("DATASET.", "DATALOADER.")
_NEEDED = "DATASET.SUBSAMPLE_CLASSES"


def plug_in(modules: Iterable[str], names: Mapping[str, str]) -> None:
    """Register methods, and add their keys to the default configuration that Dassl returns from now on.

    An existing key keeps its default. The plugin's errors are printed in one line, without a traceback. A process that
    the plugin's scripts have started ends with them.

    Args:
        modules: the methods' modules in this package.
        names: other names to register methods under whose own names are taken.

    Raises:
        InputError: a name is taken.
    """
    end_with_launcher()
    sys.excepthook = functools.partial(in_one_line, sys.excepthook)
    OTHER_NAMES.update(names)
    before = TRAINER_REGISTRY.registered_names()
    for module in modules:
        try:
            importlib.import_module(f".{module}", __package__)
        except KeyError as error:
            raise InputError(
                f"{error.args[0]}: this code base registers a trainer of the plugin's name. Run install_plugin.py "
                "again, which takes another name where it finds that trainer in trainers/; elsewhere, rename it."
            ) from error
    for own, name in names.items():
        print(f"{own} of the plugin is the trainer {name} here; its keys are TRAINER.{name.upper()}")
    common = Common().keyed()
    declare_missing(cfg_default, {key: common[key] for key in common if key == _NEEDED or not key.startswith(_DATA)})
    added = [name for name in TRAINER_REGISTRY.registered_names() if name not in before]
    declare_missing(cfg_default, declared_keys(added))


def in_one_line(
    hook: Callable[..., None], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An excepthook that prints errors about input, data and disk in one line, and leaves all others to `hook`."""
    if isinstance(error, (InputError, CheckpointError, FloatingPointError)):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, OSError):
        # That of a loader's process has its traceback in the lines before the last.
        reason = str(error).strip().splitlines()[-1:]
        print("error:", *reason, "(data sets are in --root, results in --output-dir)", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("Interrupted; the same command goes on from the last saved epoch.", file=sys.stderr)
    else:
        hook(kind, error, trace)
