"""Train and test methods side by side, and print one table per data set.

    python scripts/compare.py                                          # Digits and Symbols, small CLIP, all methods
    python scripts/compare.py eurosat "1 2 3" "CoOp MaPLe BMIP" --data $DATA

Each method is trained on the base classes, and tested in one pass over the test images of all classes, in which base
and new images are told apart among their own classes (base, new) and among all (open-world). Runs that are done are
not done again; runs that fail are left out of the table, listed after it, and turn the exit status to 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence

import trainers
from trainers.prompting.core.metrics import harmonic_mean
from trainers.records import read_result

from .commands import add_data, exit_status, import_flags, make_parser
from .methods import METHODS, import_modules, parse
from .protocols import PROTOCOLS, chains
from .runner import run_chains
from .runs import Chain, Request, check_data, check_files, parse_seeds
from .tables.text import lay_out, mean_and_spread

COLUMNS = ("base", "new", "HM", "open-world", "parameters", "train s", "peak GiB")


def chain_of(request: Request) -> Chain:
    """Training, unless there is nothing to train, and the test on all classes."""
    (chain,) = chains(PROTOCOLS["open_world"], request)
    return chain


def row(requests: Sequence[Request]) -> list[str]:
    """One method on one data set over the seeds that came to their end."""
    found: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for request in requests:
        chain = chain_of(request)
        tested = read_result(chain.runs[-1].folder)
        if tested is None or tested["open_world"] is None:
            continue
        trained = read_result(chain.runs[0].folder)
        accuracies = tested["open_world"]
        for column in ("base", "new", "HM"):
            found[column].append(accuracies[column])
        found["open-world"].append(accuracies["accuracy"])
        found["parameters"].append(tested["parameters"])
        found["train s"].append(trained["train_seconds"] or 0)
        found["peak GiB"].append(trained["peak_memory_bytes"] / 2**30)
    if not found["base"]:
        return [requests[0].row, *["missing"] * len(COLUMNS)]
    cells = [mean_and_spread(found[column]) for column in COLUMNS[:4]]
    # As in the field's tables, the harmonic mean is that of the averages; the spread is that of the seeds' own.
    mean = harmonic_mean(statistics.fmean(found["base"]), statistics.fmean(found["new"]))
    cells[2] = " ".join([f"{mean:.2f}", *cells[2].split(" ")[1:]])
    rest = statistics.fmean(found["train s"]), max(found["peak GiB"])
    return [requests[0].row, *cells, f"{int(found['parameters'][0]):,}", f"{rest[0]:.0f}", f"{rest[1]:.2f}"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("datasets", nargs="?", default="digits symbols", help="names of files in configs/datasets (digits symbols)")
    add("seeds", nargs="?", default="1 2 3")
    names = ", ".join(METHODS)
    add("methods", nargs="?", help=f"of {names}, with :VARIANT for a variant of a recipe; default: all")
    add_data(parser)
    add("--shots", type=int, default=16)
    add("--jobs", type=int, help="methods at once; default: one per core with the small CLIP, else one")
    args, args.extra = parser.parse_known_args(argv)
    return args


def compare(args: argparse.Namespace) -> int:
    """Raises InputError for a method, seed, data set or recipe that there is not."""
    trainers.register_all()
    import_modules(args.modules)
    names, seeds = args.datasets.split(), parse_seeds(args.seeds)
    methods = [parse(method) for method in args.methods.split()] if args.methods else [(name, "") for name in METHODS]
    check_data(names, args.data)
    requests = [
        Request("open_world", method, name, seed, args.shots, variant=variant)
        for seed in seeds
        for name in names
        for method, variant in methods
    ]
    planned = [chain_of(request) for request in requests]
    check_files([run for chain in planned for run in chain.runs])
    options = (*import_flags(args.modules), *args.extra)
    failures = run_chains([chain.with_options(options) for chain in planned], args.data, args.jobs)
    for name in names:
        seeds_text = ", ".join(map(str, seeds))
        print(f"\n{name}, {args.shots} shots, seeds {seeds_text}: accuracy in per cent (mean ± std over seeds)")
        rows = [
            row([one for one in requests if (one.dataset, one.method, one.variant) == (name, *method)])
            for method in methods
        ]
        print(lay_out(["method", *COLUMNS], rows, right=True))
    for name, lines in failures.items():
        print(f"\n{name} failed:\n{lines}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    return exit_status(lambda: compare(parse_args(argv)))
