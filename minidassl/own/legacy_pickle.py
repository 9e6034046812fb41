"""Read checkpoints with pickled scheduler objects, without executing anything from them.

Dassl up to 0.6.3 pickles the scheduler after a warm-up as an object, and with it the whole optimiser.
``torch.load(weights_only=True)`` refuses such files. This ``pickle_module`` for ``torch.load`` replaces the classes of
``torch.optim`` and numpy's scalars by an inert class that discards its state, admits a few harmless builders, and
stops at any other name.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from typing import Any

import torch

# Pickle protocol 2 writes the bytes of a scalar by the last one.
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
    """Replaces an object: accepts any arguments and any state, and keeps neither."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def holds_inert(content: Any) -> bool:
    """Whether nested dicts, lists and tuples contain an inert object."""
    if isinstance(content, (dict, list, tuple)):
        return any(map(holds_inert, content.values() if isinstance(content, dict) else content))
    return content is Inert or isinstance(content, Inert)


class Unpickler(pickle.Unpickler):
    """Resolves the admitted names only; ``torch.load`` itself resolves tensor storages.

    Raises:
        pickle.UnpicklingError: the pickle names anything else.
    """

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full.startswith(_INERT):
            return Inert
        if full not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {full}, which no checkpoint needs")
        # A wrapper, because a pickle's BUILD instruction could set attributes of the function for the whole process.
        return lambda *args: _ADMITTED[full](*args)
