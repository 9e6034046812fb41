"""The flags of where runs run, of all commands that have several, and the engine that they mean."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from . import devices
from .drive import Engine
from .errors import JobsError
from .local import Local

LOCAL, RAY = ENGINES = "local", "ray"


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where runs run (docs/SCALE.md)")
    add = group.add_argument
    add("--engine", choices=ENGINES, default=LOCAL, help="this host, or Ray (requirements-ray.txt) on one or many")
    add("--gpus", metavar="0,1", help="GPUs of this host; default: all that CUDA_VISIBLE_DEVICES shows")
    add(
        "--per-gpu",
        type=int,
        metavar="N",
        help=f"runs at once on each GPU; default: by free memory, at most {devices.MOST_PER_GPU}",
    )
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at once, at most; default: as many as there are places on GPUs, "
        "without a GPU one per core with the small CLIP, else one",
    )
    add("--address", metavar="HOST:PORT", help="of a Ray cluster, or auto; default: a Ray of this host alone")
    add("--retries", type=int, default=0, metavar="N", help="further attempts of a run that failed (0)")


def check_flags(args: argparse.Namespace) -> None:
    """Raises JobsError for values that mean nothing; asks neither GPUs nor clusters."""
    for flag, least in (("jobs", 1), ("per_gpu", 1), ("retries", 0)):
        value = getattr(args, flag)
        if value is not None and value < least:
            raise JobsError(f"--{flag.replace('_', '-')} is {value}; set it to {least} or more, or leave it out.")
    if args.address and args.engine != RAY:
        raise JobsError(f"--address is {args.address}, but the engine is {args.engine}; add --engine ray.")
    if args.address and args.gpus is not None:
        raise JobsError(
            f"--gpus is {args.gpus}, but a cluster's hosts name theirs in `ray start --num-gpus`; leave it out."
        )


def given(args: argparse.Namespace) -> list[str]:
    """The flags again, for a command that has them, too."""
    words = ["--engine", args.engine] * (args.engine != LOCAL)
    for flag in ("gpus", "per_gpu", "jobs", "address"):
        if (value := getattr(args, flag)) is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return [*words, *(["--retries", str(args.retries)] if args.retries else [])]


def engine_of(args: argparse.Namespace, root: Any, small: bool, need: int) -> Engine:
    """The engine, with its devices looked at.

    Args:
        root: folder of the project.
        small: the runs are of the small CLIP, and one core is enough for each.
        need: bytes of the largest run.

    Raises:
        JobsError: there is no such GPU, too little memory, no Ray, or no cluster.
    """
    check_flags(args)
    cores = os.cpu_count() or 1
    gpus = [] if args.address else devices.chosen_gpus(args.gpus)
    if args.per_gpu is not None and not gpus and not args.address:
        raise JobsError(f"--per-gpu is {args.per_gpu}, but this host shows no GPU; leave it out, or give --jobs.")
    per_gpu = devices.runs_per_gpu(args.per_gpu, gpus, need) if gpus else args.per_gpu or 1
    if args.engine == RAY:
        from .on_ray import OnRay

        engine: Engine = OnRay(
            str(root), args.address, [gpu.name for gpu in gpus], per_gpu, 1 if small else cores, args.jobs
        )
    elif gpus:
        engine = Local(devices.slots_on(gpus, per_gpu)[: args.jobs])
    else:
        engine = Local(devices.slots_of_cpu(args.jobs or (cores if small else 1), need))
    if gpus or args.engine == RAY:
        print(f"Runs on {engine}", file=sys.stderr)
    return engine
