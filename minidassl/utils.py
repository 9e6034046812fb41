"""Small helpers that CoOp-family code imports from this module.

Differences from upstream: logging never closes the console; a complete line is in the log at once, so a killed process
loses nothing; the console provides all other attributes of a stream (``isatty``, ``fileno``, ``encoding``…).
"""

from __future__ import annotations

import difflib
import json
import os
import random
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import PIL
import torch
from torch import nn

from .own.checkpoint import load_checkpoint, read_file, state_dict_of
from .own.files import write_whole
from .own.image_cache import read_image

__all__ = ["load_checkpoint", "read_image"]


class Logger:
    """A text stream that writes to the current ``sys.stdout`` and to the end of a file."""

    def __init__(self, fpath: str | os.PathLike[str]) -> None:
        self.console = sys.stdout
        os.makedirs(os.path.dirname(fpath) or ".", exist_ok=True)
        self.file = open(fpath, "a", encoding="utf-8")  # noqa: SIM115  (the rest of the process writes to it)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.console, name)

    def write(self, msg: str) -> int:
        """Write to both, and flush complete lines to the operating system."""
        for stream in (self.console, self.file):
            stream.write(msg)
            if "\n" in msg:
                stream.flush()
        return len(msg)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """Flush both, the file to the disk."""
        self.console.flush()
        self.file.flush()
        os.fsync(self.file.fileno())


def setup_logger(output: str | None = None) -> None:
    """Replace ``sys.stdout`` by a :class:`Logger`; a second call moves the log.

    An existing log stays as it is: the new one gets the time (``-YYYY-MM-DD-HH-MM-SS``) appended to its name.

    Args:
        output: a path that ends in ``.txt`` or ``.log``, or a folder, for the file ``log.txt``. ``None``: do nothing.
    """
    if output is None:
        return
    if isinstance(sys.stdout, Logger):
        sys.stdout = sys.stdout.console
    path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(path):
        path += time.strftime("-%Y-%m-%d-%H-%M-%S")
    sys.stdout = Logger(path)


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy, torch and every CUDA device; cuDNN's settings stay as they are."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def collect_env_info() -> str:
    """Return torch's report on machine and packages, followed by the version of Pillow."""
    # Imported here because it loads slowly, and only this function needs it.
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def mkdir_if_missing(dirname: str | os.PathLike[str]) -> None:
    """Create a folder and its parents; it may exist, and an empty name is the current folder."""
    os.makedirs(dirname or ".", exist_ok=True)


def check_isfile(fpath: str | os.PathLike[str]) -> bool:
    """Tell whether ``fpath`` is a file, and warn if it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


def read_json(fpath: str | os.PathLike[str]) -> Any:
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj: Any, fpath: str | os.PathLike[str]) -> None:
    """Write ``obj`` as indented JSON, and create missing parent folders."""
    write_whole(fpath, json.dumps(obj, indent=4))


def listdir_nohidden(path: str | os.PathLike[str], sort: bool = False) -> list[str]:
    """List the names in a folder that do not start with a dot; without ``sort`` in the file system's order."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike[str]) -> None:
    """Copy into ``model`` all tensors of a file with matching name and shape, and print the names of the others.

    ``weight_path`` is a checkpoint with a ``state_dict``, or a bare state dict; a leading ``module.`` in names is
    ignored. Errors are those of :func:`minidassl.own.checkpoint.read_file`.
    """
    own, matched, discarded = model.state_dict(), {}, []
    for key, value in state_dict_of(read_file(weight_path), weight_path).items():
        name = key[len("module.") :] if key.startswith("module.") else key
        if name in own and value.shape == own[name].shape:
            matched[name] = value
        else:
            discarded.append(name)
    if not matched:
        warnings.warn(f"Cannot load {weight_path} (check the key names manually)", stacklevel=2)
        return
    model.load_state_dict({**own, **matched})
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


class AverageMeter:
    """Last value and running average of one number."""

    val = avg = sum = 0.0
    count = 0

    def update(self, val: float | torch.Tensor, n: int = 1) -> None:
        """Add a value that stands for ``n`` ones."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = self.sum / self.count


class MetricMeter:
    """One :class:`AverageMeter` per name, printed as ``name val (avg)`` in order of first use."""

    def __init__(self) -> None:
        self.meters: dict[str, AverageMeter] = {}

    def update(self, input_dict: Mapping[str, float | torch.Tensor] | None) -> None:
        """Add one value per name; ``None`` changes nothing, and other values than mappings are a ``TypeError``."""
        if input_dict is not None and not isinstance(input_dict, Mapping):
            raise TypeError(f"MetricMeter.update takes a dict of numbers, got {type(input_dict).__name__}")
        for name, value in (input_dict or {}).items():
            self.meters.setdefault(name, AverageMeter()).update(value)

    def __str__(self) -> str:
        return " ".join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())


class Registry:
    """A table of classes or functions under their ``__name__``.

    Use ``@REGISTRY.register()`` above a class, or ``REGISTRY.register(obj)``. Both return the object; upstream's
    second form returns ``None``, so that a decorator without parentheses loses the class.

    Args:
        name: for error messages, and the section of the configuration whose ``NAME`` selects an object.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register ``obj``, or return a decorator that does; without ``force`` a taken name is a ``KeyError``."""
        if obj is None:
            return lambda decorated: self.register(decorated, force=force)
        name = obj.__name__
        if name in self._objects and not force:
            raise KeyError(f'An object named "{name}" was already registered in "{self._name}" registry')
        self._objects[name] = obj
        return obj

    def get(self, name: str) -> Any:
        """Return the object registered under ``name``; ``KeyError`` if there is none."""
        if name not in self._objects:
            raise KeyError(f'Object name "{name}" does not exist in "{self._name}" registry')
        return self._objects[name]

    def registered_names(self) -> list[str]:
        return list(self._objects)

    def build(self, cfg: Any) -> Any:
        """Call the object that the configuration names, with the configuration; ``ValueError`` for an unknown name."""
        name = cfg[self._name].NAME
        check_availability(name, self._objects, f"{self._name}.NAME")
        if cfg.VERBOSE:
            print(f"Loading {self._name.lower()}: {name}")
        return self._objects[name](cfg)


def check_availability(requested: str, available: Iterable[str], key: str = "") -> None:
    """Raise a ``ValueError`` that lists ``available`` and guesses the nearest name, unless ``requested`` is in it.

    ``key`` is the configuration key with the value ``requested``.
    """
    names = list(available)
    if requested in names:
        return
    close = difflib.get_close_matches(str(requested), names, n=1, cutoff=0.3)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    where = f"{key}: " if key else ""
    raise ValueError(f"{where}{requested!r} is not available, choose one of {names}{guess}")
