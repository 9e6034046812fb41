"""One job on the host where it runs: claimed, looked at once more, done in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .claims import Held, Owner, claim
from .schedule import Job

LOOK = 0.5  # seconds between looks at a process, whether it has lost its claim or is to stop
DONE, FAILED, HELD, INTERRUPTED = "done", "failed", "held", "interrupted"


class Process(Protocol):
    """What does a job."""

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within so many seconds."""

    def kill(self) -> None:
        """End it at once; a later start goes on from its last state."""

    def failure(self) -> str:
        """After its end: what went wrong, or nothing."""


@dataclass(frozen=True)
class Outcome:
    """Of an attempt: `DONE`, `FAILED` with what the process said, `HELD` by another, or `INTERRUPTED`."""

    kind: str
    text: str = ""
    owner: Owner | None = None
    where: str = ""  # the device that it ran on; empty if it was found done


@dataclass(frozen=True)
class Doing:
    """How jobs are done, for all hosts: picklable, so functions of modules.

    Attributes:
        is_done: whether a job has left its result; may raise ValueError, as a failure of the job.
        start: a process for a job, with environment variables of its slot.
    """

    is_done: Callable[[Any], bool]
    start: Callable[[Any, Mapping[str, str]], Process]


def attempt(
    job: Job,
    doing: Doing,
    where: str,
    environment: Mapping[str, str],
    void: str = "",
    stops: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do a job unless it is done or somebody else is doing it.

    Args:
        where: device, for people.
        void: token of a claim that may be taken over.
        stops: whether the process is to be killed.
    """
    try:
        with claim(job.folder, where, void) as held:
            if doing.is_done(job.work):
                return Outcome(DONE)
            process = doing.start(job.work, environment)
            try:
                while not process.wait(LOOK):
                    if held.lost.is_set() or stops():
                        return Outcome(INTERRUPTED, "another process took the folder over" * held.lost.is_set())
            finally:
                process.kill()
            failure = process.failure()
            return Outcome(FAILED, failure) if failure else Outcome(DONE, where=where)
    except Held as held:
        return Outcome(HELD, str(held), held.owner)
    except OSError as error:
        return Outcome(FAILED, f"{error}; make room or the folder writable, and start again")
    except ValueError as error:
        return Outcome(FAILED, str(error))
