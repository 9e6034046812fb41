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

import trainers

from . import report, runs
from .commands import add_data, exit_status, import_flags, make_parser
from .data import BUILTIN
from .methods import METHODS, TINY, import_modules, parse
from .protocols import PLANS, PROTOCOL_OF, chains
from .runner import is_done, run_chains
from .runs import Chain, Request, Run, check_data, check_files, parse_seeds
from .tables.command import print_tables
from .tables.studies import Paired

# Hours on one GPU for a training run with sixteen shots: MaPLe's authors report one for ImageNet, and four for ten
# data sets and three seeds, in five epochs of half the images. Tests are not counted.
GPU_HOURS = {"imagenet": 1.0}
OTHER_GPU_HOURS = 4 / 30


EMBEDDED = "embedded"


def chains_of(
    table: str,
    datasets: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    embedded: bool = False,
) -> list[Chain]:
    """All chains of a table's plan, seed by seed, so that a table is there early with the first.

    Args:
        datasets, methods, seeds: in place of the plan's.
        embedded: the plan's embedded counterpart.
    """
    plan, made = PLANS[table], []
    for seed in seeds or (plan.embedded_seeds if embedded else ()) or plan.seeds:
        for dataset in datasets or (plan.embedded if embedded else plan.datasets):
            for method in methods or plan.methods_for(dataset in BUILTIN, embedded):
                name, variant = parse(method)
                made += chains(PROTOCOL_OF[table], Request("", name, dataset, seed, variant=variant))
    return made


def merged(chains: Sequence[Chain]) -> list[Chain]:
    """One chain for each model, with all that is tested of it, so that no two train the same one at once."""
    by_model: dict[str, list[Chain]] = {}
    for chain in chains:
        by_model.setdefault(chain.runs[0].output, []).append(chain)
    return [
        Chain(same[0].name, tuple(dict.fromkeys(run for chain in same for run in chain.runs)), same[0].options)
        for same in by_model.values()
    ]


def is_looked_into(run: Run) -> bool:
    """Whether the report looks into the model of this run: of each data set one of BMIP."""
    return run.trains and run.classes == "base" and (run.method, run.recipe, run.seed) == ("BMIP", TINY, 1)


def estimate(chains: Sequence[Chain], data: str | None) -> str:
    """How many runs are missing, and about how many hours of one GPU the training among them takes."""
    missing = [run for _, run in missing_runs(chains, data)]
    hours = sum(GPU_HOURS.get(run.dataset, OTHER_GPU_HOURS) for run in missing if run.trains and not run.is_small)
    total = sum(len(chain.runs) for chain in chains)
    return (
        f"{len(missing)} of {total} runs are missing, about {hours:.0f} GPU hours of training "
        "(by MaPLe's reported times)"
    )


def missing_runs(chains: Sequence[Chain], data: str | None) -> list[tuple[Chain, Run]]:
    """Runs that are not done yet, with their chains."""
    return [
        (chain, run) for chain in chains for run in chain.runs if not is_done(run, chain.trained, data, chain.options)
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("table", choices=[*PLANS, "all", EMBEDDED])
    add("--datasets", help="names of files in configs/datasets; default: those of the published table")
    add("--methods", help=f"of {', '.join(METHODS)}, with :VARIANT for a variant of a recipe")
    five = ", ".join(name for name, plan in PLANS.items() if len(plan.seeds) == 5)
    add("--seeds", help=f"default: 1 2 3, and five for {five}")
    add_data(parser)
    add("--jobs", type=int, help="chains of runs at once; default: one per core with the small CLIP, else one")
    add("--dry-run", action="store_true", help="list the missing runs and their cost, run nothing")
    return parser.parse_args(argv)


def reproduce(args: argparse.Namespace) -> int:
    """Exit status 1 where a run failed.

    Raises:
        InputError: a method, seed, data set or recipe that there is not.
    """
    trainers.register_all()
    import_modules(args.modules)
    embedded = args.table == EMBEDDED
    names = [*PLANS] if args.table in ("all", EMBEDDED) else [args.table]
    chosen = ((args.datasets or "").split(), (args.methods or "").split(), parse_seeds(args.seeds or ""))
    planned = merged([chain for name in names for chain in chains_of(name, *chosen, embedded)])
    planned = [chain.with_options(import_flags(args.modules)) for chain in planned]
    all_runs = [run for chain in planned for run in chain.runs]
    check_files(all_runs)
    if not args.dry_run:
        check_data([run.dataset for run in all_runs], args.data)
    else:
        for chain, run in missing_runs(planned, args.data):
            print(shlex.join(run.command(args.data, chain.options)))
    print(estimate(planned, args.data), flush=True)
    if args.dry_run:
        return 0
    failures = run_chains(planned, args.data, args.jobs)
    output = runs.ROOT / "output"
    paired = [Paired.name] if any(PLANS[name].paired for name in names) else []
    print_tables(output, [*names, *paired])
    if len(names) > 1:
        drawn = [run.folder for run in all_runs if embedded and is_looked_into(run)]
        report.report(output, output / "report.html", drawn)
    for name, lines in failures.items():
        print(f"\n{name} failed:\n{lines}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    return exit_status(lambda: reproduce(parse_args(argv)))
