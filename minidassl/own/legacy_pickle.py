"""Read checkpoints that hold pickled scheduler objects, without executing anything they name.

Dassl up to 0.6.3 stores the scheduler that follows a warm-up as a live object, and with it the whole optimiser.
``torch.load(weights_only=True)`` refuses such files. Here every class of ``torch.optim`` is replaced by an inert one
that swallows its state, a short list of harmless builders is admitted, and any other name ends the reading.
"""

from __future__ import annotations

import codecs
import io
import pickle
import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

_INERT_PACKAGES = ("torch.optim.", "dassl.optim.")
_SCALAR_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "b1": "?"}


class _Admitted:
    """A function that a pickle may call but not alter.

    Handing out the function itself would let a pickle's BUILD instruction set attributes on it, for the whole process.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function was given a state")


class _NumpyDtype:
    """Stands for ``numpy.dtype``: remembers the kind and size of a scalar, and its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _numpy_scalar(dtype: _NumpyDtype, data: bytes) -> Any:
    if not isinstance(dtype, _NumpyDtype) or dtype.code not in _SCALAR_FORMATS:
        raise pickle.UnpicklingError("a numpy scalar of unexpected type")
    return struct.unpack(dtype.order + _SCALAR_FORMATS[dtype.code], data)[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    # How pickle protocol 2 writes bytes.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return codecs.encode(text, "latin1")


def holds_inert(content: Any) -> bool:
    """Whether any object in nested dicts, lists and tuples stands for one that was not built."""
    if isinstance(content, dict):
        return any(holds_inert(value) for value in content.values())
    if isinstance(content, (list, tuple)):
        return any(holds_inert(value) for value in content)
    return type(content).__module__.startswith("inert.")


def _inert_class(module: str, name: str) -> type:
    """A class that accepts any arguments and any state, and keeps neither."""

    def ignore(self: Any, *args: Any, **kwargs: Any) -> None:
        return None

    return type(
        name,
        (),
        {"__module__": f"inert.{module}", "__new__": lambda cls, *a, **k: object.__new__(cls)}
        | {"__init__": ignore, "__setstate__": ignore},
    )


_ADMITTED: dict[tuple[str, str], Callable[[], Any]] = {
    ("collections", "OrderedDict"): lambda: OrderedDict,
    ("collections", "defaultdict"): lambda: defaultdict,
    ("collections", "Counter"): lambda: dict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda: _Admitted(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): lambda: _Admitted(torch._utils._rebuild_parameter),
    ("_codecs", "encode"): lambda: _Admitted(_encode_latin1),
    ("numpy", "dtype"): lambda: _Admitted(_NumpyDtype),
}
for _module in ("builtins", "__builtin__"):
    _ADMITTED[_module, "dict"] = lambda: dict
    _ADMITTED[_module, "list"] = lambda: list
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ADMITTED[_module, "scalar"] = lambda: _Admitted(_numpy_scalar)


class AllowListUnpickler(pickle.Unpickler):
    """Unpickler that resolves the admitted names only; tensor storages are resolved by ``torch.load`` itself.

    Raises:
        pickle.UnpicklingError: the pickle names anything else.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]()
        if module.startswith(_INERT_PACKAGES):
            return _inert_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")


def load(file: io.BufferedIOBase, **kwargs: Any) -> Any:
    """``pickle.load`` with the allow-list."""
    return AllowListUnpickler(file, **kwargs).load()


PICKLE_MODULE = SimpleNamespace(__name__=__name__, Unpickler=AllowListUnpickler, load=load)
"""For ``torch.load(pickle_module=...)``."""
