"""Everything that a table needs: run what is missing, and print the table.

    python scripts/reproduce.py embedded       # every table and the report on built-in data, with the small CLIP
    python scripts/reproduce.py open-world --methods "MaPLe BMIP" --datasets "eurosat dtd" --data $DATA
    python scripts/reproduce.py cross-dataset --dry-run      # list the runs, and estimate what they cost

Started again, it goes on where it stopped. scripts/tables.py makes the same tables from the same records at any time.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from minidassl.own.text import words

from trainers.prompting.errors import check_name
from trainers.prompting.recipes import data_set_file

from . import report, runs
from .commands import add_data, check_jobs, exit_status, import_flags, make_parser
from .data import BUILTIN
from .methods import TINY, names, parse
from .protocols import PLANS, PROTOCOL_OF, chains
from .runner import check_plan, report_failures, run_chains
from .runs import Request, Run, check_data, parse_seeds
from .tables.command import print_tables
from .tables.results import PAIRED

# Hours on one GPU for a training run with sixteen shots: MaPLe's authors report one for ImageNet, and four for ten
# data sets and three seeds, in five epochs of half the images. Tests are not counted.
GPU_HOURS = {"imagenet": 1.0}
OTHER_GPU_HOURS = 4 / 30
EMBEDDED = "embedded"
CHOICES = (*PLANS, "all", EMBEDDED)
ADVICE = "Move them away to run them again, or leave them out by --methods, --datasets or --seeds."


def planned_chains(
    tables: Sequence[str], embedded: bool, datasets: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> list[list[Run]]:
    """Seed by seed, so that a table is there early with the first; where some are empty, those of the plans."""
    requests = []
    for table in tables:
        plan = PLANS[table]
        for seed in seeds or (plan.embedded_seeds if embedded else ()) or plan.seeds:
            for dataset in datasets or (plan.embedded if embedded else plan.datasets):
                for method in methods or plan.methods_for(dataset in BUILTIN, embedded):
                    name, variant = parse(method)
                    requests.append(Request(PROTOCOL_OF[table], name, dataset, seed, variant=variant))
    return chains(requests)


def reproduce(args: argparse.Namespace) -> int:
    """Raises InputError for a method, seed, data set or recipe that there is not."""
    check_name("TABLE", args.table, CHOICES, "--help")
    check_jobs(args.jobs)
    embedded = args.table == EMBEDDED
    tables = [*PLANS] if args.table in ("all", EMBEDDED) else [args.table]
    datasets = [*dict.fromkeys(map(data_set_file, args.datasets))]
    planned = planned_chains(tables, embedded, datasets, args.methods, parse_seeds(args.seeds) if args.seeds else [])
    options, all_runs = import_flags(args.modules), [run for chain in planned for run in chain]
    missing = check_plan(planned, args.data, options, ADVICE)
    if not args.dry_run:
        check_data({run.dataset for run in missing}, args.data)
    for run in missing if args.dry_run else ():
        print(shlex.join(run.command(args.data, options)))
    hours = sum(GPU_HOURS.get(run.dataset, OTHER_GPU_HOURS) for run in missing if run.trains and not run.is_small)
    print(
        f"{len(missing)} of {len(all_runs)} runs are missing, about {hours:.0f} GPU hours of training "
        "(by MaPLe's reported times)",
        flush=True,
    )
    if args.dry_run:
        return 0
    failures = run_chains(planned, args.data, options, args.jobs)
    output = runs.ROOT / "output"
    print_tables(output, [*tables, *[PAIRED.name] * any(PLANS[name].paired for name in tables)])
    if len(tables) > 1:
        # Into one model of BMIP for each data set.
        bmip = [run for run in all_runs if (run.method, run.recipe, run.seed) == ("BMIP", TINY, 1) and embedded]
        drawn = [run.folder for run in bmip if run.trains and run.classes == "base"]
        report.print_report(output, output / "report.html", drawn)
    return report_failures(failures)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("table", metavar="TABLE", help=f"one of {', '.join(CHOICES)}")
    several = dict(type=words, default="")
    add("--datasets", **several, help="as in compare.py; default: those of the published table")
    add("--methods", **several, help=f"of {', '.join(names())}, with :VARIANT for a variant of a recipe")
    five = ", ".join(name for name, plan in PLANS.items() if len(plan.seeds) == 5)
    add("--seeds", default="", help=f"default: 1 2 3, and five for {five}")
    add_data(parser)
    add("--jobs", type=int, help="chains of runs at once; default: one per core with the small CLIP, else one")
    add("--dry-run", action="store_true", help="list the missing runs and their cost, run nothing")
    return exit_status(reproduce, parser.parse_args(argv))
