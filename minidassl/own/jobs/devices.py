"""The GPUs of this host, without a library that would initialise CUDA, and the slots that runs take turns in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import psutil

from ..text import words
from .errors import JobsError

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
# Runs on the same GPU, itself included, for those who divide its free memory (trainers/prompting/core/memory.py).
SHARERS = "BMIP_RUNS_PER_GPU"
MOST_PER_GPU = 4
GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One of this host's, by the name that CUDA_VISIBLE_DEVICES takes."""

    name: str
    free: int  # bytes
    total: int
    model: str = ""  # as PyTorch has it, too


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    label: str  # for people
    environment: Mapping[str, str] = field(default_factory=dict)


def _all_gpus() -> list[Gpu]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index,memory.free,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        rows = [[word.strip() for word in line.split(",")] for line in lines if line.strip()]
        return [Gpu(index, int(free) * 2**20, int(total) * 2**20, model) for index, free, total, model in rows]
    except (subprocess.SubprocessError, OSError, ValueError):
        return []  # a driver that does not work: PyTorch finds no GPU either


def visible_gpus() -> list[Gpu]:
    """Those of CUDA_VISIBLE_DEVICES, else all; others than numbers, such as parts of a GPU, are kept as such."""
    known = {gpu.name: gpu for gpu in _all_gpus()}
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        return [*known.values()]
    if not known:
        return []
    smallest = min(known.values(), key=lambda gpu: gpu.free)
    found = []
    for name in words(wanted):
        if name in known:
            found.append(known[name])
        elif not name.lstrip("-").isdecimal():
            found.append(replace(smallest, name=name))
        else:
            break  # as CUDA does
    return found


def chosen_gpus(text: str | None) -> list[Gpu]:
    """The GPUs that `--gpus` names; raises JobsError for others than the visible ones."""
    there = {gpu.name: gpu for gpu in visible_gpus()}
    if text is None:
        return [*there.values()]
    names = [*dict.fromkeys(words(text))]
    if not names:
        raise JobsError("--gpus is empty; name some, such as 0,1, or leave it out for all that are visible.")
    if absent := [name for name in names if name not in there]:
        seen = f"visible: {', '.join(there)}" if there else "nvidia-smi shows none on this host"
        raise JobsError(
            f"--gpus is {text}, but there is no GPU {', '.join(absent)} ({seen}). Leave it out, or correct it."
        )
    return [there[name] for name in names]


def runs_per_gpu(wanted: int | None, gpus: Sequence[Gpu], need: int) -> int:
    """Runs at once on each GPU; by default as many as fit by memory and cores, at most `MOST_PER_GPU`.

    Args:
        need: bytes of the largest run.

    Raises:
        JobsError: more are wanted than have room.
    """
    smallest = min(gpus, key=lambda gpu: gpu.free)
    fit = max(1, smallest.free // need)
    if wanted is None:
        return int(max(1, min(fit, MOST_PER_GPU, (os.cpu_count() or 1) // len(gpus))))
    if wanted > fit:
        raise JobsError(
            f"--per-gpu is {wanted}, but GPU {smallest.name} has {smallest.free / GIB:.1f} GiB free, and a run takes "
            f"up to {need / GIB:.1f}: at most {fit}. Lower it, or leave it out."
        )
    return wanted


def slots_on(gpus: Sequence[Gpu], each: int) -> list[Slot]:
    """`each` slots on every GPU; all first ones before the second ones."""
    return [_slot(gpu.name, each, each * len(gpus)) for _ in range(each) for gpu in gpus]


def _slot(gpu: str, each: int, all_slots: int) -> Slot:
    return Slot(f"GPU {gpu}", {VISIBLE: gpu, **({SHARERS: str(each)} if each > 1 else {}), **_threads(all_slots)})


def _threads(slots: int) -> dict[str, str]:
    """Of each run, unless the environment says it."""
    set_already = THREADS in os.environ
    return {} if set_already or slots == 1 else {THREADS: str(max(1, (os.cpu_count() or 1) // slots))}


def slots_of_cpu(jobs: int, need: int) -> list[Slot]:
    """Slots without a GPU; raises JobsError where the host has too little memory.

    Args:
        need: bytes of the largest run.
    """
    total = psutil.virtual_memory().total
    if jobs > 1 and jobs * need > total:
        raise JobsError(
            f"--jobs is {jobs}, and a run takes up to {need / GIB:.1f} GiB, but this host has {total / GIB:.0f} GiB: "
            f"at most {max(1, total // need)}. Lower it, or leave it out."
        )
    return [Slot("CPU", _threads(jobs)) for _ in range(jobs)]


def slot_of_task(per_gpu: int, host: str) -> Slot:
    """The slot of a task of Ray, which has set CUDA_VISIBLE_DEVICES for it; `per_gpu` is 0 without GPUs."""
    if not per_gpu:
        return Slot(host)
    # A node does not know how many GPUs Ray gives away; two threads load images fast enough for a GPU.
    slot = _slot(os.environ.get(VISIBLE, ""), per_gpu, max(2, (os.cpu_count() or 1) // 2))
    return Slot(f"{slot.label} of {host}", slot.environment)
