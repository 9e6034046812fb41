"""Run a protocol of the field by this checkout's train.py, for BMIP or any other trainer that it registers.

    python run.py PROTOCOL TRAINER[:CFG] DATASET [SEEDS] [CFG or TRAINERS] [--opts KEY VALUE ...]

The scripts beside this file give it PROTOCOL and BMIP.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

sys.path.append(str(Path(__file__).resolve().parents[2]))  # of the checkout, where minidassl is

from minidassl.own.files import check_writable, write_whole
from minidassl.own.jobs.commands import COMMANDS, Command
from minidassl.own.jobs.drive import drive
from minidassl.own.jobs.errors import JobsError
from minidassl.own.jobs.flags import add_flags, check_flags, engine_of, given
from minidassl.own.jobs.progress import Progress
from minidassl.own.jobs.schedule import Job
from minidassl.own.processes import LAUNCHER, end_with_launcher
from minidassl.own.run_folder import checkpoint_folders, newest_epoch
from minidassl.own.text import words

PROTOCOLS = {
    "base2new_train": "train on the base classes, and test them",
    "base2new_test": "test that model on the new classes",
    "base2new": "train on the base classes, and test them and the new classes",
    "compare": 'train BMIP and all TRAINERS ("MaPLe IVLP:CFG") on base classes, test on base and new, print a table',
    "xd_train": "train on all classes (of imagenet in the field)",
    "xd_test": "test imagenet's model, or that of --source, on all classes of DATASET",
}
# The runs of those that have several, for every seed.
PARTS = dict.fromkeys(("base2new", "compare"), ("base2new_train", "base2new_test"))
ABOUT = """
The folder of the data sets is $DATA. Output goes to the folders that the field's scripts use. What has a result of the
same command there is not run again; a test of a model that has changed since is.
"""
KEY = re.compile(r"[A-Z]+\.[A-Z]")  # how KEYs of the configuration begin
CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGS = CHECKOUT / "configs" / "trainers"
# The published base-to-new recipes by trainer; the first one that the checkout has is taken.
BMIP = ("vit_b16_c2_ep10_batch4_2ctx", "BMIP_ctx2_dp9_lr2")
RECIPES = {
    "BMIP": BMIP,
    "BMIPPlugin": BMIP,
    "CoOp": ("vit_b16_ep50_ctxv1", "vit_b16_ep50"),
    "CoCoOp": ("vit_b16_c4_ep10_batch1_ctxv1",),
    "CoPrompt": ("coprompt",),
    "IVLP": ("vit_b16_c2_ep5_batch4_2+2ctx", "vit_b16_c2_ep20_batch4_4+4ctx"),
    "MaPLe": ("vit_b16_c2_ep5_batch4_2ctx",),
    "PromptSRC": ("vit_b16_c2_ep20_batch4_4+4ctx",),
    "VPT": ("vit_b16_c2_ep5_batch4_4",),
}
BYTES_OF_RUN = 6 * 2**30  # of the largest model here with CUDA's context; it bounds the runs that share a GPU
# By what command a folder's result came about; its data folder and its Dassl do not count, which change nothing of it.
RECORD = "command.json"
# From here on torch.load refuses what upstream Dassl saves, and soon after its warm-up cannot be built either.
TOO_NEW_FOR_UPSTREAM = (2, 6)


class UsageError(Exception):
    """What is wrong with the command line or the checkout, and what to do."""


def make_parser(script: str, protocol: str) -> argparse.ArgumentParser:
    """The command line; `script` is the path of the script of a protocol that was called, or empty."""
    form = argparse.RawDescriptionHelpFormatter
    if script:
        more = "TRAINERS" if protocol == "compare" else "CFG"
        usage = f"bash {script} DATASET [SEEDS] [{more}] [flags] [--opts KEY VALUE ...]"
        text = f"{PROTOCOLS[protocol]}\n{ABOUT}"
        parser = argparse.ArgumentParser(f"bash {script}", usage, text, formatter_class=form)
    else:
        listed = "".join(f"    {name:<17}{text}\n" for name, text in PROTOCOLS.items())
        more, parser = "MORE", argparse.ArgumentParser(description=f"{__doc__}\n{listed}{ABOUT}", formatter_class=form)
    own, others = "name of a configuration of BMIP", '"TRAINER TRAINER:CFG ..." to compare with'
    helps = {"CFG": own, "TRAINERS": others, "MORE": "CFG; for compare the other trainers"}
    parser.add_argument("--script", help=argparse.SUPPRESS)
    parser.add_argument("protocol", choices=PROTOCOLS, help=argparse.SUPPRESS if script else None)
    text = "a registered trainer, and where wanted its configuration, TRAINER:CFG"
    parser.add_argument("trainer", help=argparse.SUPPRESS if script else text)
    parser.add_argument("dataset", metavar="DATASET", help="a file in configs/datasets, without .yaml")
    parser.add_argument("seeds", metavar="SEEDS", nargs="?", default="1", help='"1 2 3" or 1,2,3; default: 1')
    parser.add_argument("more", metavar=more, nargs="?", default="", help=helps[more])
    parser.add_argument("--data", default=os.environ.get("DATA"), help="folder of the data sets; default: $DATA")
    parser.add_argument("--shots", type=count, default="16", help="training images per class; default: 16")
    text = "xd_test: the data set that the model has learned; default: imagenet"
    text = text if protocol in ("", "xd_test") else argparse.SUPPRESS
    parser.add_argument("--source", default="imagenet", help=text)
    text = "upstream Dassl, or the built-in stand-in; default: upstream where it is there and works"
    parser.add_argument("--dassl", choices=("auto", "upstream", "stand-in"), default="auto", help=text)
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    parser.add_argument("--force", action="store_true", help="run all again; new models replace the trained ones")
    if protocol in ("", "compare"):
        add_flags(parser)
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs for train.py")
    return parser


def count(text: str) -> str:
    """A whole number from 1, for argparse."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return str(int(text))


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a run failed, 2 wrong input, 130 interrupted."""
    end_with_launcher()
    given_words = sys.argv[1:] if argv is None else argv
    script, protocol = given_words[1:3] if given_words[:1] == ["--script"] else ("", "")
    parser = make_parser(script, protocol)
    args, unknown = parser.parse_known_args(given_words)
    if bare := [*filter(KEY.match, (args.seeds, args.more, *unknown))]:
        parser.error(f"{bare[0]}: KEY VALUE pairs go after --opts")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if flags := [word for word in args.opts if word.startswith("--")]:
        parser.error(f"{flags[0]}: flags go before --opts")
    try:
        return run(args)
    except (UsageError, JobsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}; make room, or this path writable", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(f"error: {failure(error)}", file=sys.stderr)
        return 1


def failure(error: subprocess.CalledProcessError) -> str:
    """Which run failed, and where to read why."""
    output = error.cmd[error.cmd.index("--output-dir") + 1]
    log = "".join(f" and {path.relative_to(CHECKOUT)}" for path in logs(CHECKOUT / output)[-1:])
    return f"train.py for {output} ended with status {error.returncode}; see above{log}"


def run(args: argparse.Namespace) -> int:
    """Run a protocol for each seed and trainer; gives the exit status."""
    args.data = str(data_folder(args.data))
    comparing = args.protocol == "compare"
    if comparing:
        check_flags(args)
    python = interpreter(args.dassl, comparing)
    args.dataset = data_set(args.dataset)
    if args.protocol == "xd_test":
        args.source = data_set(args.source)
    seeds = words(args.seeds)
    if not seeds or not all(map(str.isdecimal, seeds)):
        raise UsageError(f'SEEDS is {args.seeds!r}; give whole numbers from 0, such as "1 2 3" or 1,2,3.')
    if len(args.opts) % 2:
        raise UsageError(f"--opts takes KEY VALUE pairs, but {shlex.join(args.opts)} is odd.")
    seeds = [*dict.fromkeys(str(int(seed)) for seed in seeds)]
    trainers = words(args.more) if comparing else [f"{args.trainer.split(':')[0]}:{args.more}"] if args.more else []
    if not args.more or comparing and not any(choice.startswith(f"{args.trainer}:") for choice in trainers):
        trainers.insert(0, args.trainer)
    if comparing and not args.more:
        print(f'Only {args.trainer} is trained; to compare it, add "TRAINER TRAINER:CFG ..." after the seeds.')
    recipes = [recipe(choice) for choice in dict.fromkeys(trainers)]
    parts = PARTS.get(args.protocol, [args.protocol])
    # All trainers with one seed before the next, so that what is wrong with one shows early.
    planned = [(one, [plan_part(args, part, *one, seed) for part in parts]) for seed in seeds for one in recipes]
    if not args.dry_run:
        check(args, [part for _, of_seed in planned for part in of_seed])
    results = {one: [] for one in recipes}
    # Several at once, which leaves only results to read below.
    at_once = comparing and given(args) and not args.dry_run
    failed = run_at_once(args, "minidassl" in python, seeds, recipes) if at_once else {}
    for one, of_seed in planned:
        try:
            if one not in failed:
                results[one].append([run_part(args, python, part) for part in of_seed])
        except subprocess.CalledProcessError as error:
            if not comparing:
                raise
            failed[one] = failure(error)
            print(f"error: {failed[one]}; the other trainers go on", file=sys.stderr)
    if comparing and not args.dry_run:
        print_table(args, seeds, results, failed)
    return 1 if failed else 0


def run_at_once(
    args: argparse.Namespace, on_stand_in: bool, seeds: list[str], recipes: list[tuple[str, Path]]
) -> dict[tuple[str, Path], str]:
    """Train and test all trainers with all seeds where the flags say; gives why trainers failed."""
    options = ["--data", args.data, "--shots", args.shots, "--dassl", "stand-in" if on_stand_in else "upstream"]
    options += [*["--force"] * args.force, "--opts", *args.opts]
    jobs, owners = [], {}
    for seed in seeds:
        for one in recipes:
            trainer, cfg = one[0], one[1].stem
            name = f"{trainer}-{cfg}-{args.dataset}-{args.shots}-seed{seed}"
            folder = CHECKOUT / "output" / ".jobs" / name
            command = (sys.executable, __file__, "base2new", trainer, args.dataset, seed, cfg, *options)
            jobs.append(Job(name, folder, Command(command, str(CHECKOUT), str(folder / "log.txt"))))
            owners[name] = one
    engine = engine_of(args, CHECKOUT, False, BYTES_OF_RUN)
    failures = drive(jobs, COMMANDS, engine, args.retries, Progress(engine.room))
    args.force = False  # what is done now is not to be done again
    return {owners[one.job.name]: f"{one.text}; see {one.job.work.log}, of {one.job.work}" for one in failures}


def data_set(name: str) -> str:
    """The name of the file in configs/datasets for a data set, given by it or by its registered name, `EuroSAT`."""
    files = sorted((CHECKOUT / "configs" / "datasets").glob("*.yaml"))
    for path in files:
        if name == path.stem:
            return name
    for path in files:
        if name == registered_name(path):
            return path.stem
    hint = nearest(name, [path.stem for path in files], str(CHECKOUT / "configs" / "datasets"))
    raise UsageError(f"There is no configs/datasets/{name}.yaml. {hint}")


def registered_name(path: Path) -> str:
    """The name of a data set's class, in its file in configs/datasets."""
    found = re.search(r"^ +NAME: *[\"']?(\w+)[\"']?\s*$", path.read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else ""


def missing_data(args: argparse.Namespace) -> str:
    """The fault of a data set whose folder is not in that of the data sets; "" too where its class does not tell."""
    name = registered_name(CHECKOUT / "configs" / "datasets" / f"{args.dataset}.yaml")
    own = re.compile(rf"^class {name}\((?:(?!^class ).)*?^ +dataset_dir *= *[\"'](.+?)[\"']", re.MULTILINE | re.DOTALL)
    texts = (path.read_text(errors="replace") for path in (CHECKOUT / "datasets").glob("*.py"))
    found = next(filter(None, map(own.search, texts)), None)
    if (
        not found
        or (Path(args.data) / found[1]).exists()
        or not {"DATASET.ROOT", "DATASET.NAME"}.isdisjoint(args.opts)
    ):
        return ""
    return (
        f"There is no {Path(args.data) / found[1]}, the folder of {args.dataset}; put it there, or set DATA or --data."
    )


def nearest(name: str, known: Iterable[str], where: str) -> str:
    """The end of a message about an unknown name: the most similar known one, and where all are listed."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"{f'Do you mean {close[0]}? ' if close else ''}ls {where} lists all."


def check(args: argparse.Namespace, parts: list[Part]) -> None:
    """Refuse before the first run what a later one would be refused for; raises UsageError."""
    for part in parts:
        settle(CHECKOUT / (part.model or part.output))
    trained = {part.output for part in parts if part.trains}
    untrained = {part.model for part in parts if part.model and part.model not in trained}
    faults = [
        f"There is no trained model in {CHECKOUT / model}; train it first."
        for model in sorted(untrained)
        if newest_epoch(checkpoint_folders(CHECKOUT / model)) is None
    ]
    faults += [other_model(part) for part in parts if part.trains and not args.force]
    if args.force or not all(newest_log(CHECKOUT / part.output) for part in parts):
        faults.append(missing_data(args))
    for part in parts:
        try:
            check_writable(CHECKOUT / part.output, is_folder=True)
        except OSError as error:
            faults.append(f"{error.filename}: {error.strerror}; {part.output} is to be written.")
    if faults := [*dict.fromkeys(filter(None, faults))]:
        raise UsageError("\n".join(faults))


def data_folder(text: str | None) -> Path:
    """The folder of the data sets, absolute."""
    if not text:
        raise UsageError(
            "DATA is not set; export DATA=/path/to/datasets, the folder of the data sets, or give --data."
        )
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(f"DATA is {text!r}, which is no folder; set it, or --data, to the folder of the data sets.")
    return path


def has_upstream() -> bool:
    """Whether upstream Dassl is installed, to whose name minidassl answers, too."""
    finders = (finder for finder in sys.meta_path if type(finder).__module__ != "minidassl._alias")
    return any(finder.find_spec("dassl", None) for finder in finders)


def interpreter(choice: str, comparing: bool) -> list[str]:
    """Python, on upstream Dassl where that is there and works for all trainers concerned, else on the stand-in."""
    torch, reason, absent = version("torch"), "", not has_upstream()
    if choice == "upstream" and absent:
        raise UsageError(
            "Upstream Dassl is not installed; install it, name its folder in PYTHONPATH, or omit --dassl."
        )
    if choice == "auto" and absent:
        reason = "upstream Dassl is not installed"
    elif choice == "auto" and comparing and tuple(map(int, torch.split(".")[:2])) >= TOO_NEW_FOR_UPSTREAM:
        reason = f"with torch {torch} most trainers fail on upstream Dassl"
    if reason:
        choice = "stand-in"
        print(f"Running on the built-in stand-in for Dassl: {reason}")
    return [sys.executable, *(("-m", "minidassl") if choice == "stand-in" else ()), "train.py"]


def recipe(choice: str) -> tuple[str, Path]:
    """Trainer and the file of its configuration."""
    trainer, _, cfg = choice.removesuffix(".yaml").partition(":")
    paths = sorted((CONFIGS / trainer).glob("*.yaml")) or CONFIGS.glob(f"{trainer.lower()}.yaml")
    files = {path.stem: path for path in paths}
    wanted = (cfg,) if cfg else (*RECIPES.get(trainer, ()), *(files if len(files) == 1 else ()))
    for name in wanted:
        if name in files:
            return trainer, files[name]
    if not files:
        known = sorted({path.parent.name for path in CONFIGS.glob("*/*.yaml")})
        raise UsageError(f"TRAINER is {trainer!r}, without a configuration. {nearest(trainer, known, str(CONFIGS))}")
    fault = (
        f"CFG is {cfg!r}, which {trainer} lacks" if cfg else f"Which configuration of {trainer}? Write {trainer}:CFG"
    )
    raise UsageError(f"{fault}. {nearest(cfg, files, str(next(iter(files.values())).parent))}")


def folder(part: str, dataset: str, shots: str, trainer: str, cfg: str, seed: str) -> Path:
    """Where the field's scripts put a run."""
    return Path(
        {
            "base2new_train": f"output/base2new/train_base/{dataset}/shots_{shots}/{trainer}/{cfg}/seed{seed}",
            "base2new_test": f"output/base2new/test_new/{dataset}/shots_{shots}/{trainer}/{cfg}/seed{seed}",
            "xd_train": f"output/{dataset}/{trainer}/{cfg}_{shots}shots/seed{seed}",
            "xd_test": f"output/evaluation/{trainer}/{cfg}_{shots}shots/{dataset}/seed{seed}",
        }[part]
    )


class Part(NamedTuple):
    """One train.py command, without the epoch to test and the data folder."""

    output: Path
    model: Path | None  # to test
    command: list[str]  # flags
    options: list[str]  # KEY VALUE pairs

    @property
    def trains(self) -> bool:
        return self.model is None


def plan_part(args: argparse.Namespace, part: str, trainer: str, config: Path, seed: str) -> Part:
    """The training or the test of one model."""
    output, trains = folder(part, args.dataset, args.shots, trainer, config.stem, seed), part.endswith("train")
    command = [
        *("--seed", seed, "--trainer", trainer),
        *("--dataset-config-file", f"configs/datasets/{args.dataset}.yaml"),
        *("--config-file", config.relative_to(CHECKOUT).as_posix(), "--output-dir", output.as_posix()),
    ]
    model = None
    if not trains:
        source = args.dataset if part == "base2new_test" else args.source
        model = folder(part.replace("test", "train"), source, args.shots, trainer, config.stem, seed)
        command += ["--eval-only", "--model-dir", model.as_posix()]
    classes = {"base2new_train": "base", "base2new_test": "new"}.get(part, "all")
    shots = args.shots if trains or part == "base2new_test" else "-1"
    options = ["DATASET.NUM_SHOTS", shots, "DATASET.SUBSAMPLE_CLASSES", classes, *args.opts]
    return Part(output, model, command, options)


def run_part(args: argparse.Namespace, python: list[str], part: Part) -> float | None:
    """Train or test one model; gives the accuracy in per cent."""
    output, model, trains, command = part.output, part.model, part.trains, part.command
    if model and not args.dry_run:
        epoch = newest_epoch(checkpoint_folders(CHECKOUT / model))
        if epoch is None:
            raise UsageError(f"There is no trained model in {CHECKOUT / model}; train it first.")
        command = [*command, "--load-epoch", str(epoch)]
    command = [*command, *part.options]
    whole = [*python, "--root", args.data, *command]
    if args.dry_run:
        print(shlex.join(whole))
        return None
    record = {"command": command, "model_log": model and log_digest(CHECKOUT / model)}
    if not args.force and has_result(output, record, trains):
        print(f"There is a result in {output}")
    else:
        print(shlex.join(whole), flush=True)
        with replaced(CHECKOUT / output, args.force and trains):
            # Before, so that a run that was stopped is recognised; the log comes after it, and makes it a result.
            write_whole(CHECKOUT / output / RECORD, json.dumps(record, indent=1) + "\n")
            environment = {**os.environ, LAUNCHER: str(os.getpid())}
            subprocess.run(whole, cwd=CHECKOUT, env=environment, check=True)
            record["log"] = log_digest(CHECKOUT / output)
            write_whole(CHECKOUT / output / RECORD, json.dumps(record, indent=1) + "\n")
    return accuracy(CHECKOUT / output, trains)


@contextmanager
def replaced(folder: Path, anew: bool) -> Iterator[None]:
    """Run the block with an output folder; `anew`: with an empty one, which replaces the old at its first checkpoint.

    A folder with nothing but a RECORD is deleted at the end: that run came to nothing.
    """
    if anew and folder.exists():
        folder.rename(aside(folder))
    try:
        yield
    finally:
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {RECORD}:
            (folder / RECORD).unlink(missing_ok=True)
            os.removedirs(folder)
        settle(folder)


def aside(folder: Path) -> Path:
    """Where an output folder waits while its run is repeated; hidden from the field's parse_test_res.py."""
    return folder.with_name(f".{folder.name}.before")


def settle(folder: Path) -> None:
    """End a replacement, even one that was killed: the new model stays if there is one, else the old one returns."""
    old = aside(folder)
    if not old.exists():
        return
    if checkpoint_folders(folder):
        shutil.rmtree(old)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        old.rename(folder)
        print(f"The repeated run left no model; {folder} is as it was before", file=sys.stderr)


def has_result(output: Path, record: dict[str, Any], trains: bool) -> bool:
    """Whether the folder has the result of what `record` describes, so that it need not run.

    A test without a record, or with another one, is run again. A trained model without a record is taken as it is: the
    field's own scripts leave such.
    """
    folder = CHECKOUT / output
    found, log_now = accuracy(folder, trains) is not None, log_digest(folder)
    if not (folder / RECORD).is_file():
        if found and trains:
            print(f"{output} was not trained by this script: how is not known, and --force trains it again")
        return found and trains
    earlier, before = earlier_record(folder)
    same = before == settings(record["command"]) and earlier.get("model_log") == record["model_log"]
    return found and same and earlier.get("log") == log_now


def settings(command: list[str]) -> dict[str, str]:
    """Flags and keys of a command with their values as yacs reads them, without what its trainer does not read.

    That is TRAINER.NODE.* of a NODE that neither has its name nor is in its source; the plugin's has its objectives'.
    """
    words = [word for word in command if word != "--eval-only"]
    pairs = dict(zip(words[::2], words[1::2]))
    trainer = pairs["--trainer"]
    texts = [path.read_text(errors="replace") for path in (CHECKOUT / "trainers").rglob("*.py")]
    texts = [text for text in texts if re.search(rf"^class {trainer}\(", text, re.MULTILINE)] or [
        path.read_text(errors="replace") for path in (CHECKOUT / "bmip_plugin" / "trainers").rglob("*.py")
    ]

    def is_read(key: str) -> bool:
        top, _, rest = key.partition(".")
        node, _, leaf = rest.partition(".")
        named = re.compile(rf"\bTRAINER\.{re.escape(node)}\b")
        return top != "TRAINER" or not leaf or node.upper() == trainer.upper() or any(map(named.search, texts))

    return {key: literal(value) for key, value in pairs.items() if is_read(key)}


def literal(text: str) -> str:
    """One text for all ways to write a value: (32,32) and (32, 32), 1e-3 and 0.001."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def earlier_record(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The record in a run's folder, and the `settings` of its command; raises UsageError."""
    try:
        earlier = json.loads((folder / RECORD).read_text())
        return earlier, settings(earlier["command"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder / RECORD} cannot be read ({error!r}); move it elsewhere, and the model is taken as it is."
        ) from error


def other_model(part: Part) -> str:
    """The fault of a folder with a model that another command trained, from which the run would go on; "" else."""
    folder = CHECKOUT / part.output
    if not (folder / RECORD).is_file() or not any(folder.glob("*/model.pth.tar-*")):
        return ""
    earlier, before = earlier_record(folder)
    now = settings([*part.command, *part.options])
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    reasons = [f"{key} was {before.get(key, 'not given')} and is now {now.get(key, 'not given')}" for key in keys]
    if earlier.get("log") not in (None, log_digest(folder)) and not reasons:
        reasons = ["it was trained further by another command"]
    if not reasons:
        return ""
    return (
        f"{part.output} holds a model of another command: {'; '.join(reasons)}. Move that folder away, repeat that "
        "command, or give --force (before --opts) to replace the model by a new one."
    )


def logs(output: Path) -> list[Path]:
    """The logs in a run's folder, the newest last."""
    return sorted(output.glob("log.txt*"), key=lambda path: path.stat().st_mtime)


def newest_log(output: Path) -> bytes:
    """The content of the newest log in a run's folder; nothing where there is none."""
    return b"".join(path.read_bytes() for path in logs(output)[-1:])


def log_digest(output: Path) -> str:
    """What tells one run in a folder from another, also after it was copied: its log has the times of its steps."""
    return hashlib.sha256(newest_log(output)).hexdigest()


def accuracy(output: Path, trained: bool) -> float | None:
    """The last accuracy in the newest log of a run that came to its end; None where there is none."""
    text = newest_log(output).decode(errors="replace")
    if trained:
        text = "".join(re.split(r"Finish(?:ed)? training", text)[1:])
    found = re.findall(r"\* accuracy: ([\d.]+)%", text)
    return float(found[-1]) if found else None


def print_table(
    args: argparse.Namespace,
    seeds: list[str],
    results: dict[tuple[str, Path], list[list[float | None]]],
    failed: dict[tuple[str, Path], str],
) -> None:
    """Mean accuracy on base and new classes over the seeds, and their harmonic mean; what failed, and why, below."""
    lines = []
    for one, of_seeds in results.items():
        trainer, cfg = one[0], one[1].stem
        flat = [value for of_seed in of_seeds for value in of_seed]
        if one in failed:
            lines.append([trainer, "", "", "", f"{cfg}, failed"])
        elif None in flat:
            lines.append([trainer, "", "", "", f"{cfg}, without an accuracy in its logs"])
        else:
            means = statistics.mean(flat[::2]), statistics.mean(flat[1::2])
            lines.append([trainer, *means, float(statistics.harmonic_mean(means)), cfg])
    title = f"{args.shots} shot{'s' * (args.shots != '1')}, seed{'s' * (len(seeds) > 1)} {' '.join(seeds)}"
    print(f"\n{args.dataset}, {title}: accuracy in per cent")
    print(tabulate(lines, ["", "base", "new", "HM", "configuration"], tablefmt="plain", floatfmt=".1f"))
    for (trainer, _), reason in failed.items():
        print(f"{trainer} failed: {reason}")


if __name__ == "__main__":
    sys.exit(main())
