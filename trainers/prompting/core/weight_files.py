"""Tensors out of files of weights, without executing anything."""

from __future__ import annotations

from pathlib import Path

from minidassl.own.archive import is_torchscript, read_arrays, read_torchscript
from minidassl.own.checkpoint import read_file, state_dict_of
from minidassl.own.safetensors_file import read_safetensors

from torch import Tensor

from ..errors import SettingError

SAFETENSORS = ".safetensors"
# Numbers in OpenAI's archives that are no weights.
ARCHIVED = ("input_resolution", "context_length", "vocab_size")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict of tensors alone (.npz, .safetensors, .pt), or the tensors of a TorchScript archive.

    Raises:
        SettingError: the file cannot be read.
    """
    try:
        if path.suffix == ".npz":
            return read_arrays(path)
        if path.suffix == SAFETENSORS:
            return read_safetensors(path)[1]
        return read_torchscript(path) if is_torchscript(path) else state_dict_of(read_file(path), path)
    except Exception as error:  # of many kinds, depending on the bytes
        raise SettingError(
            "{backbone} is {!r}, which cannot be read as a checkpoint ({}). Give a state dict in OpenAI's CLIP "
            "layout: .npz, .safetensors, or .pt of tensors only.",
            *(str(path), error),
        ) from error
