"""Which job is next: longest first, and none before the one that it needs. Knows neither devices nor clocks."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """Work whose state is a folder."""

    name: str
    folder: Path
    work: Any  # for the function that does it, on any host: picklable
    seconds: float = 0.0  # estimated
    needs: str | None = None  # the name of a job that comes first


class Schedule:
    """Of several jobs that can start, the one with the longest chain of jobs after it; of equals, the first given.

    Raises ValueError for two jobs of one name.
    """

    def __init__(self, jobs: Iterable[Job]):
        self.jobs = {}
        for job in jobs:
            if self.jobs.setdefault(job.name, job) is not job:
                raise ValueError(f"Two jobs are called {job.name}.")
        self._after = defaultdict(list)
        for job in self.jobs.values():
            if job.needs in self.jobs:
                self._after[job.needs].append(job.name)
        self._order = {name: number for number, name in enumerate(self.jobs)}
        self._chain = {}
        self._ready: list[tuple[float, int, str]] = []
        self.open = set(self.jobs)
        for job in self.jobs.values():
            if job.needs not in self.jobs:
                self.put_back(job)

    def chain(self, name: str) -> float:
        """Seconds of a job and of the longest chain of those that need it."""
        if name not in self._chain:
            self._chain[name] = self.jobs[name].seconds + max(map(self.chain, self._after[name]), default=0.0)
        return self._chain[name]

    def next(self) -> Job | None:
        """Take the next job; None if all that can start have been taken."""
        return self.jobs[heapq.heappop(self._ready)[2]] if self._ready else None

    def put_back(self, job: Job) -> None:
        """One that was taken can start after all, or again."""
        heapq.heappush(self._ready, (-self.chain(job.name), self._order[job.name], job.name))

    def done(self, job: Job) -> None:
        """Those that need it can start."""
        self.open.discard(job.name)
        for name in self._after[job.name]:
            self.put_back(self.jobs[name])

    def failed(self, job: Job) -> list[Job]:
        """Neither it nor what needs it will be done; gives the latter."""
        self.open.discard(job.name)
        lost = [self.jobs[name] for name in self._after[job.name]]
        return [*lost, *(further for one in lost for further in self.failed(one))]

    def bound(self, devices: int) -> float:
        """No plan on so many devices is shorter, in seconds."""
        total = sum(job.seconds for job in self.jobs.values())
        return max(total / devices, max(map(self.chain, self.jobs), default=0.0))
