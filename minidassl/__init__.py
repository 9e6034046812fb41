"""A small stand-in for Dassl 0.6.3, for machines where the real one is not installed, and this project's own engine.

Once this package is imported, the name ``dassl`` means upstream if that can be imported, else this package, module by
module and without loading anything twice. The first use of the name decides, once per process. ``CHOICE`` says who
answers, in words for the log. :mod:`minidassl.own` works whoever answers, and without asking.
"""

from __future__ import annotations

import sys

from . import _alias

__version__ = "0.6.3+minidassl"  # the version whose surface it follows

_finder = _alias.Finder()
sys.meta_path.insert(0, _finder)


def __getattr__(name: str) -> str:
    if name == "CHOICE":
        return _finder.decide()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def answer() -> None:
    """Answer to the name ``dassl`` in this process even where upstream could, before anything of it is in use."""
    _finder.take()
