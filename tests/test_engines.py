"""Real runs in real processes: on this host, on Ray, by two commands at once, killed; always the same records."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from experiments.tools.cluster import Cluster

ROOT = Path(__file__).parents[1]
COPIED = ("train.py", "trainers", "minidassl", "datasets", "experiments", "configs", "scripts")
TABLE = ["scripts/reproduce.py", "base2new", "--datasets", "digits", "--methods", "BMIP MaPLe", "--seeds", "1"]
TABLE += ["--tag", "short", "OPTIM.MAX_EPOCH", "1"]
RUNS = 6
FACTS = ("weights_hash", "accuracy", "per_class", "open_world", "data_fingerprint")
# In the process of a run, whose output is a file in its folder: when it lives, and which device it sees.
PROBE = """
import os, threading, time
output, path = os.readlink("/proc/self/fd/1"), os.path.join({folder!r}, str(os.getpid()))
slot = os.environ.get("RAY_RAYLET_PID", "") + "/" + os.environ.get("CUDA_VISIBLE_DEVICES", "none")
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
        for name in COPIED:
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


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def expected(clone):
    """The records of one run after another."""
    clone.finish("--jobs", "1")
    records = clone.records()
    assert len(records) == RUNS and each_once(clone) and not shared_slots(clone)
    clone.clear()
    return records


@pytest.fixture(autouse=True)
def cleared(clone, expected):
    yield
    clone.clear()


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    cluster.add_node(gpus=1)
    cluster.add_node(gpus=1)
    yield cluster
    cluster.close()


def test_two_slots_of_this_host_give_the_records_of_one(clone, expected):
    text = clone.finish("--gpus", "0,1", "--per-gpu", "1", environment=clone.with_gpus)
    assert "Runs on GPU 0, GPU 1" in text
    assert clone.records() == expected and each_once(clone) and not shared_slots(clone)
    assert {slot for _, slot, *_ in clone.lives()} == {"/0", "/1"}


def test_two_commands_at_once_share_the_work(clone, expected):
    both = [clone.start("--jobs", "1") for _ in range(2)]
    texts = [output_of(process) for process in both]
    assert clone.records() == expected and each_once(clone)
    assert all("BMIP, short" in text for text in texts)


def test_a_killed_command_leaves_nothing_running_and_another_goes_on(clone, expected):
    process = clone.start("--jobs", "2")
    deadline = time.monotonic() + 120
    while not list(clone.notes.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.kill()
    process.communicate()
    assert not left_running(clone)
    assert (
        "0 running"
        in subprocess.run(
            [sys.executable, "scripts/status.py"], cwd=clone.folder, capture_output=True, text=True, check=True
        ).stdout
    )
    clone.finish("--jobs", "2")
    assert clone.records() == expected and not [*clone.folder.rglob(".claim-*")]


def test_an_interrupted_command_ends_its_runs(clone):
    process = clone.start("--jobs", "2")
    deadline = time.monotonic() + 120
    while not list(clone.notes.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in text and not left_running(clone)


@needs_ray
def test_two_nodes_of_ray_give_the_records_of_one_process(clone, expected, cluster):
    text = clone.finish("--engine", "ray", "--address", cluster.address, environment=cluster.environment)
    assert "Runs on Ray on 3 nodes, 2 runs at once on 2 GPUs" in text
    assert clone.records() == expected and each_once(clone) and not shared_slots(clone)
    assert len({slot for _, slot, *_ in clone.lives()}) == 2


@needs_ray
def test_a_node_that_dies_costs_the_runs_on_it_and_no_more(clone, expected, cluster):
    node = cluster.add_node(gpus=1)
    process = clone.start("--engine", "ray", "--address", cluster.address, environment=cluster.environment)
    deadline = time.monotonic() + 120
    while len(list(clone.notes.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    cluster.kill_node(node)
    output_of(process)
    assert clone.records() == expected and not left_running(clone)


@needs_ray
def test_an_address_without_a_cluster_is_an_error_of_one_line(clone):
    process = clone.start("--engine", "ray", "--address", "127.0.0.1:1")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "--address is 127.0.0.1:1" in text and "Traceback" not in text
    assert "ray start --head" in text
