"""The records of a results folder: read, checked, and each experiment with each seed once.

Unusable records are named and counted, and never averaged in silence: those that are damaged or lack something,
that contradict each other, or whose test images are not those of the others.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from trainers.prompting.declaration import SUBSETS
from trainers.prompting.errors import InputError, nearest
from trainers.records import LOG, RESULT, SETTINGS, differences

from . import ROOT, methods
from .data import FILES, FOLDER, collection_of, config_name, file_name
from .runs import class_options, train_flags

_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_COUNT = {**_INTEGER, "minimum": 0}
_PERCENT = {**_NUMBER, "minimum": 0, "maximum": 100}
# Of a file or a class: no path, so that a stranger's record names no file elsewhere.
_NAME = {**_TEXT, "pattern": r"^(?![.])[^/\\\x00-\x1f]*\Z", "maxLength": 200}


def _object(optional: Mapping[str, Any] | None = None, /, **needed: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*needed], "properties": {**needed, **(optional or {})}}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, schema]}


_OPEN_WORLD = _object(
    # Records of older versions lack these.
    dict.fromkeys(("auroc", "auroc_msp", "ece_base", "ece_new", "ece_all"), _PERCENT),
    **dict.fromkeys(("base", "new", "HM", "accuracy", "openworld_auc"), _PERCENT),
)
_TRAINED_ON = _object({"settings": {"type": "object"}}, dataset=_NAME, classes=_TEXT, shots=_COUNT, seed=_INTEGER)
_GATE = _object(tower=_TEXT, layer=_COUNT, **dict.fromkeys(("mean", "std", "min", "max"), _NUMBER))
# The fields that tables and pictures read; a record may hold more.
SCHEMA = _object(
    {
        "method": _NAME,
        "variant": _maybe(_NAME),
        "tag": _NAME,
        "gates": {"type": "array", "items": _GATE},
        "gate_history": {"type": "array", "items": {"type": "object", "additionalProperties": _NUMBER}},
    },
    **dict.fromkeys(("trainer", "recipe", "dataset"), _NAME),
    **dict.fromkeys(("backbone", "split"), _TEXT),
    **dict.fromkeys(("seed", "shots"), _INTEGER),
    accuracy=_maybe(_PERCENT),
    **dict.fromkeys(("train_seconds", "peak_memory_bytes"), _maybe(_NUMBER)),
    classes={"enum": [*SUBSETS]},
    open_world=_maybe(_OPEN_WORLD),
    per_class=_maybe({"type": "array", "items": _object(name=_TEXT, images=_COUNT, correct=_COUNT)}),
    data_fingerprint=_maybe(_TEXT),
    trained={"type": "boolean"},
    trained_on=_maybe(_TRAINED_ON),
    environment=_object(code=_TEXT, torch=_TEXT, dassl=_TEXT, device=_TEXT),
    configuration=_object({"DATASET": _object()}, TRAINER=_object()),
)
_VALIDATOR = Draft202012Validator(SCHEMA)
# Keys that tell the tests of one method apart, and stand in the tables' titles and columns.
_PROTOCOL_KEYS = ("SEED", "DATASET.", "TRAINER.NAME", "TRAINER.TAG")
_BACKBONE = "MODEL.BACKBONE.NAME"
SMALL = "small CLIP"
# Of the published tables, and of the embedded ones; they need not be named.
USUAL_BACKBONES = ("ViT-B/16", SMALL)
# After the method where the weights are given, such as published ones, and not known to be of a run of this project.
GIVEN = ", given weights"
NOT_ASKED = "not asked for"
# A difference of accuracies below this is one of rounding.
SAME = 1e-6
DEEPEST = 20


@functools.cache
def recipe_configuration(trainer: str, recipe: str, dataset: str) -> dict[str, Any] | None:
    """The configuration by the files alone, as plain data; None where they are not this project's."""
    # All trainers, which take seconds to import: only records that are read need them.
    import train
    import trainers
    from trainers.config import build_cfg
    from trainers.evaluation import plain_configuration

    trainers.register_all()
    words = ["--trainer", trainer, "--dataset-config-file", str(ROOT / FOLDER / f"{dataset}.yaml")]
    words += ["--config-file", str(ROOT / methods.config_file(trainer, recipe))]
    try:
        return plain_configuration(build_cfg(train.parse_args(words)))
    except (InputError, FileNotFoundError):
        return None


def _architecture(backbone: str) -> str:
    """OpenAI's name of a backbone that is given by it, or by the path of OpenAI's file."""
    path = Path(backbone)
    if ":" in backbone:  # of another library
        return backbone
    return path.stem.replace("ViT-B-", "ViT-B/") if path.suffix == ".pt" else backbone


