"""Files and folders that are written whole or not at all. Needs Python's own library only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Union

Content = Union[str, bytes, Callable[[BinaryIO], object]]


def write_whole(path: str | os.PathLike[str], content: Content) -> None:
    """Write a file that is complete under its name, and on the disk, or as it was before.

    The bytes go to a neighbour, ``<name>.<process id>.part``, which is renamed at the end and removed on a failure. So
    processes may write the same file at once; the last one wins.

    Args:
        path: missing parent folders are created.
        content: bytes, text (written in UTF-8), or a function that writes to the open binary file.

    Raises:
        OSError: the file cannot be written. What ``content`` raises is passed on.
    """
    path = os.fspath(path)
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system.
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise
    # The new name itself must survive a power cut too. Not every system can open a folder; the file is safe anyway.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder that becomes ``folder`` when the block ends, and is removed if it fails.

    Args:
        folder: must not exist at the end, or be empty. Missing parents are created.

    Raises:
        OSError: it cannot be written, or another process has written it meanwhile.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o777 & ~umask)  # mkdtemp makes folders that only their owner can read
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
