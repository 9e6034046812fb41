"""Resolve the name ``dassl`` to an importable upstream, else to the stand-in; the first use decides."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_OWN = __package__
STAND_IN = "Dassl: built-in stand-in"


def _is_dassl(name: str) -> bool:
    return name == "dassl" or name.startswith("dassl.")


class Finder(MetaPathFinder):
    """Resolves ``dassl`` and its submodules, to modules of this package if upstream cannot be imported.

    Attributes:
        choice: one line that describes the decision; ``None`` before it.
    """

    def __init__(self) -> None:
        self.choice: str | None = None
        self._upstream = False  # upstream answers, or is being tried

    def decide(self) -> str:
        """Try upstream once, and return the description of the decision."""
        if self.choice is None:
            self._upstream = True
            self.choice = self._try_upstream()
        return self.choice

    def take(self) -> str:
        """Let the stand-in answer in this process even if upstream could; call it before any use of the name."""
        self.choice = self._install()
        return self.choice

    def _try_upstream(self) -> str:
        spec = importlib.util.find_spec("dassl")
        if spec is None:
            return self._install()
        try:
            # This module imports everything that upstream needs.
            importlib.import_module("dassl.engine")
        except Exception as error:  # a foreign package may raise anything
            place = os.path.dirname(spec.origin) if spec.origin else list(spec.submodule_search_locations or [])
            remedy = "install what it lacks, or take it off PYTHONPATH"
            return f"{self._install()} (upstream at {place} cannot be imported: {error}; {remedy})"
        upstream = sys.modules["dassl"]
        version = getattr(upstream, "__version__", "of unknown version")
        return f"Dassl: upstream {version} at {os.path.dirname(upstream.__file__)}"

    def _install(self) -> str:
        self._upstream = False
        # Modules of a failed import of upstream must not mix with the stand-in.
        for name in [name for name in sys.modules if _is_dassl(name)]:
            del sys.modules[name]
        return STAND_IN

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not _is_dassl(fullname) or (self._upstream and self.choice is None):
            return None
        self.decide()
        if self._upstream:
            # The decision may just have imported the module, which must not run twice. While it is in sys.modules, the
            # import system would use its own spec, and run it.
            module = sys.modules.pop(fullname, None)
            return module and ModuleSpec(fullname, _Loader(fullname, module), is_package=True)
        own_name = _OWN + fullname[len("dassl") :]
        if importlib.util.find_spec(own_name) is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: the built-in stand-in for Dassl lacks it; install upstream Dassl "
                "0.6.3 from its repository if you need it",
                name=fullname,
            )
        return ModuleSpec(fullname, _Loader(own_name), is_package=True)


class _Loader(Loader):
    """Loads an imported module under an alias, without running it again."""

    def __init__(self, name: str, module: ModuleType | None = None) -> None:
        self.name, self.module = name, module

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = self.module or importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has set the alias's spec on the module, which already ran under its own.
        module.__spec__ = self.spec
