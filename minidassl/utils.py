"""Small helpers that CoOp-family code imports from this module."""

from __future__ import annotations

import difflib
import json
import os
import random
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import PIL
import torch
from torch import nn

from .logger import Logger, setup_logger
from .own.checkpoint import load_checkpoint, read_file, state_dict_of
from .own.files import write_whole
from .own.image_cache import read_image

__all__ = ["Logger", "load_checkpoint", "read_image", "setup_logger"]


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy, torch and every CUDA device; cuDNN's settings stay as they are."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


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
    write_whole(fpath, json.dumps(obj, indent=4, separators=(",", ": ")))


def listdir_nohidden(path: str | os.PathLike[str], sort: bool = False) -> list[str]:
    """List the names in a folder that do not start with a dot; without ``sort`` in the file system's order."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike[str]) -> None:
    """Copy into ``model`` all tensors of a file with matching name and shape, and print the names of the others.

    It initialises a model from a related one. ``load_model`` loads a checkpoint of this project, strictly.

    Args:
        model: changed in place.
        weight_path: a checkpoint with a ``state_dict``, or a bare state dict. A leading ``module.`` in names is
            ignored.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be read.
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

    def update(self, val: float | torch.Tensor) -> None:
        """Add ``val``, a number or a one-element tensor."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val
        self.count += 1
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
        """Register ``obj``, or return a decorator that does.

        Raises:
            KeyError: the name is taken; ``force`` replaces its object instead.
        """
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
        """All names, in order of registration."""
        return list(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def build(self, cfg: Any) -> Any:
        """Call the object that the configuration names, with the configuration; ``ValueError`` for an unknown name.

        A class registers when its module is imported.
        """
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
