"""Jobs are done once, longest first, on the slots there are, whatever fails or is interrupted."""

from __future__ import annotations

import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minidassl.own.jobs import attempt, drive, progress
from minidassl.own.jobs.attempt import Doing
from minidassl.own.jobs.claims import claim
from minidassl.own.jobs.devices import Slot
from minidassl.own.jobs.local import Local
from minidassl.own.jobs.progress import Progress
from minidassl.own.jobs.schedule import Job, Schedule

import pytest


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Nobody waits for long."""
    monkeypatch.setattr(attempt, "LOOK", 0.01)
    monkeypatch.setattr(drive, "POLL", 0.02)
    monkeypatch.setattr(drive, "AGAIN", 0.05)


class Run:
    """Work in memory: how long it takes, and how often it fails; counts its starts and who ran beside it."""

    lock = threading.Lock()
    live: dict[str, int] = {}
    shared: list[str] = []

    def __init__(self, seconds: float = 0.0, fails: int = 0):
        self.seconds, self.fails, self.started, self.is_done, self.killed = seconds, fails, 0, False, False

    def start(self, environment) -> Run:
        self.started += 1
        self.slot, self.end = environment.get("SLOT"), time.monotonic() + self.seconds
        with self.lock:
            self.live[self.slot] = self.live.get(self.slot, 0) + 1
            if self.live[self.slot] > 1:
                self.shared.append(self.slot)
        self.alive = True
        return self

    def wait(self, seconds: float) -> bool:
        time.sleep(min(seconds, max(0.0, self.end - time.monotonic())))
        return time.monotonic() >= self.end

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            with self.lock:
                self.live[self.slot] -= 1
            self.killed = time.monotonic() < self.end

    def failure(self) -> str:
        if self.started <= self.fails:
            return f"attempt {self.started} failed"
        self.is_done = True
        return ""


DOING = Doing(lambda run: run.is_done, lambda run, environment: run.start(environment))


def job(tmp_path: Path, name: str, run: Run | None = None, seconds: float = 1.0, needs: str | None = None) -> Job:
    return Job(name, tmp_path / name, run or Run(), seconds, needs)


def do(jobs: list[Job], slots: int = 1, retries: int = 0) -> tuple[list, str]:
    """Failures, and what was printed."""
    engine = Local([Slot(f"slot {number}", {"SLOT": str(number)}) for number in range(slots)])
    file = io.StringIO()
    return drive.drive(jobs, DOING, engine, retries, Progress(engine.room, file)), file.getvalue()


def order(jobs: list[Job]) -> list[str]:
    schedule, names = Schedule(jobs), []
    while (one := schedule.next()) is not None:
        names.append(one.name)
        schedule.done(one)
    return names


def test_longest_first_where_what_follows_counts_and_none_before_what_it_needs(tmp_path):
    jobs = [
        job(tmp_path, "short", seconds=1),
        job(tmp_path, "long", seconds=5),
        job(tmp_path, "training", seconds=3),
        job(tmp_path, "test", seconds=4, needs="training"),
        job(tmp_path, "another short", seconds=1),
        job(tmp_path, "of a model that is there", seconds=2, needs="elsewhere"),
    ]
    assert order(jobs) == ["training", "long", "test", "of a model that is there", "short", "another short"]


def test_the_bound_is_the_longest_chain_or_an_equal_share():
    jobs = [Job(str(number), Path(), None, 1.0) for number in range(8)]
    chain = [Job("a", Path(), None, 3.0), Job("b", Path(), None, 2.0, "a")]
    assert Schedule(jobs).bound(4) == 2.0
    assert Schedule([*jobs, *chain]).bound(4) == 5.0


def test_every_job_runs_once_and_no_two_share_a_slot(tmp_path):
    Run.shared.clear()
    jobs = [job(tmp_path, str(number), Run(0.01)) for number in range(40)]
    failures, _ = do(jobs, slots=4)
    assert not failures and [one.work.started for one in jobs] == [1] * 40 and Run.shared == []


def test_two_commands_on_one_folder_share_the_work(tmp_path):
    jobs = [job(tmp_path, str(number), Run(0.02)) for number in range(20)]
    with ThreadPoolExecutor(2) as both:
        results = [future.result() for future in [both.submit(do, jobs, 2) for _ in range(2)]]
    assert [failures for failures, _ in results] == [[], []]
    assert [one.work.started for one in jobs] == [1] * 20


def test_a_job_of_somebody_else_is_waited_for_and_taken_over_when_it_is_given_up(tmp_path):
    first, mine = job(tmp_path, "theirs", seconds=9), job(tmp_path, "mine")
    held = claim(first.folder)
    with ThreadPoolExecutor(1) as pool, held:
        command = pool.submit(do, [first, mine])
        deadline = time.monotonic() + 20
        while not mine.work.is_done and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mine.work.is_done and first.work.started == 0 and not command.done()
        held.__exit__()
        failures, text = command.result()
    assert not failures and first.work.started == 1
    assert re.search(r"theirs is being done by process \d+ on .*; this command does others meanwhile", text)
    assert text.count("is being done by") == 1


def test_a_failed_job_stops_what_needs_it_and_nothing_else(tmp_path):
    jobs = [
        job(tmp_path, "training", Run(fails=9)),
        job(tmp_path, "test", needs="training"),
        job(tmp_path, "other"),
    ]
    (failure,), text = do(jobs)
    assert (failure.job.name, failure.text) == ("training", "attempt 1 failed")
    assert [one.name for one in failure.lost] == ["test"]
    assert [one.work.started for one in jobs] == [1, 0, 1]
    assert "failed: training, and 1 run needs it; all others go on" in text


def test_retries_are_further_attempts(tmp_path):
    twice, thrice = job(tmp_path, "twice", Run(fails=1)), job(tmp_path, "thrice", Run(fails=2))
    (failure,), text = do([twice, thrice], retries=1)
    assert failure.job is thrice and failure.text == "attempt 2 failed"
    assert twice.work.is_done and "twice starts again: attempt 1 failed" in text


def test_an_engine_that_is_closed_kills_what_runs(tmp_path):
    endless = job(tmp_path, "endless", Run(1000))
    engine = Local([Slot("slot")])
    future = engine.submit(endless, DOING, "")
    while not endless.work.started:
        time.sleep(0.01)
    engine.close()
    assert future.result().kind == attempt.INTERRUPTED and endless.work.killed
    assert not [*endless.folder.glob(".claim*")]


def test_a_claim_that_is_lost_ends_the_run_here(tmp_path, monkeypatch):
    monkeypatch.setattr("minidassl.own.jobs.claims.BEAT", 0.02)
    endless = job(tmp_path, "endless", Run(1000))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(attempt.attempt, endless, DOING, "", {})
        while not endless.work.started:
            time.sleep(0.01)
        (endless.folder / ".claim-1").rename(endless.folder / ".claim-2")
        (endless.folder / ".claim-2").write_text("somebody else")
        assert future.result().kind == attempt.INTERRUPTED and endless.work.killed


def test_a_folder_that_cannot_be_written_fails_by_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    jobs = [Job("blocked", tmp_path / "file" / "run", Run()), job(tmp_path, "other")]
    (failure,), _ = do(jobs)
    assert failure.job.name == "blocked" and "make room or the folder writable" in failure.text
    assert jobs[1].work.is_done


def test_every_event_is_a_line_with_counts_and_the_time_left(tmp_path):
    jobs = [job(tmp_path, str(number), Run(0.02), seconds=60) for number in range(3)]
    _, text = do(jobs)
    lines = text.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("[3/3] done 2 (0 s on slot 0); 0 running, 0 waiting")
    assert re.match(r"\[1/3\] done 0 \(0 s on slot 0\); \d running, \d waiting, about \d+ seconds left", lines[0])


def test_a_terminal_shows_what_runs_where(tmp_path, monkeypatch):
    shown = []

    class Terminal(progress.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"disable": False})

        def set_postfix_str(self, text: str) -> None:
            shown.append(text)

    monkeypatch.setattr(progress, "tqdm", Terminal)
    do([job(tmp_path, str(number), Run(0.2)) for number in range(3)], slots=2)
    assert any("slot 0: " in text and "slot 1: " in text for text in shown)
    assert any(text.startswith("1 running, 1 waiting") for text in shown)


def test_two_jobs_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same"):
        Schedule([job(tmp_path, "same"), job(tmp_path, "same")])
