"""A request names a protocol, a method and a data set; a run is one train.py command of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidassl.own.files import check_writable
from minidassl.own.run_folder import checkpoint_folders
from minidassl.own.text import words

from train import flags_of, make_parser
from trainers.prompting.declaration import LARGEST_SEED
from trainers.prompting.errors import InputError, disk_error, nearest
from trainers.records import SETTINGS, kept_settings, read_result

from . import ROOT, methods
from .data import BUILTIN, FOLDER, ROW_OF, config_name
from .methods import METHODS

# Flags of train.py that the runs of a protocol set.
OWNED_FLAGS = (
    *("--output-dir", "--model-dir", "--config-file", "--dataset-config-file", "--trainer", "--seed", "--eval-only"),
    *("--root", "--resume"),
)
# What to do about results of other settings.
NEW_TAG = "give --tag NAME, which has folders and rows of its own"
# Keys that mean nothing to a method without training.
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
    # Of few-shot methods whose recipes choose the context.
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


def check_passed_on(words: Sequence[str], own: Sequence[str]) -> None:
    """Refuse flags for train.py that it lacks, or that the launcher sets: results would go or come from elsewhere.

    Args:
        own: flags of the command, for the nearest one.
    """
    known = flags_of(make_parser())
    for word in words:
        flag = word.partition("=")[0]
        # train.py takes the beginning of a flag for it.
        if len(flag) > 2 and (owned := [name for name in OWNED_FLAGS if name.startswith(flag)]):
            raise InputError(
                f"{owned[0]} is given for train.py, but this command sets it itself. Leave it out; for an experiment "
                f"with other settings, {NEW_TAG}."
            )
        if flag.startswith("--") and not any(name.startswith(flag) for name in known):
            hint = nearest(flag, [*own, *(name for name in known if name not in OWNED_FLAGS)], "--help")
            raise InputError(f"There is no flag {flag}, and KEY VALUE pairs need no flag. {hint}")


def check_tag(tag: str) -> str:
    """The tag; InputError unless it can be a part of a folder's name."""
    if tag and not re.fullmatch(r"\w[\w.-]{0,60}", tag, re.ASCII):
        raise InputError(f"--tag is {tag!r}; set it to at most 61 letters, digits, and _ . - after the first.")
    return tag


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written in; raises InputError."""
    check_file(folder, is_folder=True)


def check_file(path: Path, is_folder: bool = False) -> None:
    """Refuse a file that cannot be written; raises InputError."""
    try:
        check_writable(path, is_folder)
    except OSError as error:
        raise InputError(disk_error(error, str(path))) from error


def check_models(runs: Sequence[Run]) -> None:
    """Refuse tests of models that are neither there nor trained by an earlier run; all of them in one message."""
    trained = {run.output for run in runs}
    models = dict.fromkeys(run.model_dir for run in runs if run.model_dir and run.model_dir not in trained)
    missing = [model for model in models if not checkpoint_folders(ROOT / model)]
    if missing:
        raise InputError(
            f"There is no trained model in {', '.join(missing)}; train it first (base2new_train, xd_train, few_shot)."
        )


def check_data(names: Iterable[str], data: str | None, flag: str = "--data", folders: bool = True) -> None:
    """Refuse data sets that are not built in where there is no data folder; all of them in one message.

    Args:
        flag: of the data folder.
        folders: look for each data set's folder, too.
    """
    outside = sorted(set(names) - set(BUILTIN))
    if outside and not data:
        verb = "needs" if len(outside) == 1 else "need"
        raise InputError(f"{', '.join(outside)} {verb} a data folder: set DATA=/path/to/datasets, or give {flag}.")
    paths = [ROOT / Path(data).expanduser() / ROW_OF[name].folder for name in outside if name in ROW_OF]
    missing = [str(path) for path in paths if not path.is_dir()]
    if missing and folders:
        raise InputError(
            f"There is no folder {', '.join(missing)}. Correct the data folder, {data} ({flag} or $DATA), or leave "
            "these data sets out; docs/DATASETS.md has the folders of all."
        )


def check_trained(run: Path, data: str | None) -> dict[str, Any]:
    """The settings of the training run in a folder; raises InputError unless it, its model and its data are there."""
    settings = kept_settings(run)
    if settings is None:
        raise InputError(f"{run} has no {SETTINGS}; name the output folder of a training run.")
    if not checkpoint_folders(run):
        raise InputError(f"{run} has no checkpoint; train there again, or name another run.")
    root = os.path.abspath(os.path.expanduser(data or settings["DATASET"].get("ROOT") or ""))
    check_data(filter(None, [config_name(settings["DATASET"]["NAME"])]), root)
    return settings


def parse_seeds(text: str) -> list[int]:
    """Raises InputError unless they are whole numbers that train.py takes."""
    found = words(text)
    if not found or not all(seed.isdecimal() and int(seed) <= LARGEST_SEED for seed in found):
        raise InputError(f"Seeds are {text!r}; give whole numbers from 0 to {LARGEST_SEED}, such as '1 2 3' or 1,2,3.")
    return [*dict.fromkeys(map(int, found))]
