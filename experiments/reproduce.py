"""Everything that a table needs: run what is missing, and print the table.

    python scripts/reproduce.py embedded       # every table and the report on built-in data, with the small CLIP
    python scripts/reproduce.py open-world --methods "MaPLe BMIP" --datasets "eurosat dtd" --data $DATA
    python scripts/reproduce.py cross-dataset --dry-run      # list the runs, and estimate what they cost

Started again, it goes on from what is done. scripts/tables.py makes the same tables from the same records at any time.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets  # noqa: F401  (registers the data sets)
import trainers
from trainers.prompting.errors import InputError

from . import launch, report, tables
from .launch import BUILTIN_DATASETS, DOMAINS, ELEVEN, FIFTEEN, METHODS, ROOT, TARGETS
from .runner import Chain, exit_status, is_done, is_small, run_chains

# Hours on one GPU for a training run with sixteen shots: MaPLe's authors report one for ImageNet, and four for ten
# data sets and three seeds, in five epochs of half the images. Tests are not counted.
GPU_HOURS = {"imagenet": 1.0}
OTHER_GPU_HOURS = 4 / 30


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Attributes:
        tables: the names of `tables.py` that show them.
        datasets: of the published table, and of its embedded counterpart.
        methods: names of the launcher, or METHOD:CFG; the latter for the embedded counterpart too.
        seeds: by default.
        embedded_methods, embedded_seeds: fewer, where the small CLIP would take too long for a first look.
        chains: from method, configuration, data set and seed.
    """

    tables: tuple[str, ...]
    datasets: tuple[str, ...]
    embedded: tuple[str, ...]
    chains: Callable[[str, str | None, str, int], list[Chain]]
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (1, 2, 3)
    embedded_methods: tuple[str, ...] = ()
    embedded_seeds: tuple[int, ...] = ()


def planned(
    protocol: str, method: str, cfg: str | None, dataset: str, seed: int, *flags: str
) -> tuple[launch.Run, ...]:
    """The launcher's runs of a protocol."""
    words = [protocol, method, dataset, str(seed), *(["--cfg", cfg] if cfg else []), *flags]
    return tuple(launch.plan(launch.parse_args(words)))


def named(method: str, cfg: str | None, dataset: str, seed: int) -> str:
    return f"{method}{' ' + cfg if cfg else ''} on {dataset} with seed {seed}"


def base_classes(method: str, cfg: str | None, dataset: str, seed: int) -> list[Chain]:
    """Training on the base classes, the test on new ones, and that on all in one pass."""
    runs = planned("open_world", method, cfg, dataset, seed)
    new = [run for run in planned("base2new", method, cfg, dataset, seed) if run.method == method and not run.trains]
    return [Chain(named(method, cfg, dataset, seed), tuple(dict.fromkeys((*runs, *new))))]


def one_pass(method: str, cfg: str | None, dataset: str, seed: int) -> list[Chain]:
    """Training on the base classes, and the test on all classes in one pass."""
    return [Chain(named(method, cfg, dataset, seed), planned("open_world", method, cfg, dataset, seed))]


def class_ratios(method: str, cfg: str | None, dataset: str, seed: int) -> list[Chain]:
    """Training on the base classes, and tests on as many classes with some base classes among them."""
    return [Chain(named(method, cfg, dataset, seed), planned("class_ratio", method, cfg, dataset, seed))]


def transfer(targets: dict[str, tuple[str, ...]]) -> Callable[[str, str | None, str, int], list[Chain]]:
    """Training on all classes of a source, and the test of that model on each target."""

    def chains(method: str, cfg: str | None, source: str, seed: int) -> list[Chain]:
        if source not in targets:
            raise InputError(
                f"--datasets is {source!r}, but here it names what models are trained on: {', '.join(targets)}."
            )
        runs = planned("xd_train", method, cfg, source, seed)
        for target in targets[source]:
            runs += planned("xd_test", method, cfg, target, seed, "--source", source)
        return [Chain(f"{named(method, cfg, source, seed)} and {len(targets[source])} targets", runs)]

    return chains


def few_shots(method: str, cfg: str | None, dataset: str, seed: int) -> list[Chain]:
    """Training on all classes with each number of shots."""
    return [
        Chain(
            f"{named(method, cfg, dataset, seed)} and {shots} shots",
            planned("few_shot", method, cfg, dataset, seed, "--shots", str(shots)),
        )
        for shots in (1, 2, 4, 8, 16)
    ]


