"""Counting, freezing and initialising parameters."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable

from torch import nn

from ..own.checkpoint import read_file

__all__ = ["count_num_param", "load_pretrained_weights", "open_all_layers", "open_specified_layers"]


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Count the numbers in all parameters, frozen ones included.

    Args:
        model: counted if given.
        params: otherwise, tensors or optimiser groups (dicts whose ``params`` is a tensor or several).

    Raises:
        ValueError: both are ``None``.
    """
    if model is not None:
        return sum(param.numel() for param in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    total = 0
    for entry in params:
        tensors = entry["params"] if isinstance(entry, dict) else entry
        total += sum(tensor.numel() for tensor in (tensors if isinstance(tensors, (list, tuple)) else [tensors]))
    return total


def load_pretrained_weights(model: nn.Module, weight_path: str | os.PathLike[str]) -> None:
    """Copy into ``model`` every tensor of a file whose name and shape fit, and say what was left out.

    Meant for initialising a model from a related one. To load a checkpoint of this project use ``load_model``, which
    leaves nothing out.

    Args:
        model: changed in place.
        weight_path: a checkpoint with a ``state_dict``, or a bare state dict. A leading ``module.`` in names is
            ignored.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file cannot be read.
    """
    content = read_file(weight_path)
    loaded = content.get("state_dict", content)
    own = model.state_dict()
    matched, discarded = {}, []
    for key, value in loaded.items():
        name = key[len("module.") :] if key.startswith("module.") else key
        if name in own and getattr(value, "shape", None) == own[name].shape:
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


def open_all_layers(model: nn.Module) -> None:
    """Train every parameter of ``model``, and put it into training mode."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | Iterable[str]) -> None:
    """Train the named direct children of ``model`` only; freeze the others and put them into evaluation mode.

    Raises:
        ValueError: ``model`` has no child of a given name.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    children = dict(model.named_children())
    unknown = [name for name in names if name not in children]
    if unknown:
        raise ValueError(f"{type(model).__name__} has no layer {unknown}, choose from {list(children)}")
    for name, child in children.items():
        child.train(name in names)
        child.requires_grad_(name in names)
