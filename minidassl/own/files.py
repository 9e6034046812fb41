"""Atomic writing of files and folders. Needs Python's standard library only."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Union

Content = Union[str, bytes, Callable[[BinaryIO], object]]


def without_part(name: str) -> str:
    """The name that an unfinished file of `write_whole` was to get; any other name as it is."""
    return re.sub(r"\.\d+\.part$", "", name)


def write_whole(path: str | os.PathLike[str], content: Content) -> None:
    """Write a file atomically and durably: on a failure it is as it was before.

    The bytes go to ``<name>.<process id>.part`` in the same folder, which is renamed at the end and removed on a
    failure. Several processes may write the same file at once; the last one wins.

    Args:
        path: missing parent folders are created.
        content: bytes, text (written in UTF-8), or a function that writes to the open binary file.
    """
    path = os.fspath(path)
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    # The same folder, because a rename is atomic only within one file system.
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
    except BaseException as error:
        with suppress(OSError):
            os.remove(part)
        if isinstance(error, OSError) and error.filename is None:  # a write's error names no file
            error.filename = path
        raise
    # Sync the folder too, so that the new name survives a power cut. Systems that cannot open a folder go without.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path: str | os.PathLike[str], is_folder: bool = False) -> None:
    """Raise the OSError now that writing a file, or into a folder, would raise later; missing folders will be made."""
    path = Path(path).absolute()
    if not is_folder:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path = path.parent
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes ``folder`` at the end of the block, and is removed if that fails.

    Missing parents are created. An ``OSError`` if another process has written ``folder`` meanwhile.
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
