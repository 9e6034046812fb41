"""A small stand-in for Dassl 0.6.3, for machines where the real one is not installed.

Importing this package decides, once per process, who answers to the name ``dassl``: upstream if it can be imported,
else this package, module by module and without loading anything twice. ``CHOICE`` says which, in words for the log.
"""

from __future__ import annotations

from . import _alias

__version__ = "0.6.3+minidassl"  # the version whose surface it follows

CHOICE: str = _alias.choose()


def answer() -> None:
    """Answer to the name ``dassl`` in this process even where upstream could, before anything of it is in use."""
    global CHOICE
    if not CHOICE.startswith(_alias.STAND_IN):
        CHOICE = _alias.install()
