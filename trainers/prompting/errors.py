"""Errors about the user's input, with the remedy, worded by each front end."""

from __future__ import annotations

import contextlib
import difflib
import errno
from collections.abc import Callable, Iterable, Iterator
from string import Formatter

FEW = 6  # names that a message lists


class InputError(ValueError):
    """A configuration value, file or folder that cannot be used.

    The message names the key or path, the value found, the allowed values, and the remedy. Front ends print it without
    a traceback.
    """


class SettingError(InputError):
    """An InputError about settings. Each front end words it with its own names for them.

    Args:
        text: the message, with settings' field names in braces, and empty braces for the `values`.
        values: in the order of the empty braces.
        owner: the settings class of the fields; None for fields of the run, such as `backbone`, and for unique names.
    """

    def __init__(self, text: str, *values: object, owner: type | None = None):
        self.text, self.values, self.owner = text, values, owner
        super().__init__(self.worded(lambda field, owner: field))

    def worded(self, name_of: Callable[[str, type | None], str]) -> str:
        """The message with `name_of(field, owner)` for each field."""
        fields = {field for _, field, _, _ in Formatter().parse(self.text) if field}
        return self.text.format(*self.values, **{field: name_of(field, self.owner) for field in fields})


def nearest(name: object, known: Iterable[str], where: str) -> str:
    """The end of a message about an unknown name: the most similar known one; all if they are few or none is given.

    Args:
        where: the user finds the list of many names, as the subject of "lists all".
    """
    known = list(known)
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    guess = f"Do you mean {by_lower[close[0]]}? " if close else ""
    if name and len(known) > FEW:
        return f"{guess}{where} lists all."
    return f"{guess}Choose one of {', '.join(known)}." if known else "There are none."


def check_name(what: str, name: str | None, known: Iterable[str], where: str) -> str:
    """The name, if it is known; raises InputError with the `nearest` one, and `where` all are listed, if it is not."""
    known = list(known)
    if name not in known:
        raise InputError(f"{what} is {repr(name) if name else 'missing'}. {nearest(name, known, where)}")
    return name


@contextlib.contextmanager
def worded(name_of: Callable[[str, type | None], str], before: str = "") -> Iterator[None]:
    """Word the SettingErrors of a block with a front end's names; `before` prefixes the message of any InputError."""
    try:
        yield
    except SettingError as error:
        raise InputError(before + error.worded(name_of)) from error
    except InputError as error:
        if before:
            raise InputError(before + str(error)) from error
        raise


def disk_error(error: OSError, folder: str) -> str:
    """Path, cause and remedy of a system's error, in one line; errors with a message of their own keep it.

    Args:
        folder: that was written to, for errors without a path.
    """
    if error.errno is None:
        return str(error)
    return f"{error.filename or folder}: {error.strerror}. {_REMEDIES.get(error.errno, 'Check this path.')}"


_WRITABLE = "Make it readable and writable, or choose another place."
_SPACE = "Free space on its disk, or choose another folder; a run goes on from its last saved epoch."
_REMEDIES = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _WRITABLE)
_REMEDIES |= dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _SPACE)
_REMEDIES |= {errno.ENAMETOOLONG: "Choose a shorter name.", errno.EISDIR: "Name a file."}
_REMEDIES |= dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "A file is where a folder is needed; choose another folder.")
