"""Real runs in real processes: on this host, on Ray, by two commands at once, killed; always the same records."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from minidassl.own.jobs.claims import holder

import pytest

from experiments.tools.cluster import Cluster
from tests.helpers.clone import RUNS, Clone, each_once, left_running, needs_ray, output_of, shared_slots


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
    try:
        cluster = Cluster()
    except RuntimeError as error:
        pytest.skip(f"Ray does not start on this host: {error}")
    cluster.add_node(gpus=1)
    cluster.add_node(gpus=1)
    yield cluster
    cluster.close()


def test_two_slots_of_this_host_give_the_records_of_one(clone, expected):
    text = clone.finish("--gpus", "0,1", "--per-gpu", "1", environment=clone.with_gpus)
    assert "Runs on GPU 0, GPU 1" in text
    assert clone.records() == expected and each_once(clone) and not shared_slots(clone)
    assert {slot.split("/")[-1] for _, slot, *_ in clone.lives()} == {"0", "1"}


def test_two_commands_at_once_share_the_work(clone, expected):
    both = [clone.start("--jobs", "1") for _ in range(2)]
    texts = [output_of(process) for process in both]
    assert clone.records() == expected and each_once(clone)
    assert all("BMIP, short" in text for text in texts)


def test_a_killed_command_leaves_nothing_running_and_another_goes_on(clone, expected):
    process = clone.start("--jobs", "2")
    clone.until_runs_live(1)
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
    assert clone.records() == expected
    # One that was killed between its result and its end has left its claim.
    assert all(holder(path.parent).is_dead for path in clone.folder.rglob(".claim-*"))


def test_an_interrupted_command_ends_its_runs(clone):
    process = clone.start("--jobs", "2")
    clone.until_runs_live(1)
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
    clone.until_runs_live(2)
    cluster.kill_node(node)
    output_of(process)
    assert clone.records() == expected and not left_running(clone)


@needs_ray
def test_a_ray_of_this_host_uses_the_gpus_that_were_chosen(clone, expected):
    clone.finish("--engine", "ray", "--gpus", "1", "--per-gpu", "1", environment=clone.with_gpus)
    assert clone.records() == expected and each_once(clone)
    assert {slot.split("/")[-1] for _, slot, *_ in clone.lives()} == {"1"}


@needs_ray
def test_an_address_without_a_cluster_is_an_error_of_one_line(clone):
    process = clone.start("--engine", "ray", "--address", "127.0.0.1:1")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "--address is 127.0.0.1:1" in text and "Traceback" not in text
    assert "ray start --head" in text
