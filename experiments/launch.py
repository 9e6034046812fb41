"""Run a protocol: build the train.py commands of a method on a data set, run them, and print their table.

    python scripts/launch.py PROTOCOL METHOD DATASET [SEED] [CFG]

{protocols}

METHOD is one of {methods};
METHOD:VARIANT adds a variant to its recipe. The data folder is --data or $DATA; the built-in data sets need none.
Output goes to CoOp's and MaPLe's folders below output/. CFG names a recipe, or is the path of a YAML file; where there
is none it is the published one of the method and protocol, and the small CLIP's for built-in data. Flags and KEY VALUE
pairs that the launcher does not know go to train.py.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import textwrap
from collections import deque

from trainers.prompting.errors import InputError

from . import runs as at
from .commands import add_data, exit_status, import_flags, make_parser
from .methods import METHODS, import_modules, parse, path_as_recipe
from .protocols import PROTOCOLS, listed, plan
from .runs import Request, Run, check_data, check_files
from .tables import conclusions

# Lines of a run that a table's reader wants to see passing by; everything is in the run's log.txt.
SHOWN = ("epoch [", "* accuracy", "Already trained", "Found checkpoint")


def execute(command: list[str], quiet: bool, small: bool = False) -> int:
    """Run a command from the repository's root; `quiet` shows the lines of `SHOWN`, and the last ones on failure.

    `small` is the small CLIP, which several threads slow down where another process wants the cores.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if small else None
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


def parse_args(argv: list[str] | None = None) -> tuple[Request, argparse.Namespace]:
    """The request of the words and flags, and the other flags; those that are for train.py are its `extra`.

    Raises:
        InputError: an unknown protocol or method, or a seed that is no number.
    """
    names = textwrap.fill(", ".join(METHODS), 119, initial_indent=" " * 17).lstrip()
    parser = make_parser(
        __doc__.format(protocols=listed(PROTOCOLS), methods=names),
        "launch.py PROTOCOL METHOD DATASET [SEED] [CFG] [flags] [flags of train.py] [KEY VALUE ...]",
    )
    add = parser.add_argument
    add("--cfg", help="the same as CFG, for protocols that are rarely given a seed")
    add_data(parser)
    add("--shots", type=int, default=16)
    add("--weights", help="reproduce: folder of the released weights, above base/seed1 or seed1")
    add("--source", help="xd_test and few_shot_test: data set that the model learned (imagenet)")
    add("--n-ctx", type=int, help="few-shot CoOp: context tokens (16)")
    add("--csc", choices=["True", "False"], help="few-shot CoOp: a context for every class (False)")
    add("--position", choices=["end", "middle", "front"], help="few-shot CoOp: place of the class name (end)")
    add("--dry-run", action="store_true", help="print the commands, run nothing")
    add("--force", action="store_true", help="train again what is trained already")
    args, rest = parser.parse_known_args(argv)

    # By hand: Python versions differ in whether an optional word may follow a flag, and would take train.py's for it.
    words = list(itertools.takewhile(lambda word: not _is_for_train_py(word), rest))[:5]
    protocol, method, dataset, seed, recipe = words + [None] * (5 - len(words))
    args.extra = [*import_flags(args.modules), *rest[len(words) :]]
    if protocol not in PROTOCOLS:
        raise InputError(f"PROTOCOL is {protocol or 'missing'}; choose one of {', '.join(PROTOCOLS)}.")
    import_modules(args.modules)
    method, variant = parse(method)
    if seed is not None and not seed.isdecimal():
        raise InputError(f"SEED is {seed!r}; set it to a whole number from 0, and name a configuration after it.")
    request = Request(
        protocol,
        method,
        dataset or PROTOCOLS[protocol].dataset,
        None if seed is None else int(seed),
        recipe=path_as_recipe(args.cfg or recipe or ""),
        variant=variant,
        **{name: getattr(args, name) for name in ("shots", "source", "weights", "n_ctx", "csc", "position")},
    )
    return request, args


def _is_for_train_py(word: str) -> bool:
    """A flag, or a key such as OPTIM.LR."""
    return word.startswith("-") or ("." in word and word.isupper())


def conclusion(request: Request, runs: list[Run]) -> str:
    """The table of a protocol's runs, with its title."""
    title = f"{request.dataset}, {request.shots} shots"
    if len({run.seed for run in runs}) > 1:
        return f"{title}: accuracy in per cent\n{conclusions.seeds(runs)}"
    table = PROTOCOLS[request.protocol].conclusion(runs)
    return f"{title}, seed {runs[0].seed}: accuracy in per cent\n{table}"


def launch(request: Request, args: argparse.Namespace) -> int:
    """Exit status of the first run that fails, else 0.

    Raises:
        InputError: arguments that do not go together; a data set, recipe or folder that is not there.
    """
    runs = plan(request)
    check_files(runs, request.source)
    for run in runs if request.weights else ():
        if not os.path.isdir(run.model_dir):
            below = os.path.relpath(run.model_dir, request.weights)
            raise InputError(f"There is no folder {run.model_dir}; give --weights the folder that has {below}.")
    check_data([request.dataset], args.data)
    quiet = len(runs) > 1
    for number, run in enumerate(runs, 1):
        command = run.command(args.data, args.extra, args.force)
        if args.dry_run:
            print(shlex.join(command))
            continue
        if quiet:
            what = f"{run.method}, {run.dataset}, {run.classes} classes, seed {run.seed}"
            print(f"[{number}/{len(runs)}] {what} -> {run.output}")
        status = execute(command, quiet, small=run.is_small)
        if status:
            return status
    if quiet and not args.dry_run:
        print(f"\n{conclusion(request, runs)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: of the first run that fails, 2 for wrong input, 130 when interrupted, else 0."""
    return exit_status(lambda: launch(*parse_args(argv)))
