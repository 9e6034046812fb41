"""The engine of one host: threads that wait for processes, one for each slot."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .attempt import Doing, Outcome, attempt
from .devices import Slot
from .schedule import Job


class Local:
    """Runs jobs in this host's slots."""

    def __init__(self, slots: Sequence[Slot]):
        self.slots = slots
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._pool = ThreadPoolExecutor(len(slots))
        self._stop = threading.Event()

    def __str__(self) -> str:
        labels = [*dict.fromkeys(slot.label for slot in self.slots)]
        each = len(self.slots) // len(labels)
        at_once = f", {each} runs at once" + " on each" * (len(labels) > 1) if each > 1 else ""
        return f"{', '.join(labels)}{at_once}"

    def room(self) -> int:
        """Jobs that can run at once."""
        return len(self.slots)

    def submit(self, job: Job, doing: Doing, void: str) -> Future[Outcome]:
        return self._pool.submit(self._attempt, job, doing, void)

    def _attempt(self, job: Job, doing: Doing, void: str) -> Outcome:
        slot = self._free.get()
        try:
            return attempt(job, doing, slot.label, slot.environment, void, self._stop.is_set)
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Kill what runs; the same command goes on from its last state."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
