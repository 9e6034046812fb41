"""Who answers to the name ``dassl``."""

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


def choose() -> str:
    """Leave an importable upstream Dassl alone, else answer to its name; return one line that says which."""
    spec = importlib.util.find_spec("dassl")
    if spec is None:
        return install()
    try:
        # The part that pulls in everything upstream needs.
        importlib.import_module("dassl.engine")
    except Exception as error:  # whatever a foreign package raises while it is imported
        install()
        place = os.path.dirname(spec.origin) if spec.origin else list(spec.submodule_search_locations or [])
        return f"{STAND_IN} (upstream at {place} cannot be imported: {error})"
    upstream = sys.modules["dassl"]
    version = getattr(upstream, "__version__", "of unknown version")
    return f"Dassl: upstream {version} at {os.path.dirname(upstream.__file__)}"


def install() -> str:
    """Answer to the name; return one line that says so."""
    # What an import of upstream has left behind must not be mixed with the stand-in.
    for name in [name for name in sys.modules if name == "dassl" or name.startswith("dassl.")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _AliasFinder())
    return STAND_IN


class _AliasFinder(MetaPathFinder):
    """Resolves ``dassl`` and everything below it to the modules of this package."""

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "dassl" and not fullname.startswith("dassl."):
            return None
        own_name = _OWN + fullname[len("dassl") :]
        if importlib.util.find_spec(own_name) is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: the built-in stand-in for Dassl lacks it; install upstream Dassl "
                "0.6.3 from its repository if you need it",
                name=fullname,
            )
        return ModuleSpec(fullname, _AliasLoader(own_name), is_package=True)


class _AliasLoader(Loader):
    """Hands out a module under a second name, the same object."""

    def __init__(self, own_name: str) -> None:
        self.own_name = own_name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.own_name)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just put the alias's spec on the module; it already ran under its own.
        module.__spec__ = self.own_spec
