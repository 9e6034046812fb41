"""Run a protocol: build the train.py commands of a method on a data set, run them, and print their table.

    python scripts/launch.py base2new_train BMIP eurosat 1     train on base classes, test them
    python scripts/launch.py base2new_test BMIP eurosat 1      test that model on new classes
    python scripts/launch.py base2new BMIP eurosat 1           both, all classes together, zero-shot CLIP, and a table

The data folder is --data or $DATA; the built-in data sets need none. Output goes to CoOp's folders,
output/base2new/{train_base,test_new,test_all}/DATASET/shots_16/TRAINER/CFG/seedSEED.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainers.prompting.errors import InputError  # noqa: E402
from trainers.records import read_result  # noqa: E402

# The configuration of a method where none is named; built-in data sets go with the small CLIP's.
DEFAULT_CFG = {"BMIP": "vit_b16_c2_ep10_batch4_2ctx", "ZeroshotCLIP": "vit_b16"}
BUILTIN_CFG = "tiny"
BUILTIN_DATASETS = ("digits", "symbols", "symbols_inverse", "symbols_noise", "symbols_sketch", "symbols_tilt")
BASELINE = "ZeroshotCLIP"
# Lines of a run that a table's reader wants to see passing by; everything is in the run's log.txt.
SHOWN = ("epoch [", "* accuracy", "Already trained", "Found checkpoint")


@dataclass(frozen=True)
class Run:
    """One train.py command of the base-to-new protocol.

    Attributes:
        trainer, dataset, seed, cfg, shots: what runs; `dataset` and `cfg` are names of YAML files.
        classes: "base", "new" or "all".
        trains: train on these classes and test them, rather than test the model trained on base.
    """

    trainer: str
    dataset: str
    seed: int
    cfg: str
    shots: int
    classes: str
    trains: bool = False

    def folder(self, phase: str) -> str:
        """CoOp's output folder of a phase such as "train_base"."""
        tail = f"{self.dataset}/shots_{self.shots}/{self.trainer}/{self.cfg}/seed{self.seed}"
        return f"output/base2new/{phase}/{tail}"

    @property
    def output(self) -> str:
        return self.folder(f"{'train' if self.trains else 'test'}_{self.classes}")

    def command(self, data: str | None, extra: list[str], force: bool = False) -> list[str]:
        """The command line, from the repository's root."""
        evaluates = [] if self.trains else ["--eval-only"]
        if not self.trains and self.trainer != BASELINE:
            evaluates += ["--model-dir", self.folder("train_base")]
        return [
            *(sys.executable, "train.py"),
            *(("--root", data) if data else ()),
            *("--seed", str(self.seed)),
            *("--trainer", self.trainer),
            *("--dataset-config-file", f"configs/datasets/{self.dataset}.yaml"),
            *("--config-file", f"configs/trainers/{self.trainer}/{self.cfg}.yaml"),
            *("--output-dir", self.output),
            *evaluates,
            *(["--force"] if force and self.trains else []),
            *extra,
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", self.classes),
        ]


def plan(protocol: str, trainer: str, dataset: str, seed: int, cfg: str | None, shots: int) -> list[Run]:
    """The runs of a protocol, in order."""

    def run(trainer: str, cfg: str | None, classes: str, trains: bool = False) -> Run:
        default = BUILTIN_CFG if dataset in BUILTIN_DATASETS else DEFAULT_CFG[trainer]
        return Run(trainer, dataset, seed, cfg or default, shots, classes, trains)

    train, new, every = run(trainer, cfg, "base", True), run(trainer, cfg, "new"), run(trainer, cfg, "all")
    # On the same backbone as the method.
    baseline_cfg = BUILTIN_CFG if train.cfg == BUILTIN_CFG else None
    baseline = [run(BASELINE, baseline_cfg, classes) for classes in ("base", "new", "all")]
    return {
        "base2new_train": [train],
        "base2new_test": [new],
        "base2new": [*baseline, train, new, every],
    }[protocol]


def check_files(runs: list[Run]) -> None:
    """Refuse data sets and configurations that do not exist, before anything starts."""
    for run in runs:
        for folder, name in (("configs/datasets", run.dataset), (f"configs/trainers/{run.trainer}", run.cfg)):
            if not (ROOT / folder / f"{name}.yaml").is_file():
                there = sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))
                raise InputError(f"There is no {folder}/{name}.yaml; choose one of {', '.join(there)}.")


def execute(command: list[str], quiet: bool, small: bool = False) -> int:
    """Run a command from the repository's root; `quiet` shows the lines of `SHOWN`, and the last ones on failure.

    `small` is the small CLIP, whose matrix products gain nothing from several threads, and lose much where another
    process wants the cores.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if small else None
    if not quiet:
        return subprocess.call(command, cwd=ROOT, env=environment)
    last = deque(maxlen=20)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    for line in process.stdout:
        last.append(line)
        if line.startswith(SHOWN):
            print("  " + line, end="", flush=True)
    if process.wait():
        sys.stderr.writelines(last)
    return process.returncode


def harmonic_mean(base: float, new: float) -> float:
    """`2 * base * new / (base + new)`, 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def table(runs: list[Run]) -> str:
    """Accuracies in per cent, from the runs' records; open-world: base and new images told apart among all classes."""
    accuracies: dict[str, dict[str, float]] = {}
    for run in runs:
        result = read_result(ROOT / run.output)
        if result is None or result["accuracy"] is None:
            raise InputError(f"{run.output} has no tested result; was it run with TEST.NO_TEST or --no-train?")
        accuracies.setdefault(run.trainer, {})[run.classes] = result["accuracy"]
    rows = []
    for trainer, found in accuracies.items():
        numbers = found["base"], found["new"], harmonic_mean(found["base"], found["new"]), found["all"]
        rows.append([trainer, *(f"{number:.2f}" for number in numbers)])
    headers = ["method", "base", "new", "HM", "open-world"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=["left", *["right"] * 4])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the launcher; what it does not know goes to train.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=["base2new_train", "base2new_test", "base2new"])
    parser.add_argument("trainer", choices=sorted(DEFAULT_CFG))
    parser.add_argument("dataset", help="name of a file in configs/datasets")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("cfg", nargs="?", help="name of a file in configs/trainers/TRAINER")
    parser.add_argument("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    parser.add_argument("--force", action="store_true", help="train again what is trained already")
    args, args.extra = parser.parse_known_args(argv)
    return args


def launch(args: argparse.Namespace) -> int:
    """Exit status of the first run that fails, else 0.

    Raises:
        InputError: a data set, configuration or data folder that is not there.
    """
    runs = plan(args.protocol, args.trainer, args.dataset, args.seed, args.cfg, args.shots)
    check_files(runs)
    if not args.data and args.dataset not in BUILTIN_DATASETS:
        raise InputError(f"{args.dataset} needs a data folder: set DATA=/path/to/datasets, or give --data.")
    quiet = len(runs) > 1
    for number, run in enumerate(runs, 1):
        command = run.command(args.data, args.extra, args.force)
        if args.dry_run:
            print(shlex.join(command))
            continue
        if quiet:
            print(f"[{number}/{len(runs)}] {run.trainer}, {run.dataset}, {run.classes} classes -> {run.output}")
        status = execute(command, quiet, small=run.cfg == BUILTIN_CFG)
        if status:
            return status
    if quiet and not args.dry_run:
        print(f"\n{args.dataset}, {args.shots} shots, seed {args.seed}: accuracy in per cent\n{table(runs)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: of the first run that fails, 2 for wrong input, 130 when interrupted, else 0."""
    try:
        return launch(parse_args(argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
