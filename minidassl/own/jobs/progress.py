"""What runs where, and how long it takes: a bar in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tqdm import tqdm

from .claims import holder
from .schedule import Job, Schedule

UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def duration(seconds: float) -> str:
    """In words, such as "3 hours", in a unit of which there are more than one."""
    number, unit = next((seconds / size, unit) for size, unit in UNITS if seconds >= 1.5 * size or size == 1)
    return f"{number:.0f} {unit}"


class Progress:
    """Counts and tells of jobs; `room` gives the slots there are, for the time left."""

    def __init__(self, room=lambda: 1, file: TextIO | None = None):
        self._room, self._file = room, file or sys.stderr
        self._since: dict[str, float] = {}
        self._running: dict[str, Job] = {}
        self._elsewhere: set[str] = set()
        self._owners: set[str] = set()
        self._spent = self._estimated = 0.0
        self._done = self._failed = 0
        self._counts = ""

    def start(self, schedule: Schedule) -> None:
        self._schedule, self._total = schedule, len(schedule.jobs)
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = tqdm(total=self._total, desc="runs", disable=None, file=self._file, bar_format=form, leave=True)

    def _left(self) -> str:
        """Time left by the estimates, corrected by how wrong they were so far; nothing as long as nothing is known."""
        rest = sum(self._schedule.jobs[name].seconds for name in self._schedule.open)
        if not self._spent or not self._estimated or not rest:
            return ""
        return f"about {duration(rest * self._spent / self._estimated / max(1, self._room()))} left"

    def _say(self, text: str) -> None:
        """In a terminal above the bar."""
        tqdm.write(text, file=self._file)
        self._file.flush()

    def _event(self, kind: str, job: Job, text: str = "") -> None:
        waiting = len(self._schedule.open) - len(self._since) - len(self._elsewhere)
        counts = [f"{len(self._since)} running", f"{waiting} waiting"]
        counts += [f"{self._failed} failed"] * bool(self._failed)
        counts += [f"{len(self._elsewhere)} elsewhere"] * bool(self._elsewhere)
        counts += filter(None, [self._left()])
        if self._bar.disable:
            self._say(f"[{self._done}/{self._total}] {kind} {job.name}{text}; {', '.join(counts)}")
        else:
            self._counts, self._bar.n = ", ".join(counts), self._done
            self.look()

    def look(self) -> None:
        """Show in a terminal what runs where, by the claims; their owners may be on other hosts."""
        if not self._bar.disable:
            owners = ((name, holder(job.folder)) for name, job in self._running.items() if name in self._since)
            running = [f"{owner.where}: {name}" for name, owner in owners if owner is not None]
            self._bar.set_postfix_str("; ".join([self._counts, *running]))

    def submitted(self, job: Job) -> None:
        self._since[job.name], self._running[job.name] = time.monotonic(), job
        self._elsewhere.discard(job.name)

    def done(self, job: Job, where: str) -> None:
        seconds = time.monotonic() - self._since.pop(job.name)
        self._done += 1
        if where:
            self._spent, self._estimated = self._spent + seconds, self._estimated + job.seconds
        self._event("done", job, f" ({seconds:.0f} s on {where})" if where else " (by somebody else)")

    def held(self, job: Job, owner: str) -> None:
        """Another command does this job; said once for each owner."""
        self._since.pop(job.name)
        self._elsewhere.add(job.name)
        if owner not in self._owners:
            self._owners.add(owner)
            self._say(
                f"{job.name} is being done by {owner}; this command does others meanwhile, and then waits for it"
            )

    def again(self, job: Job, text: str) -> None:
        self._since.pop(job.name)
        self._say(f"{job.name} starts again{': ' + text.splitlines()[-1] if text else ''}")

    def failed(self, job: Job, text: str, lost: int) -> None:
        self._since.pop(job.name)
        self._failed += 1
        more = f", and {lost} {'runs need' if lost > 1 else 'run needs'} it" if lost else ""
        self._say(f"failed: {job.name}{more}; all others go on")

    def close(self) -> None:
        self._bar.close()
