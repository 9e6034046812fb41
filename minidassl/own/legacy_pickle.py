"""Read checkpoints that hold pickled scheduler objects, without executing anything they name.

Dassl up to 0.6.3 stores the scheduler that follows a warm-up as a live object, and with it the whole optimiser.
``torch.load(weights_only=True)`` refuses such files. Here every class of ``torch.optim`` is replaced by an inert one
that swallows its state, so are numpy's scalars, a short list of harmless builders is admitted, and any other name ends
the reading. This module is a ``pickle_module`` for ``torch.load``.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from typing import Any

import torch

# The last one is how pickle protocol 2 writes the bytes of a scalar.
_INERT = ("torch.optim.", "dassl.optim.", "numpy.", "_codecs.encode")
_ADMITTED = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "collections.Counter": dict,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (dict, list)},
}


class Inert:
    """Stands for an object that was not built: accepts any arguments and any state, and keeps neither."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def holds_inert(content: Any) -> bool:
    """Whether any object in nested dicts, lists and tuples stands for one that was not built."""
    if isinstance(content, (dict, list, tuple)):
        return any(map(holds_inert, content.values() if isinstance(content, dict) else content))
    return content is Inert or isinstance(content, Inert)


class Unpickler(pickle.Unpickler):
    """Resolves the admitted names only; tensor storages are resolved by ``torch.load`` itself.

    Raises:
        pickle.UnpicklingError: the pickle names anything else.
    """

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full.startswith(_INERT):
            return Inert
        if full not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {full}, which no checkpoint needs")
        # Not the function itself, on which a pickle's BUILD instruction could set attributes for the whole process.
        return lambda *args: _ADMITTED[full](*args)
