"""What a terminal shows of a run; `log.txt` has all lines as Dassl prints them."""

from __future__ import annotations

import re
import textwrap
from typing import Any, TextIO

# The launcher indents lines by two of a terminal's hundred columns.
WIDTH = 98
_HIDDEN = "Checkpoint saved to ", "Initialize tensorboard "
_EPOCH = re.compile(r"(epoch \[\d+/\d+\] batch \[\d+/\d+\]) (.*) (lr \S+) (eta .*)")


def shown(line: str) -> str | None:
    """A line as a terminal shows it, None for not at all.

    An epoch's line has no seconds per batch, and is cut to WIDTH columns: the last terms of the loss go first. Other
    long lines are folded between words.
    """
    if line.startswith(_HIDDEN):
        return None
    match = _EPOCH.fullmatch(line)
    if match is None:
        fold = dict(width=WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        return line if len(line) <= WIDTH else textwrap.fill(line, **fold)
    start, numbers, rate, end = match.groups()
    found = [number for number in re.findall(r"\S+ \S+ \(\S+\)", numbers) if not number.startswith(("time ", "data "))]
    loss_and_accuracy, more = found[:2], [*found[2:], rate]
    while more and len(" ".join([start, *loss_and_accuracy, *more, end])) > WIDTH:
        more.pop(-2 if len(more) > 1 else -1)
    return " ".join([start, *loss_and_accuracy, *more, end])


class Concise:
    """A stream that passes lines on as `shown`; it has all other attributes of the one that it writes to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in map(shown, lines):
            if line is not None:
                self._stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Write what has begun of a line, too."""
        self._stream.write(self._begun)
        self._begun = ""
        self._stream.flush()
