"""Which GPUs runs get, how many share one, and what is refused before anything starts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from minidassl.own.jobs import devices, flags
from minidassl.own.jobs.errors import JobsError

import psutil
import pytest
import torch

from trainers.prompting.core import memory

GIB = devices.GIB
NEED = 3 * GIB


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Makes this a host whose nvidia-smi shows GPUs with so many MiB free."""
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    monkeypatch.delenv(devices.THREADS, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)

    def make(*free: int, status: int = 0) -> None:
        tool = tmp_path / "nvidia-smi"
        lines = "".join(f"echo '{index}, {mib}, 81559, NVIDIA H100 80GB HBM3'\n" for index, mib in enumerate(free))
        tool.write_text(f"#!/bin/sh\n{lines}exit {status}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    flags.add_flags(parser)
    return parser.parse_args(words)


def slots(*words: str, small: bool = False, need: int = NEED) -> list[tuple[str, dict]]:
    engine = flags.engine_of(parsed(*words), ".", small, need)
    return [(slot.label, dict(slot.environment)) for slot in engine.slots]


def test_by_default_all_visible_gpus_with_as_many_runs_as_fit_at_most_four(host, capsys):
    host(80000, 7000)
    assert [label for label, _ in slots()] == ["GPU 0", "GPU 1"] * 2
    assert "Runs on GPU 0, GPU 1, 2 runs at once on each" in capsys.readouterr().err
    host(80000, 80000)
    assert len(slots()) == 8
    assert slots()[1] == ("GPU 1", {"CUDA_VISIBLE_DEVICES": "1", "BMIP_RUNS_PER_GPU": "4", "OMP_NUM_THREADS": "2"})


def test_gpus_and_runs_on_each_are_chosen_by_flags(host):
    host(80000, 80000, 80000)
    assert [label for label, _ in slots("--gpus", "2,0", "--per-gpu", "1")] == ["GPU 2", "GPU 0"]
    assert [label for label, _ in slots("--jobs", "2")] == ["GPU 0", "GPU 1"]


@pytest.mark.parametrize(
    "visible, labels",
    [("1", ["GPU 1"]), ("1,0", ["GPU 1", "GPU 0"]), ("", ["CPU"]), ("1,7,0", ["GPU 1"]), ("MIG-4a", ["GPU MIG-4a"])],
)
def test_cuda_visible_devices_is_obeyed_as_cuda_does(host, monkeypatch, visible, labels):
    host(80000, 80000)
    monkeypatch.setenv(devices.VISIBLE, visible)
    words = ("--per-gpu", "1") if labels != ["CPU"] else ()
    assert [label for label, _ in slots(*words)] == labels


def test_without_a_working_gpu_runs_share_the_cores(host):
    host(80000, status=9)
    assert slots("--jobs", "4") == [("CPU", {"OMP_NUM_THREADS": "4"})] * 4
    assert slots() == [("CPU", {})]
    assert len(slots(small=True, need=2**20)) == 16


@pytest.mark.parametrize(
    "words, message",
    [
        (["--gpus", "0,5"], r"--gpus is 0,5, but there is no GPU 5 \(visible: 0, 1\)"),
        (["--gpus", ","], "--gpus is empty"),
        (["--per-gpu", "9"], r"--per-gpu is 9, but GPU 1 has 9.8 GiB free, and a run takes up to 3.0: at most 3"),
        (["--per-gpu", "0"], "--per-gpu is 0; set it to 1 or more"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--retries", "-1"], "--retries is -1; set it to 0 or more"),
        (["--address", "auto"], "--address is auto, but the engine is local; add --engine ray"),
        (["--engine", "ray", "--address", "auto", "--gpus", "0"], "ray start --num-gpus"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(host, words, message):
    host(80000, 10000)
    with pytest.raises(JobsError, match=message):
        slots(*words)


def test_a_host_without_gpus_refuses_flags_about_them(host):
    host(status=1)
    with pytest.raises(JobsError, match="--gpus is 0, but there is no GPU 0 .nvidia-smi shows none"):
        slots("--gpus", "0")
    with pytest.raises(JobsError, match="--per-gpu is 2, but this host shows no GPU"):
        slots("--per-gpu", "2")


def test_more_runs_than_the_memory_holds_are_refused(host, monkeypatch):
    host(status=1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB))
    with pytest.raises(JobsError, match="--jobs is 6.* 3.0 GiB, but this host has 16 GiB: at most 5"):
        slots("--jobs", "6")
    assert len(slots("--jobs", "5")) == 5


def test_runs_that_share_a_gpu_divide_its_free_memory(monkeypatch):
    for name, value in (("memory_reserved", 10), ("memory_allocated", 4), ("mem_get_info", (300, 400))):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    device = torch.device("cuda")
    assert memory.free_memory(device) == 306
    monkeypatch.setenv(devices.SHARERS, "3")
    assert memory.free_memory(device) == 106


def test_the_flags_given_are_given_again():
    words = ["--engine", "ray", "--per-gpu", "2", "--jobs", "3", "--address", "host:1", "--retries", "4"]
    assert flags.given(parsed(*words)) == words
    assert flags.given(parsed()) == []


def test_ray_that_is_not_installed_is_named_with_the_command_that_installs_it(host, monkeypatch):
    host(status=1)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "minidassl.own.jobs.on_ray", raising=False)
    with pytest.raises(
        JobsError, match="--engine is ray, but Ray cannot be imported.*pip install -r requirements-ray.txt"
    ):
        slots("--engine", "ray")


def test_a_node_without_this_project_or_with_another_version_of_it_says_so(tmp_path):
    on_ray, root = pytest.importorskip("minidassl.own.jobs.on_ray", exc_type=JobsError), Path(__file__).parents[1]
    absent = on_ray._attempt_on_node(str(tmp_path / "nowhere"), "", b"", b"", "", 1)
    assert f"has no {tmp_path / 'nowhere'}; all nodes need this project there" in absent
    other = on_ray._attempt_on_node(str(root), "another", b"", b"", "", 1)
    assert f"{root} of " in other and "another version" in other and "update it" in other
