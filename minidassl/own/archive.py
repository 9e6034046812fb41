"""Read archives of tensors, of `torch.save`, TorchScript and numpy, without executing anything from them.

`torch.load(weights_only=True)` executes code before PyTorch 2.6 (CVE-2025-32434), and `torch.jit.load` runs an
archive's `__setstate__` methods, which may write files. Here a pickle can name tensors and plain containers alone:
modules of TorchScript become records of their attributes; classes of `torch.optim`, which Dassl up to 0.6.3 pickles
with its warm-up, and numpy's scalars become an inert class without content; any other name is an error.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Pickle protocol 2 writes the bytes of a scalar by the last one.
_INERT = ("torch.optim.", "dassl.optim.", "numpy.", "_codecs.encode")
_CONTAINERS = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "collections.Counter": dict,
    "torch.Size": tuple,
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (dict, list, set)},
}
_STORAGES = {
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float": torch.float32,
    "Double": torch.float64,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Bool": torch.bool,
}
# Of a class in a TorchScript archive's code, as PyTorch writes it: `__parameters__ = ["weight", "bias", ]`.
_TENSOR_NAMES = re.compile(r"__(?:parameters|buffers)__ = \[([^\]]*)\]")
_CODE_LIMIT = 2**26  # bytes
# A .npz file that unpacks to more bytes and more times its size is an attack, not weights.
_UNPACKED_LIMIT, _UNPACKED_TIMES = 2**26, 20
_DEEPEST = 100  # modules in modules


class Inert:
    """Replaces an object: accepts any arguments and any state, and keeps neither."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class Module:
    """A module of TorchScript: its attributes, and no behaviour."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


def holds_inert(content: Any) -> bool:
    """Whether nested dicts, lists and tuples contain an inert object."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if value is Inert or isinstance(value, Inert):
            return True
        # A hostile file may nest objects deeper than Python's stack, or the same one in itself many times.
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return False


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TorchScript archive, the form in which OpenAI distributes CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` or `torch.jit.save` put into a file, on the CPU.

    Raises:
        pickle.UnpicklingError: it names anything that neither weights nor a training state need.
        ValueError: it is damaged, or its tensors have more elements than the file has bytes. A damaged file may raise
            any other exception, too.
    """
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(_stored(archive, f"{_folder(archive)}data.pkl"))
        check_memo(pickled)
        reader = _Unpickler(io.BytesIO(pickled), archive)
        content = reader.load()
    # Tensors may share a storage, so a few bytes could stand for any number of elements.
    if reader.elements > os.path.getsize(path):
        raise ValueError("its tensors have more elements than the file has bytes")
    return content


def read_torchscript(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript archive, as `state_dict` of the loaded module has them.

    Raises:
        pickle.UnpicklingError, ValueError: as `read_archive`.
    """
    module = read_archive(path)
    with zipfile.ZipFile(path) as archive:
        start = f"{_folder(archive)}code/"
        code = [info for info in archive.infolist() if info.filename.startswith(start)]
        texts = [info for info in code if info.filename.endswith(".py")]
        if sum(info.file_size for info in texts) > _CODE_LIMIT:
            raise ValueError("its code is larger than any model's")
        lists = [text for info in texts for text in _TENSOR_NAMES.findall(archive.read(info).decode())]
    names = {name for text in lists for name in re.findall(r'"([^"]+)"', text)}
    return dict(_tensors(module, "", names))


def check_memo(pickled: bytes) -> None:
    """Refuse a pickle of few bytes that would take the memory or hours.

    Numbers of objects that are far too high make Python fill the memory with a table of them; copies of one object in
    itself, which no pickler writes, take hours to hash.

    Raises:
        pickle.UnpicklingError: it does.
        ValueError: the bytes are no pickle.
    """
    puts = 0
    for opcode, number, _ in pickletools.genops(pickled):
        if opcode.name == "DUP":
            raise pickle.UnpicklingError("it copies an object, as no pickler does")
        if "PUT" in opcode.name:
            puts += 1
            if number > 2 * puts + 1000:
                raise pickle.UnpicklingError(f"it numbers an object {number} without as many others")


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A file of an archive; ValueError if it is compressed, as PyTorch's are not, so that few bytes stay few."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its {name} is compressed, which PyTorch's are not")
    return info


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The arrays of a `.npz` file as tensors.

    Raises:
        ValueError: it is damaged, or holds pickled objects, or few bytes that unpack to very many.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > _UNPACKED_LIMIT + _UNPACKED_TIMES * os.path.getsize(path):
        raise ValueError(f"its {os.path.getsize(path)} bytes unpack to {unpacked}")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _folder(archive: zipfile.ZipFile) -> str:
    """The folder that an archive has its content in, with a slash."""
    for name in archive.namelist():
        folder, slash, rest = name.partition("/")
        if rest == "data.pkl":
            return folder + slash
    raise ValueError("it has no data.pkl")


def _tensors(module: Any, prefix: str, names: set[str], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, Module) or not isinstance(module.attributes, dict) or depth > _DEEPEST:
        raise ValueError(f"{prefix or 'its content'} is no module with attributes")
    for name, value in module.attributes.items():
        if isinstance(value, Module):
            yield from _tensors(value, f"{prefix}{name}.", names, depth + 1)
        elif isinstance(value, Tensor) and name in names:
            yield f"{prefix}{name}", value


class _Storage(NamedTuple):
    """Its bytes, and the type of its elements."""

    content: bytearray
    dtype: torch.dtype


class _Unpickler(pickle.Unpickler):
    """Resolves the names of tensors, containers and records alone; `elements` counts those of all tensors."""

    def __init__(self, file: Any, archive: zipfile.ZipFile):
        super().__init__(file)
        self._archive, self._data = archive, f"{_folder(archive)}data/"
        self._storages: dict[str, bytearray] = {}
        self.elements = 0

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full.startswith("__torch__."):
            return Module
        if full.startswith(_INERT):
            return Inert
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _STORAGES.get(name[: -len("Storage")], full)
        # Wrappers, because a pickle's BUILD instruction could set attributes of a function for the whole process.
        if full == "torch._utils._rebuild_tensor_v2":
            return lambda *arguments: self._tensor(*arguments[:4])
        if full == "torch._utils._rebuild_parameter":
            return lambda *arguments: _checked(arguments[0])
        if full in _CONTAINERS:
            return lambda *arguments: _CONTAINERS[full](*arguments)
        raise pickle.UnpicklingError(f"it names {full}, which no checkpoint needs")

    def persistent_load(self, reference: Any) -> _Storage:
        _, dtype, key, *_ = reference
        if key not in self._storages:
            info = _stored(self._archive, f"{self._data}{key}")
            self._storages[key] = bytearray(self._archive.read(info))
        return _Storage(self._storages[key], dtype)

    def _tensor(self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        """A tensor of a storage; PyTorch checks that it lies inside."""
        elements = math.prod(size)
        self.elements += elements
        if elements == 0:
            return torch.empty(size, dtype=storage.dtype)
        return torch.frombuffer(storage.content, dtype=storage.dtype).as_strided(size, stride, offset)


def _checked(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise pickle.UnpicklingError("a parameter is no tensor")
    return value
