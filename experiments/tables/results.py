"""The tables of the protocols, each an entry: the numbers that it takes from records, their layout, and its runs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..data import DOMAINS as DOMAINS_OF
from ..data import ELEVEN, FIFTEEN, SOURCE_OF, TARGETS, config_name
from ..methods import METHODS
from ..published import AVERAGES
from ..store import Collection, Record
from .cells import PLANNED_SHOTS, Cell, Key, Table, gather
from .rows import ELSEWHERE

# Part, which stands in the title of a table, key of a cell, and a number for it.
Value = tuple[str, Key, Record, float]


@dataclass(frozen=True)
class Plan:
    """The runs of `reproduce.py` for a table.

    Attributes:
        datasets: of the published table.
        embedded: data sets of its embedded counterpart.
        methods: METHOD or METHOD:VARIANT; all methods if empty.
        small: of the small CLIP, where they are others, because it has fewer layers.
        seeds: by default.
        embedded_methods, embedded_seeds: fewer, where the small CLIP would take too long for a first look.
        paired: the table of paired differences shows the runs too.
    """

    datasets: tuple[str, ...] = ELEVEN
    embedded: tuple[str, ...] = ("digits",)
    methods: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    embedded_methods: tuple[str, ...] = ()
    embedded_seeds: tuple[int, ...] = ()
    paired: bool = False

    def methods_for(self, is_small: bool, embedded: bool) -> tuple[str, ...]:
        chosen = (self.small if is_small else ()) or self.methods or tuple(METHODS)
        return (self.embedded_methods if embedded else ()) or chosen


@dataclass(frozen=True)
class Results:
    """A kind of table, of which the records fill one for each part, such as a number of shots.

    Attributes:
        help: for the list of tables.
        title: with braces for the part.
        columns: of each group.
        values: from all usable records.
        plan: its runs.
        settings: of `Table`.
        has_source: the part begins with the data set that models learned, whose group stands apart.
        summary: makes a further table of several.
    """

    name: str
    help: str
    title: str
    columns: tuple[str, ...]
    values: Callable[[list[Record]], Iterable[Value]]
    plan: Plan
    settings: Mapping[str, Any] = field(default_factory=dict)
    has_source: bool = False
    summary: Callable[[list[Table]], Table] | None = None

    def tables(self, found: Collection) -> list[Table]:
        parts: dict[str, list[tuple[Key, Record, float]]] = defaultdict(list)
        for part, *value in self.values(found.records):
            parts[part].append(tuple(value))
        made = []
        for part, values in sorted(parts.items()):
            # `reproduce.py` runs those of its shots alone.
            settings = {"plan": self.name if "shot" not in part or part.endswith(PLANNED_SHOTS) else ""}
            settings["source"] = part.rpartition(", ")[0] if self.has_source else ""
            cells = gather(values, found.notes)
            if cells:
                made.append(Table(self.title.format(part), cells, self.columns, **settings, **self.settings))
        return [*made, *([self.summary(made)] if self.summary and len(made) > 1 else [])]


def base2new_values(records: list[Record]) -> Iterator[Value]:
    # Variants are tested on all classes alone, and would be half a row.
    plain = [record for record in records if record.base_share is None and record.from_base]
    tested = {record.method for record in plain if record.data["classes"] == "new"}
    for record in plain:
        data = record.data
        if data["classes"] in ("base", "new") and (record.method in METHODS or record.method in tested):
            yield record.shots, (record.method, data["dataset"], data["classes"]), record, data["accuracy"]


BASE2NEW = Results(
    "base2new",
    "accuracy on base and on new classes, each told apart among its own; harmonic mean (HM)",
    "Base to new, {}",
    ("base", "new"),
    base2new_values,
    Plan(),
    dict(harmonic=True, published=AVERAGES, planned=ELEVEN),
)

OPEN_WORLD_COLUMNS = {"base": "base", "new": "new", "accuracy": "accuracy", "openworld_auc": "OpenworldAUC"}


def open_world_values(shown: Callable[[str], bool]) -> Callable[[list[Record]], Iterator[Value]]:
    """Of the rows that are shown."""

    def values(records: list[Record]) -> Iterator[Value]:
        for record in records:
            if (numbers := record.data["open_world"]) and record.from_base and shown(record.method):
                for key, name in OPEN_WORLD_COLUMNS.items():
                    yield record.shots, (record.method, record.data["dataset"], name), record, numbers[key]

    return values


OPEN_WORLD = Results(
    "open-world",
    "the same images told apart among all classes, and OpenworldAUC",
    "Open world, {}",
    tuple(OPEN_WORLD_COLUMNS.values()),
    open_world_values(lambda row: row not in ELSEWHERE),
    Plan(
        FIFTEEN,
        ("symbols",),
        embedded_methods=("ZeroshotCLIP", "CoOp", "MaPLe", "BMIP", "PromptSRC", "PromptSRC_BMIP"),
        embedded_seeds=(1,),
    ),
    dict(harmonic=True, planned=FIFTEEN),
)


def transfer_values(to_domains: bool) -> Callable[[list[Record]], Iterator[Value]]:
    """Of models of all classes of a source on other data sets, which are variants of the source or are not."""

    def values(records: list[Record]) -> Iterator[Value]:
        of_sources, tested = [], set()
        for record in records:
            source, target = record.learned_dataset, record.data["dataset"]
            if (record.learned_classes, record.data["classes"], record.base_share) != ("all", "all", None):
                continue
            part = f"{source}, {record.shots}"
            model = part, record.method, record.data["recipe"]
            value = part, (record.method, target, "accuracy"), record, record.data["accuracy"]
            if target == source:
                of_sources.append((model, value))
            elif to_domains == (SOURCE_OF.get(config_name(target) or "") == config_name(source)):
                tested.add(model)
                yield value
        yield from (value for model, value in of_sources if model in tested)

    return values


TRANSFERRED = Plan(
    ("imagenet",),
    ("symbols",),
    ("CoOp", "CoCoOp", "MaPLe", "BMIP"),
    embedded_methods=("MaPLe", "BMIP"),
    embedded_seeds=(1,),
)
CROSS_DATASET = Results(
    "cross-dataset",
    "models trained on one data set, tested on others",
    "Transfer from {}",
    ("accuracy",),
    transfer_values(to_domains=False),
    TRANSFERRED,
    dict(planned=TARGETS),
    has_source=True,
)
DOMAINS = Results(
    "domains",
    "the same models on variants of that data set",
    "Domain generalization from {}",
    ("accuracy",),
    transfer_values(to_domains=True),
    TRANSFERRED,
    dict(planned=DOMAINS_OF["imagenet"]),
    has_source=True,
)


def few_shot_values(records: list[Record]) -> Iterator[Value]:
    for record in records:
        if record.data["trained"] and record.data["classes"] == "all":
            key = record.method, record.shots, "accuracy"
            yield record.data["dataset"], key, record, record.data["accuracy"]


def few_shot_average(tables: list[Table]) -> Table:
    """Over data sets, of the seeds that a row has in all of them."""
    cells = {}
    for key in dict.fromkeys(key for table in tables for key in table.cells):
        parts = [table.cells[key] for table in tables if key in table.cells]
        seeds = set.intersection(*(set(part.by_seed) for part in parts))
        if len(parts) == len(tables) and seeds:
            means = {seed: statistics.fmean(part.by_seed[seed] for part in parts) for seed in sorted(seeds)}
            cells[key] = Cell(means, tuple(record for part in parts for record in part.records))
    names = [table.title.removeprefix("All classes of ") for table in tables]
    title = f"All classes, average over {', '.join(names)}"
    return Table(title, cells, ("accuracy",), averaged=False, plan=FEW_SHOT.name)


FEW_SHOT = Results(
    "few-shot",
    "models trained on all classes, by number of shots",
    "All classes of {}",
    ("accuracy",),
    few_shot_values,
    Plan(methods=("CoOp", "MaPLe", "BMIP")),
    dict(averaged=False),
    summary=few_shot_average,
)


def class_ratio_values(records: list[Record]) -> Iterator[Value]:
    for record in records:
        if record.base_share is not None and record.from_base:
            key = record.method, f"{record.base_share} % base", "accuracy"
            yield f"{record.data['dataset']}, {record.shots}", key, record, record.data["accuracy"]


CLASS_RATIO = Results(
    "class-ratio",
    "models of base classes on as many classes, by the per cent of base classes among them",
    "Among as many classes of {}",
    ("accuracy",),
    class_ratio_values,
    Plan(methods=("CoOp", "MaPLe", "BMIP"), embedded_methods=("MaPLe", "BMIP")),
    dict(averaged=False),
)
