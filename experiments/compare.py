"""Train and test methods side by side, and print one table per data set.

    python scripts/compare.py                                          # Icons and Digits, small CLIP, all methods
    python scripts/compare.py eurosat "1 2 3" "CoOp MaPLe BMIP" --data $DATA
    python scripts/compare.py eurosat --backbone open_clip:ViT-B-16/laion2b_s34b_b88k --data $DATA

Each method is trained on the base classes, and tested in one pass over the test images of all classes, in which base
and new images are told apart among their own classes (base, new) and among all (open-world). The tables and pictures
of these runs are then in output/report.html. Runs that are done are not done again; runs that fail are left out of the
table, listed after it, and turn the exit status to 1. Flags and KEY VALUE pairs that the command does not know go to
train.py; they need --tag where other runs are in the folders.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from minidassl.own.jobs.flags import add_flags, check_flags
from minidassl.own.text import words

from train import flags_of
from trainers.prompting.errors import InputError
from trainers.prompting.recipes import data_set_file
from trainers.records import read_result

from . import runs
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
from .runs import (
    NEW_TAG,
    Request,
    Run,
    check_data,
    check_file,
    check_folder,
    check_passed_on,
    check_tag,
    parse_seeds,
)
from .store import Selection
from .tables.comparison import COLUMNS_MEAN, Line, conclusion
from .tables.results import OPEN_WORLD
from .tables.table import seeds_text
from .tables.text import terminal_width

MOST_MODELS = 3  # that the report looks into: BMIP's, and the best others


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
    page = runs.ROOT / "output" / "report.html"
    if args.report:
        check_file(page)
        check_folder(page.with_suffix(""))
    failures = run_chains(planned, missing, args.data, options, args)
    drawn = [model for dataset in datasets for model in print_table(dataset, seeds, methods, requests, args)]
    print("\n" + "\n".join(textwrap.fill(text, terminal_width()) for text in explanation(datasets)))
    status = report_failures(failures)
    if args.report and any(is_tested(run) for chain in planned for run in chain):
        from .report import print_report  # here, because libraries for pictures come with it

        asked = Selection(tuple(args.methods), tuple(datasets), tuple(seeds))
        print_report(page.parent, page, drawn, args.data, [OPEN_WORLD.name], asked)
    return status


def print_table(
    dataset: str,
    seeds: Sequence[int],
    methods: Sequence[tuple[str, str]],
    requests: Sequence[Request],
    args: argparse.Namespace,
) -> list[Path]:
    """Print what concludes the comparison on a data set; gives the training runs into which the report looks."""
    title = ", ".join(filter(None, (dataset, args.backbone, f"{args.shots} shots", seeds_text(seeds))))
    print(f"\n{title}: accuracy in per cent{' (mean ± std over seeds)' * (len(seeds) > 1)}")
    plans = {
        row_name(*method, args.tag): [
            plan(one) for one in requests if (one.dataset, one.method, one.variant) == (dataset, *method)
        ]
        for method in methods
    }
    lines = [Line.of(name, several) for name, several in plans.items()]
    reference = next((row_name(*method, args.tag) for method in methods if method[0] == BASELINE), "")
    print(conclusion(lines, reference, terminal_width()))
    # Those of other CLIPs take long where there is no GPU.
    looked_into = worth_a_look(lines) if dataset in BUILTIN and not args.backbone else []
    return [next(runs[0].folder for runs in plans[name] if is_tested(runs[-1])) for name in looked_into]


def is_tested(run: Run) -> bool:
    found = read_result(run.folder)
    return found is not None and found["open_world"] is not None


def worth_a_look(lines: Sequence[Line]) -> list[str]:
    """The methods of which the report shows a model: BMIP, and the best of the others that train."""
    trained = [line for line in lines if line.accuracies and line.parameters]
    trained.sort(key=lambda line: (line.name != "BMIP", -line.means[2]))
    return [line.name for line in trained[:MOST_MODELS]]


def explanation(datasets: Sequence[str]) -> list[str]:
    """For readers who know nothing yet: the columns, what built-in data are, and where the runs are."""
    texts = [COLUMNS_MEAN]
    if built_in := [dataset for dataset in datasets if dataset in BUILTIN]:
        texts.append(
            f"{' and '.join(built_in)}: built-in data, learned by a small built-in CLIP. They show in minutes how the "
            "methods behave, and reproduce no published number (docs/RESULTS.md). Data of the field, with OpenAI's "
            "ViT-B/16: docs/DATASETS.md, then scripts/compare.sh eurosat."
        )
    return [*texts, f"The runs, with logs and checkpoints, are in {runs.ROOT / 'output' / 'base2new'}."]


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
    text = "write no output/report.html, the page of tables and pictures"
    add("--no-report", dest="report", action="store_false", help=text)
    add_flags(parser)
    args, args.extra = parser.parse_known_args(argv)
    args.flags = flags_of(parser)
    return exit_status(compare, args)
