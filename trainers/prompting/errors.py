"""The one exception that means "the input is wrong, and here is the remedy", and the words that it uses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A configuration value, file or folder that cannot be used.

    The message names the key or path, the value found, what is allowed, and the remedy. ``train.py`` prints it
    without a traceback, as it does what Dassl refuses while a run is built; what goes wrong later is a defect and
    keeps its traceback.
    """


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question after the known name that this one resembles, or nothing."""
    by_lower = {item.lower(): item for item in known}
    guess = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" Do you mean {by_lower[guess[0]]}?" if guess else ""
