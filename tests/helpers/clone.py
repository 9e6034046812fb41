"""A small reproduction in a copy of the repository: its processes, its records, and when its runs lived."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from minidassl.own.jobs.version import parts

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TABLE = ["scripts/reproduce.py", "base2new", "--datasets", "digits", "--methods", "BMIP MaPLe", "--seeds", "1"]
TABLE += ["--tag", "short", "OPTIM.MAX_EPOCH", "1"]
RUNS = 6
FACTS = ("weights_hash", "accuracy", "per_class", "open_world", "data_fingerprint")
# In the process of a run, whose output is a file in its folder: when it lives, and which device it sees.
PROBE = """
import os, socket, threading, time
output, host = os.readlink("/proc/self/fd/1"), socket.gethostname()
path = os.path.join({folder!r}, host + "-" + str(os.getpid()))
slot = "/".join([host, os.environ.get("RAY_RAYLET_PID", ""), os.environ.get("CUDA_VISIBLE_DEVICES", "none")])
def note():
    while True:
        with open(path, "a") as file:
            print(output, slot, time.monotonic(), file=file)
        time.sleep(0.02)
if output.endswith("/.output"):
    threading.Thread(target=note, daemon=True).start()
"""
NVIDIA_SMI = "#!/bin/sh\necho '0, 40000, 40000, Imagined'\necho '1, 40000, 40000, Imagined'\n"
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install -r requirements-ray.txt"
)


class Clone:
    """A copy of the repository, its commands, and what their runs left."""

    def __init__(self, folder: Path):
        self.folder, self.notes = folder / "clone", folder / "notes"
        self.folder.mkdir()
        self.notes.mkdir()
        for name in parts(ROOT):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.folder / name)
        (folder / "probe.py").write_text(PROBE.format(folder=str(self.notes)))
        self.command = [sys.executable, *TABLE, "--import", str(folder / "probe.py")]
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        tool = bin_folder / "nvidia-smi"
        tool.write_text(NVIDIA_SMI)
        tool.chmod(0o755)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.with_gpus = {**self.environment, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}

    def start(self, *flags: str, environment: dict | None = None) -> subprocess.Popen:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        command = [*self.command, *flags]
        return subprocess.Popen(command, cwd=self.folder, env=environment or self.environment, **pipes)

    def finish(self, *flags: str, environment: dict | None = None) -> str:
        return output_of(self.start(*flags, environment=environment))

    def records(self) -> dict[str, dict]:
        """What the runs computed, by their folders."""
        output = self.folder / "output"
        found = {
            path.parent.relative_to(output).as_posix(): json.loads(path.read_text())
            for path in output.rglob("result.json")
        }
        return {name: {fact: record[fact] for fact in FACTS} for name, record in found.items()}

    def lives(self) -> list[tuple[str, str, float, float]]:
        """Of each process that was a run: its folder, its slot, and when it was first and last seen."""
        found = []
        for path in self.notes.iterdir():
            rows = [line.split() for line in path.read_text().splitlines()]
            found.append((rows[0][0], rows[0][1], float(rows[0][2]), float(rows[-1][2])))
        return found

    def until_runs_live(self, least: int) -> None:
        """Wait until as many have lived."""
        deadline = time.monotonic() + 300
        while len(list(self.notes.iterdir())) < least:
            assert time.monotonic() < deadline, "no run has started"
            time.sleep(0.1)

    def clear(self) -> None:
        shutil.rmtree(self.folder / "output", ignore_errors=True)
        shutil.rmtree(self.notes)
        self.notes.mkdir()


def output_of(process: subprocess.Popen) -> str:
    """What a command prints; it must succeed."""
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text[-3000:]
    return text


def each_once(clone: Clone) -> bool:
    folders = [folder for folder, *_ in clone.lives()]
    return len(folders) == len(set(folders)) == RUNS


def shared_slots(clone: Clone) -> list[tuple]:
    """Pairs of runs that lived at the same time in the same slot."""
    by_slot = defaultdict(list)
    for folder, slot, first, last in clone.lives():
        by_slot[slot].append((first, last, folder))
    return [
        pair for lives in by_slot.values() for pair in zip(sorted(lives), sorted(lives)[1:]) if pair[1][0] < pair[0][1]
    ]


def left_running(clone: Clone) -> list[psutil.Process]:
    """Processes in the clone's folder that are alive some seconds later."""

    def there() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.cwd().startswith(str(clone.folder)):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    return psutil.wait_procs(there(), timeout=15)[1]
