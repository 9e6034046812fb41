"""Everything that a table needs: run what is missing, and print the table.

    python scripts/reproduce.py embedded       # every table and the report on built-in data, with the small CLIP
    python scripts/reproduce.py open-world --methods "MaPLe BMIP" --datasets "eurosat dtd" --data $DATA
    python scripts/reproduce.py cross-dataset --dry-run      # list the runs, and estimate what they cost

Started again, it goes on where it stopped. scripts/tables.py makes the same tables from the same records at any time.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from minidassl.own.jobs.flags import add_flags, check_flags
from minidassl.own.text import words

from trainers.prompting.errors import InputError, check_name
from trainers.prompting.recipes import data_set_file

from . import runs
from .commands import (
    DATASETS_HELP,
    METHODS_HELP,
    add_backbone,
    add_data,
    add_tag,
    backbone_flags,
    exit_status,
    import_flags,
    make_parser,
)
from .data import BUILTIN
from .methods import identify, parse, with_backbone
from .protocols import PLANS, PROTOCOL_OF, chains
from .runner import check_plan, estimates, report_failures, run_chains
from .runs import Request, Run, check_data, check_tag, parse_seeds
from .store import Selection
from .tables.command import print_tables
from .tables.results import PAIRED

EMBEDDED = "embedded"
PLAIN = ("BMIP", "")  # method and variant
CHOICES = (*PLANS, "all", EMBEDDED)
ADVICE = "Move them away to run them again, or leave them out by --methods, --datasets or --seeds."


def planned_chains(
    tables: Sequence[str],
    embedded: bool,
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    tag: str = "",
) -> list[list[Run]]:
    """Seed by seed, so that a table is there early with the first; where some are empty, those of the plans."""
    requests = []
    for table in tables:
        plan = PLANS[table]
        for seed in seeds or (plan.embedded_seeds if embedded else ()) or plan.seeds:
            for dataset in datasets or (plan.embedded if embedded else plan.datasets):
                for method in methods or plan.methods_for(dataset in BUILTIN, embedded):
                    name, variant = parse(method)
                    requests.append(Request(PROTOCOL_OF[table], name, dataset, seed, variant=variant, tag=tag))
    return chains(requests)


def reproduce(args: argparse.Namespace) -> int:
    """Raises InputError for a method, seed, data set or recipe that there is not."""
    check_name("TABLE", args.table, CHOICES, "--help")
    check_flags(args)
    embedded = args.table == EMBEDDED
    tables = [*PLANS] if args.table in ("all", EMBEDDED) else [args.table]
    datasets = [*dict.fromkeys(map(data_set_file, args.datasets))]
    seeds, tag = parse_seeds(args.seeds) if args.seeds else [], check_tag(args.tag)
    if args.options and not tag:
        raise InputError(
            f"{' '.join(args.options)} changes the recipes; give --tag NAME, for folders and rows of the experiment's "
            "own."
        )
    planned = planned_chains(tables, embedded, datasets, args.methods, seeds, with_backbone(tag, args.backbone))
    options = (*import_flags(args.modules), *backbone_flags(args.backbone), *args.options)
    all_runs = [run for chain in planned for run in chain]
    missing = check_plan(planned, args.data, options, ADVICE)
    try:
        check_data({run.dataset for run in missing}, args.data, folders=not args.dry_run)
    except InputError as error:
        if not args.dry_run:
            raise
        print(f"note: {error}", file=sys.stderr)
    for run in missing if args.dry_run else ():
        print(shlex.join(run.command(args.data, options)))
    print(f"{len(missing)} of {len(all_runs)} runs are missing{estimates().cost(missing)}", flush=True)
    if args.dry_run:
        return 0
    failures = run_chains(planned, missing, args.data, options, args)
    output = runs.ROOT / "output"
    shown = [*tables, *[PAIRED.name] * any(PLANS[name].paired for name in tables)]
    asked = Selection(tuple(args.methods), tuple(datasets), tuple(seeds))
    print_tables(output, shown, selection=asked)
    if len(tables) > 1:
        from . import report

        # Into one model of BMIP for each data set.
        bmip = [run for run in all_runs if embedded and run.seed == 1 and identify(run.trainer, run.recipe) == PLAIN]
        drawn = [run.folder for run in bmip if run.trains and run.classes == "base"]
        report.print_report(output, output / "report.html", drawn, selection=asked)
    return report_failures(failures)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("table", metavar="TABLE", help=f"one of {', '.join(CHOICES)}")
    several = dict(type=words, default="")
    add("--datasets", **several, help=f"{DATASETS_HELP}; default: those of the published table")
    add("--methods", **several, help=f"{METHODS_HELP}; default: those of the published table")
    five = ", ".join(name for name, plan in PLANS.items() if len(plan.seeds) == 5)
    add("--seeds", default="", help=f"seeds of everything random; default: 1 2 3, and five for {five}")
    add_data(parser)
    add_tag(parser)
    add_backbone(parser)
    add("--dry-run", action="store_true", help="list the missing runs and their cost, run nothing")
    add("options", nargs="*", metavar="KEY VALUE", help="for train.py, with --tag")
    add_flags(parser)
    # Intermixed: pairs may follow flags.
    return exit_status(reproduce, parser.parse_intermixed_args(argv))