COMBINATIONS = (
    *(name for method in tables.COMBINED for name in (method, *(f"{method}:{one}" for one in tables.OBJECTIVES))),
    *tables.STACKED,
)
PLANS = {
    "base2new": Plan(("base2new",), ELEVEN, ("digits",), base_classes),
    "open-world": Plan(
        ("open-world",),
        FIFTEEN,
        ("symbols",),
        one_pass,
        embedded_methods=("ZeroshotCLIP", "CoOp", "MaPLe", "BMIP", "PromptSRC", "PromptSRC_BMIP"),
        embedded_seeds=(1,),
    ),
    "cross-dataset": Plan(
        ("cross-dataset",),
        ("imagenet",),
        ("symbols",),
        transfer({"imagenet": TARGETS, "symbols": ("digits",)}),
        methods=("CoOp", "CoCoOp", "MaPLe", "BMIP"),
        embedded_methods=("MaPLe", "BMIP"),
        embedded_seeds=(1,),
    ),
    "domains": Plan(
        ("domains",),
        ("imagenet",),
        ("symbols",),
        transfer(DOMAINS),
        methods=("CoOp", "CoCoOp", "MaPLe", "BMIP"),
        embedded_methods=("MaPLe", "BMIP"),
        embedded_seeds=(1,),
    ),
    "few-shot": Plan(("few-shot",), ELEVEN, ("digits",), few_shots, methods=("CoOp", "MaPLe", "BMIP")),
    "ablation": Plan(
        ("ablation", "paired"),
        ELEVEN,
        ("digits",),
        one_pass,
        methods=("BMIP", tables.CONTROL, *(f"BMIP:{name}" for name in tables.ABLATIONS)),
        seeds=(1, 2, 3, 4, 5),
    ),
    "depth": Plan(
        ("depth", "paired"),
        ("oxford_flowers",),
        ("digits",),
        one_pass,
        methods=("BMIP", *(f"BMIP:{name}" for name in tables.DEPTHS)),
        seeds=(1, 2, 3, 4, 5),
    ),
    "length": Plan(
        ("length", "paired"),
        ("oxford_flowers",),
        ("digits",),
        one_pass,
        methods=("BMIP", *(f"BMIP:{name}" for name in tables.LENGTHS)),
        seeds=(1, 2, 3, 4, 5),
    ),
    "class-ratio": Plan(
        ("class-ratio",),
        ELEVEN,
        ("digits",),
        class_ratios,
        methods=("CoOp", "MaPLe", "BMIP"),
        embedded_methods=("MaPLe", "BMIP"),
    ),
    "combinations": Plan(
        ("combinations", "paired"),
        ELEVEN,
        ("digits",),
        one_pass,
        methods=COMBINATIONS,
        embedded_methods=COMBINATIONS[:9],
        seeds=(1, 2, 3, 4, 5),
    ),
}
EMBEDDED = "embedded"


def split_method(method: str, dataset: str) -> tuple[str, str | None]:
    """Method and configuration of METHOD or METHOD:SUFFIX; the suffix is that of a file of the default's name.

    Raises:
        InputError: there is no such method, or no configuration file with that suffix.
    """
    name, _, suffix = method.partition(":")
    if name not in METHODS:
        raise InputError(f"There is no method {name!r}; choose from {', '.join(METHODS)}.")
    if not suffix:
        return name, None
    stems = {METHODS[name].tiny, METHODS[name].cfg}
    folder = ROOT / "configs" / "trainers" / METHODS[name].trainer
    if not any((folder / f"{stem}_{suffix}.yaml").is_file() for stem in stems):
        known = sorted({path.stem.removeprefix(f"{s}_") for s in stems for path in folder.glob(f"{s}_*.yaml")})
        raise InputError(
            f"{method!r}: {folder} has no file of that suffix; choose from {', '.join(known) or 'none'}, or leave it."
        )
    return name, f"{METHODS[name].tiny if dataset in BUILTIN_DATASETS else METHODS[name].cfg}_{suffix}"


