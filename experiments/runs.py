"""A request names a protocol, a method and a data set; a run is one train.py command of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidassl.own.text import words

from trainers.prompting import recipes
from trainers.prompting.errors import InputError
from trainers.records import read_result

from . import ROOT, methods
from .data import BUILTIN, FOLDER
from .methods import METHODS

# Flags of train.py that the runs of a protocol set, and the keys that mean nothing to a method without training.
OWNED_FLAGS = (
    *("--output-dir", "--model-dir", "--config-file", "--dataset-config-file", "--trainer", "--seed", "--eval-only"),
    *("--root", "--resume"),
)
OF_TRAINING = ("TRAINER.", "OPTIM.", "TRAIN.", "DATALOADER.TRAIN_X.")


@dataclass(frozen=True)
class Request:
    """A protocol to be run with a method on a data set."""

    protocol: str
    method: str
    dataset: str | None  # name of a file in configs/datasets, which the protocol trains or tests on
    seed: int | None = None  # None for the protocol's own
    shots: int = 16
    recipe: str = ""  # of configs/trainers, or the path of a YAML file; empty for that of method, protocol and variant
    variant: str = ""
    source: str | None = None  # that the tested model learned, where it is another; None for the protocol's own
    weights: str | None = None  # folder of released weights
    tag: str = ""  # name of an experiment with other settings, for folders and rows of its own
    # Of few-shot CoOp.
    n_ctx: int | None = None
    csc: str | None = None
    position: str | None = None

    def recipe_of(self, family: str, learned: str) -> str:
        """The given one, or that of `methods.recipe_for`."""
        return self.recipe or methods.recipe_for(self.method, family, learned, self.shots, self.variant)


def train_flags(
    trainer: str, dataset: str, recipe: str, seed: int | None, output: str, trains: bool, model_dir: str | None
) -> list[str]:
    """Flags of train.py at the repository's root."""
    return [
        *(("--seed", str(seed)) if seed is not None else ()),
        *("--trainer", trainer),
        *("--dataset-config-file", f"{FOLDER}/{dataset}.yaml"),
        *("--config-file", methods.config_file(trainer, recipe)),
        *("--output-dir", output),
        *(() if trains else ("--eval-only",)),
        *(("--model-dir", model_dir) if model_dir else ()),
    ]


def class_options(shots: int, classes: str, ratio: int | None = None) -> tuple[str, ...]:
    """KEY VALUE pairs for classes, "base", "new" or "all"; with a ratio, that per cent of them are base classes."""
    options = ("DATASET.NUM_SHOTS", str(shots), "DATASET.SUBSAMPLE_CLASSES", classes)
    mixed = ("DATASET.USE_RATIO", "True", "DATASET.SUBSAMPLE_RATIO", str(ratio))
    return options if ratio is None else options + mixed


@dataclass(frozen=True)
class Run:
    """One train.py command."""

    method: str
    dataset: str  # name of a file in configs/datasets
    recipe: str  # name of a file in configs/trainers, or the path of a YAML file
    seed: int | None  # None leaves the run unseeded
    output: str
    options: tuple[str, ...] = ()  # KEY VALUE pairs
    classes: str = "all"  # or "base" or "new", for the table; `options` has the keys for train.py
    trains: bool = False  # and tests on the same classes, rather than test only
    model_dir: str | None = None  # of the model to test; None for one without training
    tag: str = ""

    @property
    def trainer(self) -> str:
        return METHODS[self.method].trainer

    @property
    def folder(self) -> Path:
        return ROOT / self.output

    @property
    def is_small(self) -> bool:
        """Whether it is of the small CLIP, whose matrix products gain nothing from several threads."""
        return methods.recipe_name(self.recipe).startswith(methods.TINY)

    def command(self, data: str | None, extra: Sequence[str], force: bool = False) -> list[str]:
        """The command line, from the repository's root."""
        names = self.trainer, self.dataset, self.recipe
        flags = train_flags(*names, self.seed, self.output, self.trains, self.model_dir)
        first, force_it = ["--root", data] if data else [], ["--force"] if force and self.trains else []
        options = *self.options, *(("TRAINER.TAG", self.tag) if self.tag else ())
        extra = extra if METHODS[self.method].learns else without_training(extra, METHODS[self.method].node)
        return [sys.executable, "train.py", *first, *flags, *force_it, *extra, *options]

    def result(self) -> dict[str, Any]:
        """Its record; raises InputError where it has left none with a test."""
        result = read_result(self.folder)
        if result is None or result["accuracy"] is None:
            raise InputError(f"{self.output} has no tested result; was it run with TEST.NO_TEST or --no-train?")
        return result


def without_training(words: Sequence[str], node: str) -> list[str]:
    """Flags and KEY VALUE pairs without those that concern training, or the keys of another node of TRAINER."""
    kept: list[str] = []
    skipped = False
    for word in words:
        skipped, was_key = word.startswith(OF_TRAINING) and not word.startswith(f"TRAINER.{node}."), skipped
        if not (skipped or was_key):
            kept.append(word)
    return kept


def check_passed_on(words: Sequence[str]) -> None:
    """Refuse flags for train.py that the launcher sets: outputs would go, or results come, from elsewhere."""
    for word in words:
        flag = word.partition("=")[0]
        # train.py takes the beginning of a flag for it.
        if len(flag) > 2 and (owned := [name for name in OWNED_FLAGS if name.startswith(flag)]):
            raise InputError(
                f"{owned[0]} is given for train.py, but this command sets it itself. Leave it out; for an experiment "
                "with other settings, give --tag NAME, which has folders and rows of its own."
            )


def check_tag(tag: str) -> str:
    """The tag; InputError unless it can be a part of a folder's name."""
    if tag and not re.fullmatch(r"\w[\w.-]{0,60}", tag, re.ASCII):
        raise InputError(f"--tag is {tag!r}; set it to at most 61 letters, digits, and _ . - after the first.")
    return tag


def check_files(runs: Sequence[Run], source: str | None = None) -> None:
    """Refuse data sets and recipes that do not exist, before anything starts."""
    there = sorted(path.stem for path in (recipes.CONFIGS / "datasets").glob("*.yaml"))
    for name in filter(None, (source, *(run.dataset for run in runs))):
        if name not in there:
            raise InputError(f"There is no {FOLDER}/{name}.yaml; choose one of {', '.join(there)}.")
    for file in dict.fromkeys(methods.config_file(run.trainer, run.recipe) for run in runs):
        path = methods.ROOT / file
        if not path.parent.is_dir():
            raise InputError(f"There is no {file}; name a YAML file with --cfg, or as METHOD:FILE.yaml.")
        recipes.read_files(path)


def check_data(names: Sequence[str], data: str | None) -> None:
    """Refuse data sets that are not built in where there is no data folder."""
    outside = sorted(set(names) - set(BUILTIN))
    if outside and not data:
        verb = "needs" if len(outside) == 1 else "need"
        raise InputError(f"{', '.join(outside)} {verb} a data folder: set DATA=/path/to/datasets, or give --data.")


def parse_seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in words(text)]
    except ValueError:
        raise InputError(f"Seeds are {text!r}; give whole numbers, such as '1 2 3'.") from None
