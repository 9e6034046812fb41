"""Copy what is printed into a log file.

Differences from upstream: the console is never closed; a line is in the file as soon as it is complete, so a killed
process loses nothing; everything else one may ask of a stream (``isatty``, ``fileno``, ``encoding``…) is answered by
the console; a second :func:`setup_logger` moves the log instead of writing every line into both files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from .tools import mkdir_if_missing

__all__ = ["Logger", "setup_logger"]


class Logger:
    """A text stream that writes to the current ``sys.stdout`` and to a file.

    As a context manager it closes the file on leaving, and goes on writing to the console.

    Args:
        fpath: log file, overwritten; ``None`` writes to the console alone.
    """

    def __init__(self, fpath: str | os.PathLike[str] | None = None) -> None:
        self.console = sys.stdout
        self.file = None
        if fpath is not None:
            mkdir_if_missing(os.path.dirname(fpath))
            self.file = open(fpath, "w", encoding="utf-8")  # noqa: SIM115  (closed by close)

    def __getattr__(self, name: str) -> Any:
        # Reached only for what this class lacks; without the guard a half-built object would recurse.
        if name == "console":
            raise AttributeError(name)
        return getattr(self.console, name)

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(self, msg: str) -> int:
        """Write to both; complete lines are handed to the operating system at once."""
        self.console.write(msg)
        if self.file is not None:
            self.file.write(msg)
        if "\n" in msg:
            self._push()
        return len(msg)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several strings to both."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush both, the file down to the disk."""
        self._push()
        if self.file is not None:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file and leave the console open."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _push(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()


def setup_logger(output: str | None = None) -> None:
    """Replace ``sys.stdout`` by a :class:`Logger`.

    An existing log is never overwritten: the new one gets the time (``-YYYY-MM-DD-HH-MM-SS``) appended to its name.

    Args:
        output: a path that ends in ``.txt`` or ``.log``, or a folder, in which the file is called ``log.txt``.
            ``None`` does nothing.
    """
    if output is None:
        return
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
        sys.stdout = sys.stdout.console
    is_file = output.endswith((".txt", ".log"))
    sys.stdout = Logger(_unused_name(output if is_file else os.path.join(output, "log.txt")))


def _unused_name(fpath: str) -> str:
    if not os.path.exists(fpath):
        return fpath
    stamped = fpath + time.strftime("-%Y-%m-%d-%H-%M-%S")
    candidate, attempt = stamped, 1
    while os.path.exists(candidate):
        attempt += 1
        candidate = f"{stamped}-{attempt}"
    return candidate
