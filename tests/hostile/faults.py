"""Kill a process, or fill its disk, at its n-th change of files below a folder."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

KILLED = 137
# Audit events of changes, and where their paths are among the event's arguments.
CHANGES = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.chmod": (0,)}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_with_fault(work: Callable[[], int], folder: Path, kind: str, at: int) -> tuple[int, int]:
    """Run some work in a child process with a fault; gives its exit status and the number of changes it made.

    Args:
        kind: "kill" ends the process, as `kill -9` does; "full" lets this change and all later ones that need space
            fail, as on a full disk; "nearly full" lets all files from here on end after 8 bytes; "none" only counts.
        at: number of the change, from 1.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            counter = _watch(folder, kind, at, writer)
            status = work()
            os.write(writer, b"%d" % counter())
        finally:
            os._exit(status)
    os.close(writer)
    _, code = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return os.waitstatus_to_exitcode(code), int(pipe.read() or 0)


def _watch(folder: Path, kind: str, at: int, pipe: int) -> Callable[[], int]:
    changes = 0

    def is_below(path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(f"{folder}/")

    def hook(event: str, arguments: tuple) -> None:
        nonlocal changes
        writes = event == "open" and is_below(arguments[0]) and (arguments[2] or 0) & WRITING
        if not writes and not any(is_below(arguments[place]) for place in CHANGES.get(event, ())):
            return
        changes += 1
        if kind == "kill" and changes == at:
            os._exit(KILLED)
        if kind == "full" and changes >= at and event in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        if kind == "nearly full" and changes == at:
            # Python ignores the signal that comes with this, and has an OSError in the middle of writing.
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))

    sys.addaudithook(hook)
    return lambda: changes


def snapshot(root: Path) -> dict[str, tuple]:
    """Kind, permissions and content of everything below a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found
