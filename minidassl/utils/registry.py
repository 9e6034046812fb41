"""Name-to-object registries, and the message for a name that none of them holds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["Registry", "check_availability"]


class Registry:
    """A table of classes or functions under their ``__name__``.

    Use ``@REGISTRY.register()`` above a class, or ``REGISTRY.register(obj)``. Upstream's call form returns ``None``,
    so that a decorator without parentheses erases the class; here both forms return the object.

    Args:
        name: shown in error messages, for instance ``DATASET``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register ``obj``, or return a decorator that does.

        Args:
            obj: class or function; ``None`` for the decorator form.
            force: replace an object of the same name.

        Raises:
            KeyError: the name is taken and ``force`` is not set.
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


def check_availability(requested: str, available: Iterable[str], key: str = "") -> None:
    """Raise a ``ValueError`` that lists ``available`` and guesses the nearest name, unless ``requested`` is in it.

    ``key`` is the configuration key that ``requested`` is the value of.
    """
    names = list(available)
    if requested in names:
        return
    close = difflib.get_close_matches(str(requested), names, n=1, cutoff=0.3)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    where = f"{key}: " if key else ""
    raise ValueError(f"{where}{requested!r} is not available, choose one of {names}{guess}")
