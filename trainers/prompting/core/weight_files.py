"""Tensors out of files of weights, without executing anything."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from minidassl.own.archive import is_torchscript, read_arrays, read_torchscript
from minidassl.own.checkpoint import read_file, state_dict_of

from torch import Tensor

from ..errors import SettingError

SAFETENSORS = ".safetensors"
# Numbers in OpenAI's archives that are no weights.
ARCHIVED = ("input_resolution", "context_length", "vocab_size")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict of tensors alone (.npz, .safetensors, .pt), or the tensors of a TorchScript archive.

    Raises:
        SettingError: the file cannot be read, or its format needs a package that is not installed.
    """
    if path.suffix == SAFETENSORS and importlib.util.find_spec("safetensors") is None:
        raise SettingError("{backbone} is {!r}, and to read it safetensors is needed: pip install safetensors.", path)
    try:
        if path.suffix == ".npz":
            return read_arrays(path)
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        return read_torchscript(path) if is_torchscript(path) else state_dict_of(read_file(path), path)
    except Exception as error:  # of many kinds, depending on the bytes
        raise SettingError(
            "{backbone} is {!r}, which cannot be read as a checkpoint ({}). Give a state dict in OpenAI's CLIP "
            "layout: .npz, .safetensors, or .pt of tensors only.",
            *(str(path), error),
        ) from error
