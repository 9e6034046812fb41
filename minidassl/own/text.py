"""Text of strangers, such as class names and paths, in one line; names that a user types. Needs no other package."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

FEW = 6  # names that a message lists


def words(text: str) -> list[str]:
    """The words of a list with blanks or commas between them, each once."""
    return list(dict.fromkeys(re.findall(r"[^\s,]+", text)))


def nearest(name: object, known: Iterable[str], where: str) -> str:
    """The end of a message about an unknown name: the most similar known one, and all of them if they are few.

    Args:
        where: the user finds the list of many names, as the subject of "lists all".
    """
    known = list(known)
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    guess = f"Do you mean {by_lower[close[0]]}? " if close else ""
    if len(known) > FEW:
        return f"{guess}{where} lists all."
    return f"{guess}Choose one of {', '.join(known)}." if known else "There is none."


def printable(text: str, keep: str = "") -> str:
    r"""Text with control characters, line ends and lone surrogates as escapes such as `\x1b`.

    Args:
        keep: characters that stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def csv_cell(value: Any) -> Any:
    """A cell of CSV that no spreadsheet takes for a formula: such text gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.lstrip()[:1] in tuple("=+-@") else value)
