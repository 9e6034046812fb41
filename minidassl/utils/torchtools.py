"""Initialising a model from a file."""

from __future__ import annotations

import os
import warnings

from torch import nn

from ..own.checkpoint import read_file, state_dict_of

__all__ = ["load_pretrained_weights"]


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
    loaded = state_dict_of(read_file(weight_path), weight_path)
    own = model.state_dict()
    matched, discarded = {}, []
    for key, value in loaded.items():
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
