"""One process at a time works in a run's folder. Needs Python's standard library only."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no locks of this kind, and goes without
    fcntl = None

LOCK_FILE = ".lock"


class FolderInUse(ValueError):
    """Another process works in the folder; the message names both."""


@contextmanager
def run_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a run's folder, which is created if it is missing, for the block.

    The lock is the kernel's, so it ends with its process however that ends. It is of the process alone: unlike
    `flock`'s, it does not live on in workers that outlive a killed run.

    Raises:
        FolderInUse: another process holds it.
        OSError: the folder cannot be written.
    """
    path = Path(folder, LOCK_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    while True:
        file = open(path, "a+")  # noqa: SIM115  (open for the whole block, and closed on every way out of it)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                break
        except FileNotFoundError:
            pass  # its owner removed it after it was opened here
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise FolderInUse(
                f"{folder} is in use by {owner}. Wait for it, stop it, or choose another --output-dir."
            ) from error
        file.close()
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        file.close()