@dataclass(frozen=True)
class Record:
    """One finished evaluation: its file, and the content, as `SCHEMA` has it."""

    path: Path
    data: dict[str, Any]

    @functools.cached_property
    def overrides(self) -> dict[str, Any]:
        """Settings of the run, or of the training before a test, that are not those of the configuration files."""
        data = self.data
        files = recipe_configuration(data["trainer"], data["recipe"], config_name(data["dataset"]) or "")
        changed = differences(files or {}, data["configuration"])
        if _BACKBONE in changed and len({_architecture(name) for name in changed[_BACKBONE]}) == 1:
            del changed[_BACKBONE]
        if _BACKBONE in changed:
            # How images are prepared follows it; `--backbone` of the commands gives a tag, which stands for both.
            from trainers.config import OF_BACKBONE  # here, because it imports torch

            dropped = {*OF_BACKBONE, *([_BACKBONE] if self.is_on_another else ())}
            changed = {key: value for key, value in changed.items() if key not in dropped}
        values = {key: value for key, (_, value) in changed.items()}
        values |= self.learned.get("settings", {})
        return {key: value for key, value in sorted(values.items()) if not key.startswith(_PROTOCOL_KEYS)}

    @property
    def is_on_another(self) -> bool:
        """Whether it is of `--backbone` of the commands."""
        return self.data.get("tag", "").endswith(methods.backbone_tag(self.data["backbone"]))

    @property
    def tag(self) -> str:
        """That of `--tag`, without the backbone's."""
        tag = self.data.get("tag", "")
        own = methods.backbone_tag(self.data["backbone"])
        return tag[: -len(own)].removesuffix("_") if self.is_on_another else tag

    @functools.cached_property
    def identity(self) -> tuple[str, str]:
        """The method and its variant."""
        name, variant = self.data.get("method"), self.data.get("variant") or ""
        return (name, variant) if name else methods.identify(self.data["trainer"], self.data["recipe"])

    @functools.cached_property
    def plain_method(self) -> str:
        """With its variant alone."""
        return methods.row_name(*self.identity)

    @functools.cached_property
    def method(self) -> str:
        """With its variant, tag, options of the command line, and a backbone that is not the usual one."""
        settings = [f"{key} {value}" for key, value in self.overrides.items()]
        other = [] if self.backbone in USUAL_BACKBONES or _BACKBONE in self.overrides else [self.backbone]
        name = self.identity[0]
        learned = methods.METHODS[name].learns if name in methods.METHODS else True
        given = GIVEN if learned and self.learned["classes"] is None else ""
        return ", ".join([methods.row_name(*self.identity, self.tag), *settings, *other]) + given

    @property
    def backbone(self) -> str:
        """OpenAI's name, or "small CLIP"."""
        return SMALL if self.data["backbone"] == methods.TINY else _architecture(self.data["backbone"])

    @property
    def dataset(self) -> str:
        """The name of its file in configs/datasets, if it has one."""
        return file_name(self.data["dataset"])

    @property
    def family(self) -> tuple[str, bool]:
        """Records that belong in one average have the same: the collection of the data set, and whether the CLIP is
        the small one."""
        return collection_of(self.dataset), self.backbone == SMALL

    @functools.cached_property
    def learned(self) -> dict[str, Any]:
        """Data set, classes, shots and seed of the training; those of the test, without classes, if it is unknown."""
        own = {key: self.data[key] for key in ("dataset", "classes", "shots", "seed")}
        return own if self.data["trained"] else self.data["trained_on"] or {**own, "classes": None}

    @property
    def seed(self) -> int:
        return self.learned["seed"]

    @property
    def shots(self) -> str:
        number = self.learned["shots"]
        return f"{number} shot" if number == 1 else f"{number} shots"

    @property
    def words(self) -> dict[str, Any]:
        """For the titles of tables and of their groups."""
        words = {"dataset": self.data["dataset"], "source": self.learned["dataset"]}
        return {**words, "shots": self.shots, "share": self.base_share}

    @property
    def from_base(self) -> bool:
        """Whether the model learned the base classes, or nothing that is known."""
        return self.learned["classes"] in ("base", None)

    @property
    def base_share(self) -> int | None:
        """Per cent of base classes among those of a test that mixes them with new ones; None for other tests."""
        chosen = self.data["configuration"].get("DATASET", {})
        mixes = chosen.get("USE_RATIO", False) and self.data["classes"] == "new"
        return chosen["SUBSAMPLE_RATIO"] if mixes else None

    @property
    def command(self) -> str:
        """The train.py command of this run, from the repository's root."""
        data = self.data
        names = data["trainer"], self.dataset, data["recipe"]
        model_dir = None if data["trained"] else data.get("model_dir")
        flags = train_flags(*names, data["seed"], str(self.path.parent), data["trained"], model_dir)
        options = class_options(data["shots"], data["classes"], self.base_share)
        overrides = (str(word) for pair in self.overrides.items() for word in pair)
        return shlex.join(["python", "train.py", *flags, *options, *overrides])


