"""Run a protocol: build the train.py commands of a method on a data set, run them, and print their table.

    python scripts/launch.py PROTOCOL METHOD DATASET [SEED] [CFG]

{protocols}

METHOD is one of docs/METHODS.md, such as BMIP or MaPLe (without it, all are listed); METHOD:VARIANT adds a variant to
its recipe. The data folder is --data or $DATA; the built-in data sets need none. Output goes to CoOp's and MaPLe's
folders below output/. CFG names a recipe, or is the path of a YAML file; where there is none it is the published one
of the method and protocol, and the small CLIP's for built-in data. Flags and KEY VALUE pairs that the launcher does
not know go to train.py.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
from collections import deque

from minidassl.own.jobs.claims import Held, claim
from minidassl.own.jobs.devices import THREADS
from minidassl.own.jobs.flags import add_flags, check_flags, given
from minidassl.own.processes import LAUNCHER
from minidassl.own.text import words

from train import flags_of
from trainers.prompting.errors import InputError, check_name
from trainers.prompting.recipes import data_set_file
from trainers.records import print_outcome

from . import runs as at
from .commands import (
    add_backbone,
    add_data,
    add_shots,
    add_tag,
    backbone_flags,
    exit_status,
    import_flags,
    make_parser,
)
from .methods import parse, path_as_recipe, with_backbone
from .protocols import PROTOCOLS, listed, plan
from .runner import check_plan, is_done, report_failures, run_chains
from .runs import NEW_TAG, Request, Run, check_data, check_models, check_passed_on, check_tag, parse_seeds
from .tables import conclusions

# Lines of a run that a table's reader wants to see passing by; everything is in the run's log.txt.
SHOWN = ("epoch [", "* accuracy", "Already trained", "Found checkpoint")


def execute(command: list[str], quiet: bool, small: bool) -> int:
    """Run a command from the repository's root; `quiet` shows the lines of `SHOWN`, and the last ones on failure."""
    # Several threads slow the small CLIP down where another process wants the cores.
    threads = {THREADS: "1"} if small else {}
    environment = {**threads, **os.environ, LAUNCHER: str(os.getpid())}
    if not quiet:
        return subprocess.call(command, cwd=at.ROOT, env=environment)
    last = deque(maxlen=20)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    process = subprocess.Popen(command, cwd=at.ROOT, env=environment, **pipes)
    for line in process.stdout:
        last.append(line)
        if line.startswith(SHOWN):
            print("  " + line, end="", flush=True)
    if process.wait():
        sys.stderr.writelines(last)
    return process.returncode


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags; `words` are those before the first argument for train.py, and `extra` is what goes to train.py."""
    parser = make_parser(
        __doc__.format(protocols=listed(PROTOCOLS)),
        "launch.py PROTOCOL METHOD DATASET [SEED] [CFG] [flags] [flags of train.py] [KEY VALUE ...]",
    )
    add = parser.add_argument
    add("--cfg", help="the same as CFG, for protocols that are rarely given a seed")
    add_data(parser)
    add_shots(parser)
    add("--weights", help="reproduce: folder of the released weights, above base/seed1 or seed1")
    add(
        "--source",
        help="xd_test and few_shot_test: data set that the model learned (imagenet; symbols for built-in data)",
    )
    add("--n-ctx", type=int, help="few-shot CoOp: context tokens (16)")
    add("--csc", choices=["True", "False"], help="few-shot CoOp: a context for every class (False)")
    add("--position", choices=["end", "middle", "front"], help="few-shot CoOp: place of the class name (end)")
    add("--dry-run", action="store_true", help="print the commands, run nothing")
    add_tag(parser)
    add_backbone(parser)
    add("--force", action="store_true", help="train and test again what is done already")
    add("--verbose", action="store_true", help="print all that the runs print, such as the configuration")
    add_flags(parser)
    args, rest = parser.parse_known_args(argv)

    def is_for_train_py(word: str) -> bool:
        # A negative number is a wrong seed.
        return (word.startswith("-") and not word[1:].isdecimal()) or ("." in word and word.isupper())

    # By hand: Python versions differ in whether an optional word may follow a flag, and would take train.py's for it.
    args.words = list(itertools.takewhile(lambda word: not is_for_train_py(word), rest))[:5]
    args.flags = flags_of(parser)
    own = [*import_flags(args.modules), *backbone_flags(args.backbone), *["--verbose"] * args.verbose]
    args.extra = [*own, *rest[len(args.words) :]]
    return args


def request_of(args: argparse.Namespace) -> Request:
    """Raises InputError for an unknown protocol or method, or a seed that is no number."""
    protocol, method, dataset, seed, recipe = args.words + [None] * (5 - len(args.words))
    check_name("PROTOCOL", protocol, PROTOCOLS, "--help")
    if len(words(seed or "")) > 1:
        raise InputError(
            f"SEED is {seed!r}, but this command takes one; scripts/compare.sh and scripts/reproduce.py take several."
        )
    if seed is not None and not seed.isdecimal():
        raise InputError(f"SEED is {seed!r}; set it to a whole number from 0, and name a configuration after it.")
    dataset, source = (name and data_set_file(name) for name in (dataset, args.source))
    # The last, because the declarations of methods import torch.
    method, variant = parse(method)
    return Request(
        protocol,
        method,
        dataset or PROTOCOLS[protocol].dataset,
        None if seed is None else parse_seeds(seed)[0],
        recipe=path_as_recipe(args.cfg or recipe or ""),
        variant=variant,
        source=source,
        tag=with_backbone(check_tag(args.tag), args.backbone),
        **{name: getattr(args, name) for name in ("shots", "weights", "n_ctx", "csc", "position")},
    )


def launch(args: argparse.Namespace) -> int:
    """Exit status of the first run that fails, else 0; raises InputError for what cannot run."""
    request = request_of(args)
    check_passed_on(args.extra, args.flags)
    check_flags(args)
    if args.force and given(args):
        raise InputError(f"--force repeats runs here, one after another; leave out it or {' '.join(given(args))}.")
    runs = plan(request)
    for run in runs if request.weights else ():
        if not os.path.isdir(run.model_dir):
            below = os.path.relpath(run.model_dir, request.weights)
            raise InputError(f"There is no folder {run.model_dir}; give --weights the folder that has {below}.")
    advice = f"Move them away, train in them again with --force, or {NEW_TAG}."
    missing = check_plan([runs], args.data, args.extra, advice, args.force)
    check_data({run.dataset for run in runs}, args.data, folders=not args.dry_run)
    if not args.dry_run:
        check_models(runs)
    if args.dry_run:
        print("\n".join(shlex.join(run.command(args.data, args.extra, args.force)) for run in runs))
        return 0
    several = len(runs) > 1
    if given(args):
        if failures := run_chains([runs], missing, args.data, args.extra, args):
            return report_failures(failures)
    elif status := run_in_order(runs, args):
        return status
    if several:
        seeds = {run.seed for run in runs}
        table = conclusions.seeds if len(seeds) > 1 else PROTOCOLS[request.protocol].conclusion
        seed = "" if len(seeds) > 1 else f", seed {runs[0].seed}"
        print(f"\n{request.dataset}, {request.shots} shots{seed}: accuracy in per cent\n{table(runs)}")
    return 0


def run_in_order(runs: list[Run], args: argparse.Namespace) -> int:
    """One after another, with their most important lines; exit status of the first that fails, else 0."""
    several = len(runs) > 1
    for number, run in enumerate(runs, 1):
        done = not args.force and is_done(run, args.data, args.extra)
        state = f"already {'trained' if run.trains else 'tested'}"
        if several:
            text = f"{run.method}, {run.dataset}, {run.classes} classes, seed {run.seed}"
            print(f"[{number}/{len(runs)}] {text}" + (f": {state}" if done else f"\n  -> {run.output}"), flush=True)
        elif done:
            print(f"{state.capitalize()}: {run.output}\n  (its result is in result.json; --force does it again)")
            print_outcome(run.folder)
        if not done:
            command = run.command(args.data, args.extra, args.force)
            try:
                with claim(run.folder):
                    status = execute(command, several and not args.verbose, small=run.is_small)
            except Held as held:
                raise InputError(f"{run.output} is being done by {held}; wait for it, or stop it.") from held
            if status:
                return status
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: of the first run that fails, 2 for wrong input, 130 when interrupted, else 0."""
    return exit_status(launch, parse_args(argv))
