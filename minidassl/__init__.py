"""A small stand-in for Dassl 0.6.3, for machines without upstream Dassl, and this project's own engine.

Once this package is imported, the name ``dassl`` means upstream if that can be imported, else this package, module by
module and without loading anything twice. The first use of the name decides, once per process. ``CHOICE`` describes
the choice for the log. :mod:`minidassl.own` works with either, and does not trigger the decision.
"""

from __future__ import annotations

import sys

from . import _alias

__version__ = "0.6.3+minidassl"  # upstream's version with the same interface

_finder = _alias.Finder()
sys.meta_path.insert(0, _finder)
answer = _finder.take


def __getattr__(name: str) -> str:
    if name == "CHOICE":
        return _finder.decide()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
