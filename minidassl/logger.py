"""Copy standard output into a log file.

Differences from upstream: the console is never closed; a complete line is written at once, so a killed process loses
nothing; the console provides all other attributes of a stream (``isatty``, ``fileno``, ``encoding``…); a second
:func:`setup_logger` moves the log instead of writing every line into both files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any


class Logger:
    """A text stream that writes to the current ``sys.stdout`` and to a file, until ``close``.

    Args:
        fpath: log file, overwritten; ``None``: the console alone.
    """

    def __init__(self, fpath: str | os.PathLike[str] | None = None) -> None:
        self.console = sys.stdout
        self.file = None
        if fpath is not None:
            os.makedirs(os.path.dirname(fpath) or ".", exist_ok=True)
            self.file = open(fpath, "w", encoding="utf-8")  # noqa: SIM115  (closed by close)

    def __getattr__(self, name: str) -> Any:
        # Called only for attributes that this class lacks; without the guard a half-built object would recurse.
        if name == "console":
            raise AttributeError(name)
        return getattr(self.console, name)

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(self, msg: str) -> int:
        """Write to both, and flush complete lines to the operating system."""
        for stream in filter(None, (self.console, self.file)):
            stream.write(msg)
            if "\n" in msg:
                stream.flush()
        return len(msg)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush both, the file to the disk."""
        self.console.flush()
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file and leave the console open."""
        if self.file is not None:
            self.file.close()
            self.file = None


def setup_logger(output: str | None = None) -> None:
    """Replace ``sys.stdout`` by a :class:`Logger`.

    An existing log is never overwritten: the new one gets the time (``-YYYY-MM-DD-HH-MM-SS``) appended to its name.

    Args:
        output: a path that ends in ``.txt`` or ``.log``, or a folder, for the file ``log.txt``. ``None``: do nothing.
    """
    if output is None:
        return
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
        sys.stdout = sys.stdout.console
    path = unused = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    attempt = 0
    while os.path.exists(unused):
        attempt += 1
        unused = path + time.strftime("-%Y-%m-%d-%H-%M-%S") + (f"-{attempt}" if attempt > 1 else "")
    sys.stdout = Logger(unused)
