"""A folder has one owner at a time, among all hosts that see it; the dead and the silent lose it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from minidassl.own.jobs import claims
from minidassl.own.jobs.claims import Held, Watch, claim, holder

import pytest

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from minidassl.own.jobs import claims
claims.BEAT = 0.05
with claims.claim(Path(sys.argv[1])) as held:
    print("held", flush=True)
    held.lost.wait(60)
    print("lost", flush=True)
"""


@pytest.fixture
def other(tmp_path):
    """A process of its own that holds the folder until it loses it."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def as_of_another_host(folder: Path) -> claims.Owner:
    """Let a claim look like one of a host whose processes nobody here can see."""
    path = max(folder.glob(".claim-*"))
    content = {**json.loads(path.read_text()), "host": "elsewhere", "machine": "elsewhere"}
    path.write_text(json.dumps(content))
    return holder(folder)


def test_a_held_folder_is_refused_by_process_and_host_and_free_after_it(tmp_path):
    with claim(tmp_path, "GPU 1"), pytest.raises(Held, match=f"process {os.getpid()} on ") as refused:
        claim(tmp_path)
    assert refused.value.owner.where == "GPU 1"
    assert holder(tmp_path) is None and not any(tmp_path.iterdir())


def test_the_claim_of_a_killed_process_of_this_host_is_void_at_once(tmp_path, other):
    with pytest.raises(Held):
        claim(tmp_path / "run")
    other.kill()
    other.wait()
    with claim(tmp_path / "run"):
        assert holder(tmp_path / "run").process == os.getpid()


def test_a_new_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path):
    with claim(tmp_path):
        path = tmp_path / ".claim-1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "started": 1.0}))
        with claim(tmp_path):
            pass


def test_another_hosts_claim_is_void_after_silence_by_the_observers_clock_whatever_its_own_says(tmp_path):
    clock = [0.0]
    watch = Watch(lambda: clock[0])
    with claim(tmp_path):
        owner = as_of_another_host(tmp_path)
        an_hour_off = time.time() + 3600
        os.utime(tmp_path / ".claim-1", (an_hour_off, an_hour_off))
        assert watch.void(owner) == ""
        clock[0] = claims.SILENT - 1
        assert watch.void(owner) == ""
        assert watch.void(claims.replace(owner, beats=owner.beats + 1)) == ""
        clock[0] += claims.SILENT - 1
        assert watch.void(claims.replace(owner, beats=owner.beats + 1)) == ""
        clock[0] += 2
        token = watch.void(claims.replace(owner, beats=owner.beats + 1))
        assert token == owner.token
        with pytest.raises(Held):
            claim(tmp_path)
        with claim(tmp_path, void=token) as taken:
            assert taken.number == 2 and holder(tmp_path).process == os.getpid()


def test_an_owner_that_was_silent_but_lives_notices_that_it_has_lost_its_folder(tmp_path, other):
    folder = tmp_path / "run"
    with claim(folder, void=holder(folder).token):
        assert other.stdout.readline() == "lost\n"


def test_an_owner_renews_its_claim_and_counts_its_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    with claim(tmp_path):
        deadline = time.monotonic() + 20
        while (owner := holder(tmp_path)).beats < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert owner.beats >= 3 and owner.seconds > 0


OF_ANYBODY = dict(token="t", host="h", machine="m", process=1, started=1.0, where="w")


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "\0", '{"token": 1}', json.dumps({**OF_ANYBODY, "seconds": "x"}), "[" * 100_000]
    + [json.dumps({**OF_ANYBODY, "process": [1]})],
    ids=range(8),
)
def test_a_file_that_is_no_claim_is_somebodys_until_it_has_been_silent(tmp_path, content):
    (tmp_path / ".claim-4").write_text(content)
    with pytest.raises(Held, match="unknown host") as refused:
        claim(tmp_path)
    with claim(tmp_path, void=refused.value.owner.token) as taken:
        assert taken.number == 5


@pytest.mark.parametrize("process", [-5, 0, 2**80])
def test_the_claim_of_a_process_that_cannot_be_is_that_of_a_dead_one(tmp_path, process):
    facts = {**OF_ANYBODY, "machine": claims.machine(), "process": process}
    (tmp_path / ".claim-1").write_text(json.dumps(facts))
    with claim(tmp_path):
        pass


def test_of_many_that_take_a_dead_ones_folder_over_one_succeeds(tmp_path):
    for number in range(40):
        folder = tmp_path / str(number)
        with claim(folder):
            token = as_of_another_host(folder).token
            start, won = threading.Barrier(8), []

            def take(folder=folder, token=token, start=start, won=won) -> None:
                start.wait()
                with suppress(Held):
                    won.append(claim(folder, void=token))

            threads = [threading.Thread(target=take) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
