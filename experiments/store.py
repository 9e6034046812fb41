"""The records of a results folder: read, checked, and each experiment with each seed once.

Unusable records are named and counted, and never averaged in silence: those that are damaged or lack something,
that contradict each other, or whose test images are not those of the others.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from trainers.prompting.declaration import SUBSETS
from trainers.prompting.errors import InputError
from trainers.records import RESULT, differences

from . import ROOT, methods
from .data import FOLDER, config_name
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


_OPEN_WORLD = _object(**dict.fromkeys(("base", "new", "HM", "accuracy", "openworld_auc"), _PERCENT))
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
# Of the published tables, and of the embedded ones; they need not be named.
_USUAL_BACKBONES = ("ViT-B/16", methods.TINY)
# After the method where the weights are given, such as published ones, and not known to be of a run of this project.
GIVEN = ", given weights"
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
        values = {key: value for key, (_, value) in changed.items()}
        values |= self.learned.get("settings", {})
        return {key: value for key, value in sorted(values.items()) if not key.startswith(_PROTOCOL_KEYS)}

    @functools.cached_property
    def method(self) -> str:
        """With its variant, tag, options of the command line, and a backbone that is not the usual one."""
        from trainers.prompting.methods import identify  # here, because torch comes with it

        name, variant = self.data.get("method"), self.data.get("variant") or ""
        if not name:
            name, variant = identify(self.data["trainer"], self.data["recipe"])
        settings = [f"{key} {value}" for key, value in self.overrides.items()]
        backbone = _architecture(self.data["backbone"])
        other = [] if backbone in _USUAL_BACKBONES or _BACKBONE in self.overrides else [backbone]
        learned = methods.METHODS[name].learns if name in methods.METHODS else True
        given = GIVEN if learned and self.learned["classes"] is None else ""
        return ", ".join([methods.row_name(name, variant, self.data.get("tag", "")), *settings, *other]) + given

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
        names = data["trainer"], config_name(data["dataset"]) or data["dataset"], data["recipe"]
        model_dir = None if data["trained"] else data.get("model_dir")
        flags = train_flags(*names, data["seed"], str(self.path.parent), data["trained"], model_dir)
        options = class_options(data["shots"], data["classes"], self.base_share)
        overrides = (str(word) for pair in self.overrides.items() for word in pair)
        return shlex.join(["python", "train.py", *flags, *options, *overrides])


@dataclass
class Collection:
    """Records that can be used, one for each experiment and seed; how many cannot, and why."""

    records: list[Record] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # number of the others, by reason
    notes: list[str] = field(default_factory=list)  # faults and remedies

    def skip(self, reason: str, note: str = "", number: int = 1) -> None:
        self.skipped[reason] += number
        if note:
            self.notes.append(note)

    @property
    def summary(self) -> str:
        """How many records there are, and how many of them are not used."""
        total = len(self.records) + sum(self.skipped.values())
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.skipped.items())
        return f"{len(self.records)} of {total} records are used" + (f"; not used: {reasons}" if reasons else "")


def collect(folder: Path) -> Collection:
    """All usable records below a folder."""
    found = Collection()
    for same in grouped(_with_the_same_images(_read(folder, found), found), _experiment).values():
        # A training run knows more than a later test of what it left.
        first = max(same, key=lambda record: record.data["trained"])
        if all(_agree(first, other) for other in same):
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
        for name in sorted(names + [name for name in folders if name == RESULT]):
            path = Path(parent, name)
            if name == RESULT:
                yield path
            elif name.startswith(f"{RESULT}.") and name.endswith(".part"):
                found.skip("not written to the end", f"{path} was not written to its end; delete it")


def _read(folder: Path, found: Collection) -> Iterator[Record]:
    for path in _files(folder, found):
        try:
            data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_finite, parse_float=_finite)
            json.dumps(data, ensure_ascii=False).encode()  # half a character can neither be printed nor drawn
            if _is_deeper(data, DEEPEST):
                raise ValueError(f"it is more than {DEEPEST} levels deep")
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            found.skip("damaged", f"{path} is no record ({reason}); delete it and run again")
            continue
        problem = min(_VALIDATOR.iter_errors(data), key=lambda error: len(error.path), default=None)
        if problem is not None:
            where = ".".join(map(str, problem.absolute_path)) or "the record"
            text = problem.message if len(problem.message) < 200 else f"it is not {problem.validator_value}"
            found.skip("incomplete", f"{path}: {where}: {text}; it is damaged or of an older version, run again")
        elif data["accuracy"] is None:
            found.skip("without a test")
        elif data["split"] != "test":
            found.skip(f"of the {data['split']} images")
        else:
            record = Record(path, data)
            try:
                _experiment(record)
            except Exception as error:  # of any kind: the configuration is a stranger's
                found.skip("damaged", f"{path}: its configuration cannot be read ({error!r}); delete it, run again")
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
            found.skip("of other images", text + "wrong ones", len(others))
    return sorted(kept, key=lambda record: record.path)


def grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _paths(records: list[Record]) -> str:
    return ", ".join(str(record.path) for record in records)