@dataclass(frozen=True)
class Selection:
    """The records that are asked for; all methods, data sets or seeds where none are named."""

    methods: tuple[str, ...] = ()  # METHOD or METHOD:VARIANT, with any tag and settings
    datasets: tuple[str, ...] = ()  # names of files in configs/datasets, or registered names
    seeds: tuple[int, ...] = ()

    @functools.cached_property
    def _rows(self) -> set[str]:
        return set(map(methods.row_of, self.methods))

    @functools.cached_property
    def _files(self) -> set[str]:
        return set(map(file_name, self.datasets))

    @property
    def _folders(self) -> set[str]:
        return {f"seed{seed}" for seed in self.seeds}

    def has(self, record: Record) -> bool:
        """A model of all classes is also asked for by the data set that it learned."""
        files = {record.dataset}
        if record.learned["classes"] == "all":
            files.add(file_name(record.learned["dataset"]))
        return (
            (not self.methods or record.plain_method in self._rows)
            and (not self.datasets or not files.isdisjoint(self._files))
            and (not self.seeds or record.seed in self.seeds)
        )

    def may_have(self, path: Path) -> bool:
        """Whether no folder of a path, whose record cannot be read, is named after another data set or trainer."""
        asked = {name.partition(":")[0] for name in self.methods}
        trainers = {method.trainer: method.name in asked for method in methods.METHODS.values()}
        others = {name for name in FILES if self.datasets and name not in self._files}
        others |= {name for name, is_asked in trainers.items() if self.methods and not is_asked}
        others |= {name for name in path.parts if self.seeds and re.fullmatch(r"seed\d+", name)} - self._folders
        return others.isdisjoint(path.parts)

    def check(self, records: Iterable[Record]) -> None:
        """Raises InputError for a name that neither this project nor one of the records has."""
        there = {":".join(filter(None, record.identity)) for record in records}
        for name in self.methods:
            if name not in there:
                methods.parse(name)
        known = {*FILES, *(record.dataset for record in records)}
        for name in self.datasets:
            if file_name(name) not in known:
                raise InputError(f"--datasets has {name!r}. {nearest(name, sorted(known), FOLDER)}")


EVERYTHING = Selection()


@dataclass
class Collection:
    """Records that can be used, one for each experiment and seed; how many cannot, and why."""

    selection: Selection = EVERYTHING
    read: list[Record] = field(default_factory=list)  # also those that are not asked for
    records: list[Record] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # number of the others, by reason
    notes: list[str] = field(default_factory=list)  # faults of what is asked for, and remedies
    unfinished: list[Path] = field(default_factory=list)  # folders of runs without a record

    def skip(self, reason: str, note: str = "", number: int = 1, is_asked: bool = True) -> None:
        self.skipped[reason if is_asked else NOT_ASKED] += number
        if note and is_asked:
            self.notes.append(note)

    def skip_all(self, reason: str, note: str, records: list[Record]) -> None:
        """The note is for those who ask for any of them."""
        asked = sum(map(self.selection.has, records))
        self.skip(reason, note if asked else "", asked)
        self.skip(NOT_ASKED, number=len(records) - asked)

    @property
    def summary(self) -> str:
        """How many records there are, and how many of them are not used."""
        total = len(self.records) + sum(self.skipped.values())
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.skipped.items() if number)
        return f"{len(self.records)} of {total} records are used" + (f"; not used: {reasons}" if reasons else "")


def collect(folder: Path, selection: Selection = EVERYTHING) -> Collection:
    """All usable records below a folder that are asked for.

    Raises:
        InputError: the selection has a name that nothing here has.
    """
    found = Collection(selection)
    found.read += _read(folder, found)
    if found.unfinished:
        first, *others = found.unfinished
        text = f"{1 + len(others)} runs have not finished (such as {first}); their commands go on from there"
        found.notes.append(text if others else f"1 run has not finished ({first}); its command goes on from there")
    selection.check(found.read)
    # Those that are not asked for tell which images are the right ones, too.
    for same in grouped(_with_the_same_images(found.read, found), _experiment).values():
        # A training run knows more than a later test of what it left.
        first = max(same, key=lambda record: record.data["trained"])
        if not selection.has(first):
            found.skip(NOT_ASKED, number=len(same))
        elif all(_agree(first, other) for other in same):
            found.records.append(first)
            if len(same) > 1:
                found.skip("there twice", number=len(same) - 1)
        else:
            note = (
                f"{first.method} on {first.data['dataset']}, {first.data['classes']} classes, seed {first.seed}: "
                f"records disagree, and are not used: {_paths(same)}; delete the wrong one"
            )
            found.skip("contradictory", note, len(same))
    return found