def chains_of(plan: Plan, names: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> list[Chain]:
    """All chains of a plan, seed by seed, so that a table is there early with the first."""
    chains = []
    for seed in seeds:
        for dataset in names:
            for method in methods:
                name, cfg = split_method(method, dataset)
                if cfg and not (ROOT / f"configs/trainers/{METHODS[name].trainer}/{cfg}.yaml").is_file():
                    # The small CLIP has fewer layers: not every depth exists for both.
                    continue
                chains += plan.chains(name, cfg, dataset, seed)
    return chains


def merged(chains: Sequence[Chain]) -> list[Chain]:
    """One chain for each model, with all that is tested of it, so that no two train the same one at once."""
    by_model: dict[str, list[Chain]] = {}
    for chain in chains:
        by_model.setdefault(chain.runs[0].output, []).append(chain)
    return [
        Chain(same[0].name, tuple(dict.fromkeys(run for chain in same for run in chain.runs)))
        for same in by_model.values()
    ]


def is_looked_into(run: launch.Run) -> bool:
    """Whether the report draws what is inside the model of this run: of each data set one of BMIP."""
    return (
        run.trains and run.classes == "base" and (run.method, run.cfg, run.seed) == ("BMIP", METHODS["BMIP"].tiny, 1)
    )


def estimate(chains: Sequence[Chain], data: str | None) -> str:
    """How many runs are missing, and about how many hours of one GPU the training among them takes."""
    missing = [run for _, run in missing_runs(chains, data)]
    hours = sum(GPU_HOURS.get(run.dataset, OTHER_GPU_HOURS) for run in missing if run.trains and not is_small(run))
    total = sum(len(chain.runs) for chain in chains)
    return (
        f"{len(missing)} of {total} runs are missing, about {hours:.0f} GPU hours of training "
        "(by MaPLe's reported times)"
    )


def missing_runs(chains: Sequence[Chain], data: str | None) -> list[tuple[Chain, launch.Run]]:
    """What is not done yet, with its chain."""
    return [
        (chain, run)
        for chain in chains
        for run in chain.runs
        if not is_done(run, next((first for first in chain.runs if first.trains), None), data, chain.options)
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("table", choices=[*PLANS, "all", EMBEDDED])
    add("--datasets", help="names of files in configs/datasets; default: those of the published table")
    add("--methods", help=f"of {', '.join(METHODS)}, with :SUFFIX for a variant's configuration")
    add("--seeds", help="default: 1 2 3, and five for ablation, depth, length and combinations")
    add("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")
    add("--jobs", type=int, help="chains of runs at once; default: one per core with the small CLIP, else one")
    add("--dry-run", action="store_true", help="list the missing runs and their cost, run nothing")
    return parser.parse_args(argv)


def reproduce(args: argparse.Namespace) -> int:
    """Exit status 1 where a run failed.

    Raises:
        InputError: a method, seed, data set or configuration that there is not.
    """
    trainers.register_all()
    embedded = args.table == EMBEDDED
    plans = PLANS if args.table in ("all", EMBEDDED) else {args.table: PLANS[args.table]}
    try:
        seeds = [int(seed) for seed in args.seeds.split()] if args.seeds else None
    except ValueError:
        raise InputError(f"--seeds is {args.seeds!r}; give whole numbers between blanks, such as '1 2 3'.") from None
    chains: list[Chain] = []
    for plan in plans.values():
        names = args.datasets.split() if args.datasets else plan.embedded if embedded else plan.datasets
        methods, chosen = plan.methods, plan.seeds
        if embedded:
            methods, chosen = plan.embedded_methods or methods, plan.embedded_seeds or chosen
        chains += chains_of(plan, names, args.methods.split() if args.methods else methods, seeds or chosen)
    chains = merged(chains)
    runs = [run for chain in chains for run in chain.runs]
    launch.check_files(argparse.Namespace(source=None, weights=None), runs)
    outside = sorted({run.dataset for run in runs} - set(BUILTIN_DATASETS))
    if outside and not args.data and not args.dry_run:
        raise InputError(f"{', '.join(outside)} need a data folder: set DATA=/path/to/datasets, or give --data.")
    if args.dry_run:
        for chain, run in missing_runs(chains, args.data):
            print(shlex.join(run.command(args.data, list(chain.options))))
        print(estimate(chains, args.data))
        return 0
    print(estimate(chains, args.data), flush=True)
    failures = run_chains(chains, args.data, args.jobs)
    shown = list(dict.fromkeys(name for plan in plans.values() for name in plan.tables))
    tables.main([str(ROOT / "output"), "--table", *shown])
    if len(plans) > 1:
        drawn = [ROOT / run.output for run in runs if embedded and is_looked_into(run)]
        page = ["--output", str(ROOT / "output" / "report.html"), *(["--models", *map(str, drawn)] if drawn else [])]
        report.main([str(ROOT / "output"), *page])
    for name, lines in failures.items():
        print(f"\n{name} failed:\n{lines}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where a run failed, 2 for wrong input, 130 when interrupted."""
    return exit_status(lambda: reproduce(parse_args(argv)))
