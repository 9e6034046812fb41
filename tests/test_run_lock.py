"""Two processes never work in one run's folder; the dead keep none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from minidassl.own.run_lock import FolderInUse, run_lock

import pytest

HOLDER = """
import sys, time
from minidassl.own.run_lock import run_lock
with run_lock(sys.argv[1]):
    if "--with-child" in sys.argv:
        import os
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        print(child, flush=True)
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds the folder until it is killed."""
    started = []

    def start(*flags: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "run"), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        started.append(process)
        while process.stdout.readline().strip() != "held":
            pass
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_that_another_process_holds_is_refused_by_its_name(tmp_path, holder):
    process = holder()
    with pytest.raises(FolderInUse, match=rf"process {process.pid} on .*--output-dir"), run_lock(tmp_path / "run"):
        pass


@pytest.mark.parametrize("flags", [(), ("--with-child",)], ids=["alone", "with a child that lives on"])
def test_a_killed_process_holds_nothing(tmp_path, holder, flags):
    process = holder(*flags)
    process.kill()
    process.wait()
    with run_lock(tmp_path / "run"):
        pass


def test_a_lock_leaves_nothing_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with run_lock(tmp_path / "run"):
            assert os.listdir(tmp_path / "run") == [".lock"]
        assert os.listdir(tmp_path / "run") == []
