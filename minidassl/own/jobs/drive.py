"""From jobs to results: the loop that keeps an engine's slots full."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol

from .attempt import DONE, FAILED, HELD, Doing, Outcome
from .claims import Watch
from .progress import Progress
from .schedule import Job, Schedule

POLL = 1.0  # seconds between looks at the engine
AGAIN = 5.0  # seconds until another look at what somebody else is doing
# Ends of a run from outside, such as by the death of a node, that are no failures of the run.
MOST_INTERRUPTIONS = 10


class Engine(Protocol):
    """Where jobs run."""

    def room(self) -> int:
        """Jobs that can run at once, now."""

    def submit(self, job: Job, doing: Doing, void: str) -> Future[Outcome]:
        """Attempt a job; `void` is the token of a claim that may be taken over."""

    def close(self) -> None:
        """Kill what runs, and give everything back."""


@dataclass(frozen=True)
class Failure:
    """A job that failed for good, what it said, and those that needed it."""

    job: Job
    text: str
    lost: tuple[Job, ...] = ()


def drive(jobs: Iterable[Job], doing: Doing, engine: Engine, retries: int, progress: Progress) -> list[Failure]:
    """Do all jobs that can be done; gives those that failed.

    Args:
        retries: further attempts of a job that failed.
    """
    schedule, watch = Schedule(jobs), Watch()
    running: dict[Future[Outcome], Job] = {}
    elsewhere: dict[str, tuple[float, Job, str]] = {}  # when to look again, and the claim to take over
    failed_before, interrupted = Counter(), Counter()
    failures = []
    progress.start(schedule)
    try:
        while schedule.open:
            now = time.monotonic()
            voids = {}
            for name, (when, job, void) in [*elsewhere.items()]:
                if when <= now:
                    del elsewhere[name]
                    voids[name] = void
                    schedule.put_back(job)
            while len(running) < engine.room() and (job := schedule.next()) is not None:
                progress.submitted(job)
                running[engine.submit(job, doing, voids.pop(job.name, ""))] = job
            if not running:  # others do the rest, or there is no room
                time.sleep(POLL)
            progress.look()
            for future in wait(running, POLL, FIRST_COMPLETED).done:
                job, outcome = running.pop(future), future.result()
                if outcome.kind == DONE:
                    schedule.done(job)
                    progress.done(job, outcome.where)
                elif outcome.kind == HELD:
                    elsewhere[job.name] = time.monotonic() + AGAIN, job, watch.void(outcome.owner)
                    progress.held(job, outcome.text)
                elif outcome.kind != FAILED and interrupted[job.name] < MOST_INTERRUPTIONS:
                    interrupted[job.name] += 1
                    progress.again(job, outcome.text)
                    schedule.put_back(job)
                elif failed_before[job.name] < retries:
                    failed_before[job.name] += 1
                    progress.again(job, outcome.text)
                    schedule.put_back(job)
                else:
                    failures.append(Failure(job, outcome.text, tuple(schedule.failed(job))))
                    progress.failed(job, outcome.text, len(failures[-1].lost))
    finally:
        engine.close()
        progress.close()
    return failures
