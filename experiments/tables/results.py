"""The tables of the protocols, each an entry: the numbers that it takes from records, their layout, and its runs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..data import DOMAINS as DOMAINS_OF
from ..data import ELEVEN, SOURCE_OF, TARGETS, config_name
from ..methods import METHODS, names
from ..published import AVERAGES
from ..store import Collection, Record
from .cells import PLANNED_SHOTS, Cell, Table, gather


@dataclass(frozen=True)
class Plan:
    """The runs of `reproduce.py` for a table, and for its counterpart on built-in data with the small CLIP."""

    datasets: tuple[str, ...] = ELEVEN  # of the published table
    embedded: tuple[str, ...] = ("digits",)
    methods: tuple[str, ...] = ()  # METHOD or METHOD:VARIANT; all methods if empty
    small: tuple[str, ...] = ()  # of the small CLIP, where they are others, because it has fewer layers
    seeds: tuple[int, ...] = (1, 2, 3)
    # Fewer, where the small CLIP would take too long for a first look.
    embedded_methods: tuple[str, ...] = ()
    embedded_seeds: tuple[int, ...] = ()
    paired: bool = False  # the table of paired differences shows the runs too

    def methods_for(self, is_small: bool, embedded: bool) -> tuple[str, ...]:
        chosen = (self.small if is_small else ()) or self.methods or tuple(names())
        return (self.embedded_methods if embedded else ()) or chosen


@dataclass(frozen=True)
class Results:
    """A kind of table, of which the records fill several; texts in braces are those of `Record.words`."""

    name: str
    help: str
    title: str  # records of one title are in one table
    columns: tuple[str, ...]  # of each group
    chosen: Callable[[list[Record]], Iterable[Record]]  # those of the usable records that it shows
    plan: Plan | None  # None for a table of the runs of others
    numbers: Callable[[Record], Mapping[str, float]] = lambda record: {"accuracy": record.data["accuracy"]}
    group: str = "{dataset}"
    summary: Callable[[list[Table]], Table] | None = None  # makes a further table of several
    kind: type[Table] = Table
    settings: Mapping[str, Any] = field(default_factory=dict)  # of `Table`

    def tables(self, found: Collection) -> list[Table]:
        by_title: dict[str, list[Record]] = defaultdict(list)
        for record in self.chosen(found.records):
            by_title[self.title.format_map(record.words)].append(record)
        made = []
        for title, records in sorted(by_title.items()):
            values = (
                ((record.method, self.group.format_map(record.words), column), record, number)
                for record in records
                for column, number in self.numbers(record).items()
            )
            # `reproduce.py` runs those of its shots alone.
            is_planned = self.plan and ("{shots}" not in self.title or title.endswith(PLANNED_SHOTS))
            source = records[0].words["source"] if "{source}" in self.title else ""
            settings = dict(plan=self.name if is_planned else "", source=source, **self.settings)
            made.append(self.kind(title, gather(values, found.notes), self.columns, **settings))
        made = [table for table in made if table.rows]
        return [*made, *([self.summary(made)] if self.summary and len(made) > 1 else [])]


def of_base_or_new(records: list[Record]) -> list[Record]:
    # Variants are tested on all classes alone, and would be half a row.
    plain = [record for record in records if record.base_share is None and record.from_base]
    shown = {record.method for record in plain if record.data["classes"] == "new"} | METHODS.keys()
    return [record for record in plain if record.data["classes"] in ("base", "new") and record.method in shown]


BASE2NEW = Results(
    "base2new",
    "accuracy on base and on new classes, each told apart among its own; harmonic mean (HM)",
    "Base to new, {shots}",
    ("base", "new"),
    of_base_or_new,
    Plan(),
    numbers=lambda record: {record.data["classes"]: record.data["accuracy"]},
    settings=dict(harmonic=True, published=AVERAGES, planned=ELEVEN),
)


def transferred(to_domains: bool) -> Callable[[list[Record]], list[Record]]:
    """Models of all classes of a source on other data sets, which are variants of the source or are not."""

    def model(record: Record) -> tuple:
        return record.words["source"], record.shots, record.method, record.data["recipe"]

    def chosen(records: list[Record]) -> list[Record]:
        of_sources, others = [], []
        for record in records:
            source, target = record.learned["dataset"], record.data["dataset"]
            if (record.learned["classes"], record.data["classes"], record.base_share) != ("all", "all", None):
                continue
            if target == source:
                of_sources.append(record)
            elif to_domains == (SOURCE_OF.get(config_name(target) or "") == config_name(source)):
                others.append(record)
        tested = set(map(model, others))
        return others + [record for record in of_sources if model(record) in tested]

    return chosen


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
    "Transfer from {source}, {shots}",
    ("accuracy",),
    transferred(to_domains=False),
    TRANSFERRED,
    settings=dict(planned=TARGETS),
)
DOMAINS = Results(
    "domains",
    "the same models on variants of that data set",
    "Domain generalization from {source}, {shots}",
    ("accuracy",),
    transferred(to_domains=True),
    TRANSFERRED,
    settings=dict(planned=DOMAINS_OF["imagenet"]),
)


def few_shot_average(tables: list[Table]) -> Table:
    """Over data sets, of the seeds that a row has in all of them."""
    cells = {}
    for key in dict.fromkeys(key for table in tables for key in table.cells):
        parts = [table.cells[key] for table in tables if key in table.cells]
        seeds = set.intersection(*(set(part.by_seed) for part in parts))
        if len(parts) == len(tables) and seeds:
            means = {seed: statistics.fmean(part.by_seed[seed] for part in parts) for seed in sorted(seeds)}
            cells[key] = Cell(means, tuple(record for part in parts for record in part.records))
    sets = ", ".join(table.title.removeprefix("All classes of ") for table in tables)
    return Table(f"All classes, average over {sets}", cells, ("accuracy",), averaged=False, plan=FEW_SHOT.name)


FEW_SHOT = Results(
    "few-shot",
    "models trained on all classes, by number of shots",
    "All classes of {dataset}",
    ("accuracy",),
    lambda records: [record for record in records if record.data["trained"] and record.data["classes"] == "all"],
    Plan(methods=("CoOp", "MaPLe", "BMIP")),
    group="{shots}",
    summary=few_shot_average,
    settings=dict(averaged=False),
)
CLASS_RATIO = Results(
    "class-ratio",
    "models of base classes on as many classes, by the per cent of base classes among them",
    "Among as many classes of {dataset}, {shots}",
    ("accuracy",),
    lambda records: [record for record in records if record.base_share is not None and record.from_base],
    Plan(methods=("CoOp", "MaPLe", "BMIP"), embedded_methods=("MaPLe", "BMIP")),
    group="{share} % base",
    settings=dict(averaged=False),
)