def _files(folder: Path, found: Collection) -> Iterator[Path]:
    """Records below a folder, in order; unreadable folders are noted."""

    def unreadable(error: OSError) -> None:
        found.skip("folders unreadable", f"{error.filename} cannot be read ({error.strerror}); nothing of it is used")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        if RESULT not in names and not {LOG, SETTINGS}.isdisjoint(names) and found.selection.may_have(Path(parent)):
            found.unfinished.append(Path(parent))
        for name in sorted(names + [name for name in folders if name == RESULT]):
            path = Path(parent, name)
            if name == RESULT:
                yield path
            elif name.startswith(f"{RESULT}.") and name.endswith(".part"):
                note = f"{path} was not written to its end; delete it"
                found.skip("not written to the end", note, is_asked=found.selection.may_have(path))


def _read(folder: Path, found: Collection) -> Iterator[Record]:
    for path in _files(folder, found):
        is_asked = found.selection.may_have(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
            json.dumps(data, ensure_ascii=False).encode()  # half a character can neither be printed nor drawn
            if _is_deeper(data, DEEPEST):
                raise ValueError(f"it is more than {DEEPEST} levels deep")
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            found.skip("damaged", f"{path} is no record ({reason}); delete it and run again", is_asked=is_asked)
            continue
        problem = min(_VALIDATOR.iter_errors(data), key=lambda error: len(error.path), default=None)
        if problem is not None:
            where = ".".join(map(str, problem.absolute_path)) or "the record"
            text = problem.message if len(problem.message) < 200 else f"it is not {problem.validator_value}"
            note = f"{path}: {where}: {text}; it is damaged or of an older version, run again"
            found.skip("incomplete", note, is_asked=is_asked)
        elif data["accuracy"] is None:
            found.skip("without a test", is_asked=is_asked)
        elif data["split"] != "test":
            found.skip(f"of the {data['split']} images", is_asked=is_asked)
        else:
            record = Record(path, data)
            try:
                _experiment(record)
            except Exception as error:  # of any kind: the configuration is a stranger's
                note = f"{path}: its configuration cannot be read ({error!r}); delete it, run again"
                found.skip("damaged", note, is_asked=is_asked)
            else:
                yield record


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(one, levels - 1) for one in inner)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _experiment(record: Record) -> tuple:
    """Records with the same value must agree."""
    tested = tuple(record.data[key] for key in ("recipe", "dataset", "classes"))
    learned = tuple(record.learned[key] for key in ("dataset", "classes", "shots", "seed"))
    return record.method, *tested, record.base_share, *learned


def _agree(*records: Record) -> bool:
    one, other = ({"": record.data["accuracy"], **(record.data["open_world"] or {})} for record in records)
    return all(abs(one[name] - other[name]) < SAME for name in one.keys() & other.keys())


def _images(record: Record) -> tuple:
    """Tests with the same value are of the same images; only shares of base classes are drawn by seed."""
    drawn = None if record.base_share is None else (record.base_share, record.data["seed"])
    return record.data["dataset"], record.data["classes"], drawn


def _with_the_same_images(records: Iterable[Record], found: Collection) -> list[Record]:
    """Without tests whose images are not those of most tests of that data set and of those classes."""
    kept = []
    for (dataset, classes, _), same in grouped(records, _images).items():
        by_images = grouped(same, lambda record: record.data["data_fingerprint"]).values()
        first, *others = sorted(by_images, key=len, reverse=True)
        if not others or len(first) > len(others[0]):
            kept += first
            text = f"have other images than {len(first)} tests"
        else:
            others, text = [first, *others], "have different images"
        if others:
            others = sum(others, [])
            text = f"{dataset}, {classes} classes: these tests {text}, and are not used: {_paths(others)}; delete the "
            found.skip_all("of other images", text + "wrong ones", others)
    return sorted(kept, key=lambda record: record.path)


def grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _paths(records: list[Record]) -> str:
    return ", ".join(str(record.path) for record in records)
