"""Text of strangers, such as class names and paths, in one line, for terminals, tables and spreadsheets; and lists."""

from __future__ import annotations

import re
from typing import Any


def words(text: str) -> list[str]:
    """The words of a list with blanks or commas between them, each once."""
    return list(dict.fromkeys(re.findall(r"[^\s,]+", text)))


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
