"""A claim on a folder, which processes of all hosts of one file system respect, whatever their clocks say.

A claim is a file that its owner creates exclusively and writes anew every few seconds. The claim of a dead process of
this host is void at once. That of another host is void after nobody has seen it change for `SILENT` seconds of the
observer's own clock, since clocks of hosts differ. A successor creates a claim of the next number, so of several
observers one succeeds; a former owner that was silent but alive sees the higher number, and gives up.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from ..files import write_whole

BEAT = 10.0  # seconds from one renewal to the next
SILENT = 150.0  # seconds without any; file systems of clusters show changes up to a minute late
_NAME = re.compile(r"\.claim-(\d+)")


@dataclass(frozen=True)
class Owner:
    """Who holds a folder, as the file of the claim has it."""

    token: str
    host: str
    machine: str  # boot and process namespace: whether numbers of processes are comparable
    process: int
    started: float  # of the process, since numbers of processes are used again
    where: str  # device, for people
    beats: int = 0
    seconds: float = 0.0  # since the claim, by the owner's clock

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def is_dead(self) -> bool:
        """Whether it is known to be: a process of this machine that is there no more."""
        return self.machine == machine() and _start_of(self.process) != self.started


class Held(Exception):
    """Somebody else holds the folder."""

    def __init__(self, owner: Owner | None):
        super().__init__(str(owner or "another process"))
        self.owner = owner


@functools.cache
def machine() -> str:
    """Of this process: processes of the same have numbers that can be compared."""
    parts = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        with suppress(OSError):
            parts.append(read())
    return " ".join(parts)


def _start_of(process: int) -> float | None:
    with suppress(psutil.Error, ValueError, OverflowError):
        found = psutil.Process(process)
        if found.status() != psutil.STATUS_ZOMBIE:
            return found.create_time()
    return None


def _claims(folder: Path) -> dict[int, Path]:
    try:
        return {int(found[1]): folder / name for name in os.listdir(folder) if (found := _NAME.fullmatch(name))}
    except FileNotFoundError:
        return {}


def _read(path: Path) -> Owner | None:
    """None where it is gone. What is no claim is one of somebody unknown, who never renews it."""
    with suppress(OSError):
        text = path.read_text(errors="replace")
        try:
            return _owner(**json.loads(text))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return Owner(f"unreadable {text[:80]}", "an unknown host", "", 0, 0.0, "")
    return None


def _owner(**facts: object) -> Owner:
    """Of a file that anybody may have written: each fact has its type."""
    kinds = dict(process=int, beats=int, started=float, seconds=float)
    return Owner(**{name: kinds.get(name, str)(value) for name, value in facts.items()})


def _create(path: Path, owner: Owner) -> None:
    """With its content from the first moment; FileExistsError if it is there."""
    part = path.with_name(f"{path.name}.{owner.token}.part")
    part.write_text(json.dumps(asdict(owner)))
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with open(path, "x") as file:
            file.write(json.dumps(asdict(owner)))
    finally:
        part.unlink()


def holder(folder: Path) -> Owner | None:
    """Who holds a folder, dead or alive; None where nobody does."""
    claims = _claims(folder)
    return _read(claims[max(claims)]) if claims else None


class Claim:
    """A held folder, renewed by a thread until it is released; a context manager.

    Attributes:
        lost: set as soon as somebody else has taken the folder over.
    """

    def __init__(self, folder: Path, number: int, owner: Owner):
        self.folder, self.number, self.owner = folder, number, owner
        self.lost, self._released = threading.Event(), threading.Event()
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    @property
    def path(self) -> Path:
        return self.folder / f".claim-{self.number}"

    def _is_mine(self) -> bool:
        claims = _claims(self.folder)
        found = _read(claims[max(claims)]) if claims else None
        return found is not None and found.token == self.owner.token

    def _renew(self) -> None:
        while not self._released.wait(BEAT):
            seconds = round(time.monotonic() - self._since, 1)
            self.owner = replace(self.owner, beats=self.owner.beats + 1, seconds=seconds)
            with suppress(OSError):  # of a full disk or a network that is down: silent for a while
                if not self._is_mine():
                    self.lost.set()
                    return
                write_whole(self.path, json.dumps(asdict(self.owner)))

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if self._is_mine():
                self.path.unlink()


def claim(folder: Path, where: str = "", void: str = "") -> Claim:
    """Claim a folder, which is created if it is missing.

    Args:
        where: device, for people.
        void: token of a claim that the caller has watched in silence.

    Raises:
        Held: somebody else holds it.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _claims(folder)
    last = max(before, default=0)
    former = _read(before[last]) if before else None
    if former is not None and not (former.is_dead or former.token == void):
        raise Held(former)
    process = os.getpid()
    owner = Owner(uuid.uuid4().hex, socket.gethostname(), machine(), process, _start_of(process) or 0.0, where)
    new = Claim(folder, last + 1, owner)
    try:
        _create(new.path, owner)
    except FileExistsError:
        raise Held(_read(new.path)) from None
    now = _claims(folder)
    still = _read(now[last]) if last in now else None
    # Between the look and the claim, others may have taken the former over, been done, and claimed the folder again.
    if max(now) != new.number or (still is not None and (former is None or still.token != former.token)):
        new.path.unlink()
        raise Held(still)
    for number, path in now.items():
        if number < new.number:
            path.unlink(missing_ok=True)
    return new


class Watch:
    """Tells which claims of others have been silent for too long, by this process's own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._seen = clock, {}

    def void(self, owner: Owner | None) -> str:
        """The token of a claim to take over, else nothing; to be called at every look at it."""
        if owner is None:
            return ""
        beats, since = self._seen.get(owner.token, (None, 0.0))
        if beats != owner.beats:
            beats, since = owner.beats, self._clock()
            self._seen[owner.token] = beats, since
        return owner.token if self._clock() - since > SILENT else ""
