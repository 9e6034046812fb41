"""A request names a protocol, a method and a data set; a run is one train.py command of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainers.prompting.errors import InputError
from trainers.records import read_result

from . import ROOT, methods
from .methods import METHODS


@dataclass(frozen=True)
class Request:
    """A protocol to be run with a method on a data set.

    Attributes:
        protocol, method: their names.
        dataset: name of a file in configs/datasets, which the protocol trains or tests on.
        seed: None for the protocol's own.
        recipe: of configs/trainers, or the path of a YAML file; empty for that of method, protocol and variant.
        variant: of the method's recipe.
        source: the data set that the tested model learned, where it is another; empty for the protocol's own.
        weights: folder of released weights.
        n_ctx, csc, position: of few-shot CoOp.
    """

    protocol: str
    method: str
    dataset: str | None
    seed: int | None = None
    shots: int = 16
    recipe: str = ""
    variant: str = ""
    source: str | None = None
    weights: str | None = None
    n_ctx: int | None = None
    csc: str | None = None
    position: str | None = None

    def recipe_of(self, family: str, learned: str) -> str:
        """The recipe of a model that learns a data set; `family` is that of `methods.recipe_for`."""
        return self.recipe or methods.recipe_for(self.method, family, learned, self.shots, self.variant)

    @property
    def row(self) -> str:
        """The method and its variant, as tables name them."""
        return methods.row_name(self.method, self.variant)


def train_command(
    trainer: str,
    dataset: str,
    recipe: str,
    seed: int | None,
    output: str,
    *,
    trains: bool,
    model_dir: str | None = None,
    data: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """A command line of train.py, from the repository's root; `options` stand at its end."""
    return [
        *(sys.executable, "train.py"),
        *(("--root", data) if data else ()),
        *(("--seed", str(seed)) if seed is not None else ()),
        *("--trainer", trainer),
        *("--dataset-config-file", f"configs/datasets/{dataset}.yaml"),
        *("--config-file", methods.config_file(trainer, recipe)),
        *("--output-dir", output),
        *(() if trains else ("--eval-only",)),
        *(("--model-dir", model_dir) if model_dir else ()),
        *options,
    ]


def class_options(shots: int, classes: str, ratio: int | None = None) -> tuple[str, ...]:
    """KEY VALUE pairs for classes, "base", "new" or "all"; with a ratio, that per cent of them are base classes."""
    options = ("DATASET.NUM_SHOTS", str(shots), "DATASET.SUBSAMPLE_CLASSES", classes)
    mixed = ("DATASET.USE_RATIO", "True", "DATASET.SUBSAMPLE_RATIO", str(ratio))
    return options if ratio is None else options + mixed


@dataclass(frozen=True)
class Run:
    """One train.py command.

    Attributes:
        method: a key of `METHODS`.
        dataset, recipe: names of YAML files; the latter may be a path.
        seed: None leaves the run unseeded.
        output: its folder.
        options: KEY VALUE pairs.
        classes: "base", "new" or "all", for the table; `options` has the keys for train.py.
        trains: train, and test on the same classes, rather than test only.
        model_dir: the folder of the model to test; None for one without training.
    """

    method: str
    dataset: str
    recipe: str
    seed: int | None
    output: str
    options: tuple[str, ...] = ()
    classes: str = "all"
    trains: bool = False
    model_dir: str | None = None

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
        flags = [*(["--force"] if force and self.trains else []), *extra, *self.options]
        return train_command(
            *(self.trainer, self.dataset, self.recipe, self.seed, self.output),
            trains=self.trains,
            model_dir=self.model_dir,
            data=data,
            options=flags,
        )

    def result(self) -> dict[str, Any]:
        """Its record.

        Raises:
            InputError: it has left none with a test.
        """
        result = read_result(self.folder)
        if result is None or result["accuracy"] is None:
            raise InputError(f"{self.output} has no tested result; was it run with TEST.NO_TEST or --no-train?")
        return result


@dataclass(frozen=True)
class Chain:
    """Runs one after the other: at most one that trains, first, and tests of what it trained.

    Attributes:
        name: for messages.
        runs: commands.
        options: flags of train.py and KEY VALUE pairs for all of them.
    """

    name: str
    runs: tuple[Run, ...]
    options: tuple[str, ...] = ()

    @property
    def trained(self) -> Run | None:
        return next((run for run in self.runs if run.trains), None)

    def with_options(self, options: Sequence[str]) -> Chain:
        return replace(self, options=tuple(options))


def check_files(runs: Sequence[Run], source: str | None = None) -> None:
    """Refuse data sets and recipes that do not exist, before anything starts."""
    for name in filter(None, (source, *(run.dataset for run in runs))):
        folder = methods.ROOT / "configs/datasets"
        if not (folder / f"{name}.yaml").is_file():
            there = sorted(path.stem for path in folder.glob("*.yaml"))
            raise InputError(f"There is no configs/datasets/{name}.yaml; choose one of {', '.join(there)}.")
    for run in runs:
        methods.check_recipe(run.trainer, run.recipe)


def check_data(names: Sequence[str], data: str | None) -> None:
    """Refuse data sets that are not built in where there is no data folder."""
    outside = sorted(set(names) - set(methods.data.BUILTIN))
    if outside and not data:
        verb = "needs" if len(outside) == 1 else "need"
        raise InputError(f"{', '.join(outside)} {verb} a data folder: set DATA=/path/to/datasets, or give --data.")


def parse_seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split()]
    except ValueError:
        raise InputError(f"Seeds are {text!r}; give whole numbers between blanks, such as '1 2 3'.") from None
