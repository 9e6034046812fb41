"""Train and test methods side by side, and print one table per data set.

    python scripts/compare.py                                          # Icons and Digits, small CLIP, all methods
    python scripts/compare.py eurosat "1 2 3" "CoOp MaPLe BMIP" --data $DATA
    python scripts/compare.py eurosat --backbone open_clip:ViT-B-16/laion2b_s34b_b88k --data $DATA

Each method is trained on the base classes, and tested in one pass over the test images of all classes, in which base
and new images are told apart among their own classes (base, new) and among all (open-world). Runs that are done are
not done again; runs that fail are left out of the table, listed after it, and turn the exit status to 1. Flags and
KEY VALUE pairs that the command does not know go to train.py; they need --tag where other runs are in the folders.
"""

from __future__ import annotations

import argparse
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from minidassl.own.jobs.flags import add_flags, check_flags
from minidassl.own.text import words

from train import flags_of
from trainers.prompting.core.harmonic import harmonic_mean
from trainers.prompting.errors import InputError
from trainers.prompting.recipes import data_set_file
from trainers.records import read_result

from .commands import (
    DATASETS_HELP,
    METHODS_HELP,
    add_backbone,
    add_data,
    add_shots,
    add_tag,
    backbone_flags,
    exit_status,
    import_flags,
    make_parser,
)
from .data import BUILTIN
from .methods import BASELINE, names, parse, row_name, with_backbone
from .protocols import chains, plan
from .runner import check_plan, report_failures, run_chains
from .runs import NEW_TAG, Request, Run, check_data, check_passed_on, check_tag, parse_seeds
from .tables.table import seeds_text
from .tables.text import fitted, is_within, lay_out, mean_and_spread, terminal_width

COLUMNS = ("base", "new", "HM", "open-world", "parameters", "train s", "peak GiB")


def measured(several: Iterable[Sequence[Run]]) -> list[tuple[float, ...]]:
    """Base, new, HM, accuracy among all classes, parameters, seconds and GiB of each seed that came to its end."""
    found = []
    for runs in several:
        trained, tested = (read_result(run.folder) for run in (runs[0], runs[-1]))
        if tested is not None and (numbers := tested["open_world"]) is not None:
            costs = trained["train_seconds"] or 0, trained["peak_memory_bytes"] / 2**30
            found.append((*(numbers[key] for key in ("base", "new", "HM", "accuracy")), tested["parameters"], *costs))
    return found


def row(name: str, several: Iterable[Sequence[Run]]) -> list[str]:
    """One method on one data set over the seeds: the runs of each."""
    found = measured(several)
    if not found:
        return [name, *["missing"] * len(COLUMNS)]
    *accuracies, parameters, seconds, memory = zip(*found)
    cells = [mean_and_spread(values) for values in accuracies]
    # As in the field's tables, the harmonic mean is that of the averages; the spread is that of the seeds' own.
    mean = harmonic_mean(*map(statistics.fmean, accuracies[:2]))
    cells[2] = " ".join([f"{mean:.2f}", *cells[2].split(" ")[1:]])
    return [name, *cells, f"{parameters[0]:,}", f"{statistics.fmean(seconds):.0f}", f"{max(memory):.2f}"]


def losses(planned: Mapping[str, Iterable[Sequence[Run]]]) -> list[str]:
    """Which methods have a harmonic mean below that of zero-shot CLIP, and why, by the runs of each row."""
    halves = {
        name: [statistics.fmean(values) for values in [*zip(*found)][:2]]
        for name, several in planned.items()
        if (found := measured(several))
    }
    usual, lost = halves.pop(BASELINE, None), {}
    for name, (base, new) in halves.items() if usual else ():
        if harmonic_mean(base, new) < harmonic_mean(*usual):
            lost.setdefault(base > usual[0] and new < usual[1], []).append((name, base - usual[0], new - usual[1]))
    return [_loss(rows, learned) for learned, rows in lost.items()]


def _loss(rows: Sequence[tuple[str, float, float]], learned: bool) -> str:
    """On methods that are below zero-shot CLIP by some points on base and on new classes."""
    (_, gain, loss), *others = rows
    names = " and ".join(filter(None, [", ".join(row[0] for row in rows[:-1]), rows[-1][0]]))
    verb, points = (
        ("are", "") if others else ("is", f", with {gain:+.1f} points on base and {loss:+.1f} on new classes")
    )
    subject, owner = ("they", "their") if others else ("it", "its")
    reason = f"{subject} learned {owner} base classes, but not for new names" if learned else "nothing was gained"
    return f"{names} {verb} below zero-shot CLIP in HM{points}: {reason}."


def compare(args: argparse.Namespace) -> int:
    """Raises InputError for a method, seed, data set or recipe that there is not."""
    check_passed_on(args.extra, args.flags)
    check_flags(args)
    seeds, datasets = parse_seeds(args.seeds), [*dict.fromkeys(map(data_set_file, args.datasets))]
    if not datasets:
        raise InputError("DATASETS is empty; name some, or leave out all arguments for the built-in ones.")
    # The last, because their declarations import torch.
    methods = [parse(method) for method in args.methods or names()]
    tag = with_backbone(check_tag(args.tag), args.backbone)
    requests = [
        Request("open_world", name, dataset, seed, args.shots, variant=variant, tag=tag)
        for seed in seeds
        for dataset in datasets
        for name, variant in methods
    ]
    planned, options = chains(requests), (*import_flags(args.modules), *backbone_flags(args.backbone), *args.extra)
    missing = check_plan(planned, args.data, options, f"Move them away, or {NEW_TAG}.")
    check_data({run.dataset for run in missing}, args.data)
    failures = run_chains(planned, missing, args.data, options, args)
    for dataset in datasets:
        title = ", ".join(filter(None, (dataset, args.backbone, f"{args.shots} shots", seeds_text(seeds))))
        print(f"\n{title}: accuracy in per cent (mean ± std over seeds)")
        planned_for = {
            row_name(*method, args.tag): [
                plan(one) for one in requests if (one.dataset, one.method, one.variant) == (dataset, *method)
            ]
            for method in methods
        }
        rows = [row(name, plans) for name, plans in planned_for.items()]
        headers, width = ["method", *COLUMNS], terminal_width()
        text = lay_out(headers, rows, right=True)
        print(text if is_within(text, width) else fitted(headers, rows, width, right=True))
        for line in losses(planned_for):
            print("\n".join(textwrap.wrap(f"{line} docs/RESULTS.md has more." if dataset in BUILTIN else line, width)))
    return report_failures(failures)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    parser = make_parser(
        __doc__, "compare.py [DATASETS] [SEEDS] [METHODS] [flags] [flags of train.py] [KEY VALUE ...]"
    )
    add = parser.add_argument
    several, usual = dict(nargs="?", type=words), "icons digits"
    add("datasets", **several, default=usual, help=f"{DATASETS_HELP} ({usual})")
    add("seeds", nargs="?", default="1 2 3", help="seeds of everything random (1 2 3)")
    add("methods", **several, help=f"{METHODS_HELP}; default: all")
    add_data(parser)
    add_shots(parser)
    add_tag(parser)
    add_backbone(parser)
    add_flags(parser)
    args, args.extra = parser.parse_known_args(argv)
    args.flags = flags_of(parser)
    return exit_status(compare, args)
