"""Train and test methods side by side, and print one table per data set.

    python scripts/compare.py                                          # Digits and Symbols, small CLIP, all methods
    python scripts/compare.py eurosat "1 2 3" "CoOp MaPLe BMIP" --data $DATA

Each method is trained on the base classes, and tested in one pass over the test images of all classes, in which base
and new images are told apart among their own classes (base, new) and among all (open-world). What is done already is
not done again; what fails is left out of the table, listed behind it, and turns the exit status to 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

import datasets  # noqa: F401  (registers the data sets)
import trainers
from trainers.prompting.core.metrics import harmonic_mean
from trainers.prompting.errors import InputError
from trainers.records import read_result

from . import launch
from .launch import BUILTIN_DATASETS, METHODS, ROOT, Run
from .runner import Chain, exit_status, run_chains

COLUMNS = ("base", "new", "HM", "open-world", "parameters", "train s", "peak GiB")


@dataclass(frozen=True)
class Job:
    """One method on one data set with one seed."""

    method: str
    dataset: str
    seed: int
    shots: int

    def runs(self) -> tuple[Run | None, Run]:
        """Training, unless there is nothing to train, and the test on all classes."""
        arguments = ["open_world", self.method, self.dataset, str(self.seed), "--shots", str(self.shots)]
        runs = launch.plan(launch.parse_args(arguments))
        return next((run for run in runs if run.trains), None), next(run for run in runs if run.classes == "all")

    def chain(self, options: Sequence[str]) -> Chain:
        runs = tuple(run for run in self.runs() if run is not None)
        return Chain(f"{self.method} on {self.dataset} with seed {self.seed}", runs, tuple(options))


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± population standard deviation, as the field reports it; without the latter for a single value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.pstdev(values):.{digits}f}"


def row(jobs: Sequence[Job]) -> list[str]:
    """One method on one data set over the seeds that came to their end."""
    found: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for job in jobs:
        training, test = job.runs()
        tested = read_result(ROOT / test.output)
        if tested is None or tested["open_world"] is None:
            continue
        trained = tested if training is None else read_result(ROOT / training.output)
        accuracies = tested["open_world"]
        for column in ("base", "new", "HM"):
            found[column].append(accuracies[column])
        found["open-world"].append(accuracies["accuracy"])
        found["parameters"].append(tested["parameters"])
        found["train s"].append(trained["train_seconds"] or 0)
        found["peak GiB"].append(trained["peak_memory_bytes"] / 2**30)
    if not found["base"]:
        return [jobs[0].method, *["missing"] * len(COLUMNS)]
    cells = [mean_and_spread(found[column]) for column in COLUMNS[:4]]
    # As in the field's tables, the harmonic mean is that of the averages; the spread is that of the seeds' own.
    mean = harmonic_mean(statistics.fmean(found["base"]), statistics.fmean(found["new"]))
    cells[2] = " ".join([f"{mean:.2f}", *cells[2].split(" ")[1:]])
    rest = statistics.fmean(found["train s"]), max(found["peak GiB"])
    return [jobs[0].method, *cells, f"{int(found['parameters'][0]):,}", f"{rest[0]:.0f}", f"{rest[1]:.2f}"]


def table(dataset: str, seeds: Sequence[int], methods: Sequence[str], shots: int) -> str:
    rows = [row([Job(method, dataset, seed, shots) for seed in seeds]) for method in methods]
    return tabulate(
        rows, headers=["method", *COLUMNS], disable_numparse=True, colalign=["left", *["right"] * len(COLUMNS)]
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="?", default="digits symbols", help="names of files in configs/datasets (digits symbols)"
    )
    parser.add_argument("seeds", nargs="?", default="1 2 3")
    parser.add_argument("methods", nargs="?", default=" ".join(METHODS), help=f"of {', '.join(METHODS)}; default: all")
    parser.add_argument("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument(
        "--jobs", type=int, help="methods at once; default: one per core with the small CLIP, else one"
    )
    args, args.extra = parser.parse_known_args(argv)
    return args


def compare(args: argparse.Namespace) -> int:
    """Raises InputError for a method, seed, data set or configuration that there is not."""
    names, methods = args.datasets.split(), args.methods.split()
    for method in methods:
        if method not in METHODS:
            raise InputError(f"There is no method {method!r}; choose from {', '.join(METHODS)}.")
    try:
        seeds = [int(seed) for seed in args.seeds.split()]
    except ValueError:
        raise InputError(f"Seeds are {args.seeds!r}; give whole numbers between blanks, such as '1 2 3'.") from None
    if not args.data and not set(names) <= set(BUILTIN_DATASETS):
        raise InputError(f"{args.datasets} needs a data folder: set DATA=/path/to/datasets, or give --data.")
    jobs = [Job(method, name, seed, args.shots) for seed in seeds for name in names for method in methods]
    for job in jobs:
        arguments = launch.parse_args(["open_world", job.method, job.dataset])
        launch.check_files(arguments, [run for run in job.runs() if run is not None])
    trainers.register_all()
    failures = run_chains([job.chain(args.extra) for job in jobs], args.data, args.jobs)
    for name in names:
        seeds_text = ", ".join(map(str, seeds))
        print(f"\n{name}, {args.shots} shots, seeds {seeds_text}: accuracy in per cent (mean ± std over seeds)")
        print(table(name, seeds, methods, args.shots))
    for name, lines in failures.items():
        print(f"\n{name} failed:\n{lines}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    return exit_status(lambda: compare(parse_args(argv)))
