"""Studies in the open world: BMIP's parts, prompts by objectives, and differences seed by seed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from ..data import ELEVEN
from ..published import ABLATION
from ..store import Collection, Record
from .cells import Cell, Key, gather
from .results import OPEN_WORLD_COLUMNS, Plan, Results, Value, open_world_values
from .rows import (
    ABLATIONS,
    COMBINATIONS,
    CONTROL,
    DEPTHS,
    LENGTHS,
    REFERENCES,
    SMALL_DEPTHS,
    methods,
    rows,
)
from .text import MISSING

FIVE = (1, 2, 3, 4, 5)
NO_P_BELOW = 0.0005


def study(name: str, help: str, title: str, plan: Plan, **settings: Any) -> Results:
    """A table of BMIP beside its variants, of the data sets on which there are variants to compare."""
    shown = rows((*plan.methods, *plan.small))
    variants = [row for row in shown if row not in ("BMIP", CONTROL)]

    def values(records: list[Record]) -> list[Value]:
        found = [*open_world_values(lambda row: row in shown)(records)]
        there = {(part, dataset) for part, (row, dataset, _), *_ in found if row in variants}
        return [value for value in found if (value[0], value[1][1]) in there]

    columns = tuple(OPEN_WORLD_COLUMNS.values())
    return Results(name, help, f"{title}, {{}}", columns, values, plan, {"harmonic": True, **settings})


def combination_values(records: list[Record]) -> Iterator[Value]:
    """Methods that prompt both towers by each objective, and the cost of their training."""

    def model(record: Record) -> tuple:
        return record.method, record.data["recipe"], record.data["dataset"], record.shots, record.seed

    training = {
        model(record): record.data for record in records if record.data["trained"] and record.data["classes"] == "base"
    }
    shown = rows(COMBINATIONS)
    for record in records:
        data, trained = record.data, training.get(model(record))
        if not data["open_world"] or trained is None or record.method not in shown:
            continue
        numbers = {name: data["open_world"][name] for name in ("base", "new", "accuracy")}
        numbers |= {"train s": trained["train_seconds"], "peak GiB": (trained["peak_memory_bytes"] or 0) / 2**30}
        for name, number in numbers.items():
            yield record.shots, (record.method, data["dataset"], name), record, number


@dataclass(frozen=True)
class Difference:
    """Of one column over the seeds that both methods have.

    Attributes:
        mean, spread: of the differences; the latter of a sample.
        p: of a two-sided paired t-test; NaN where all differences are equal.
    """

    mean: float
    spread: float
    p: float

    @classmethod
    def of(cls, values: list[float]) -> Difference:
        from scipy.stats import ttest_1samp  # a second to import

        spread = statistics.stdev(values)
        # Of equal differences there is no spread to compare with.
        return cls(statistics.fmean(values), spread, ttest_1samp(values, 0).pvalue if spread else math.nan)

    @property
    def p_text(self) -> str:
        return MISSING if math.isnan(self.p) else f"<{2 * NO_P_BELOW}" if self.p < NO_P_BELOW else f"{self.p:.3f}"


@dataclass(frozen=True)
class PairedTable:
    """Differences to a method over the seeds that both have.

    Attributes:
        rows: variant, its reference, number of seeds, and differences by column.
    """

    title: str
    rows: list[tuple[str, str, int, dict[str, Difference]]]
    plan: ClassVar[str] = ""

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        headers = ["variant", "against", "seeds", "base", "new", "HM", "p (HM)", "accuracy", "p (accuracy)"]
        texts = []
        for variant, against, seeds, found in self.rows:
            cells = {name: f"{one.mean:+.2f} ± {one.spread:.2f}" for name, one in found.items()}
            cells |= {f"p ({name})": one.p_text for name, one in found.items()}
            texts.append([variant, against, str(seeds), *(cells[name] for name in headers[3:])])
        return headers, texts

    def lines(self) -> list[list[str]]:
        return [
            [variant, f"against {against}", name, f"{one.mean:.4f}", f"{one.spread:.4f}", str(seeds), f"{one.p:.4g}"]
            for variant, against, seeds, found in self.rows
            for name, one in found.items()
        ]

    def notes(self) -> list[str]:
        return ["differences seed by seed, HM of each seed; ± is the deviation of a sample, p that of a paired t-test"]


def reference(row: str) -> str | None:
    """The reference of a variant: the method of its name's first part, or that of `REFERENCES`."""
    plain, _, addition = row.partition(", ")
    return plain if addition else REFERENCES.get(row)


@dataclass(frozen=True)
class Paired:
    """The table of paired differences, which shows the runs of other tables."""

    name: str = "paired"
    help: str = (
        "variants of a method against it with the same seeds, in the open world, with paired t-tests; also the "
        "control of BMIP's size against BMIP, and stacks against their parts"
    )
    plan: ClassVar[None] = None

    def tables(self, found: Collection) -> list[PairedTable]:
        columns = ("base", "new", "HM", "accuracy")
        parts: dict[str, list[tuple[Key, Record, float]]] = defaultdict(list)
        for record in found.records:
            if record.data["open_world"] and record.learned_classes == "base":
                part = f"{record.data['dataset']}, {record.shots}"
                numbers = record.data["open_world"]
                parts[part] += [((record.method, "", name), record, numbers[name]) for name in columns]
        made = []
        for part, values in sorted(parts.items()):
            cells = gather(values, found.notes)
            lines = []
            for name in sorted({name for name, _, _ in cells}):
                against, differences = reference(name), {}
                for column in columns:
                    ours, theirs = (cells.get((row, "", column), Cell({})).by_seed for row in (name, against))
                    seeds = sorted(ours.keys() & theirs.keys())
                    if len(seeds) > 1:
                        differences[column] = Difference.of([ours[seed] - theirs[seed] for seed in seeds])
                if differences:
                    lines.append((name, against, len(seeds), differences))
            if lines:
                made.append(PairedTable(f"Paired differences in the open world, {part}", lines))
        return made


STUDIES = (
    study(
        "ablation",
        "BMIP's aggregation functions, gates and sharing, and the control of its size, in the open world",
        "BMIP's parts",
        Plan(methods=("BMIP", CONTROL, *methods("BMIP", ABLATIONS)[1:]), seeds=FIVE, paired=True),
        planned=ELEVEN,
        published=ABLATION,
        published_names=("HM",),
    ),
    study(
        "depth",
        "BMIP by the layers that prompts enter, in the open world",
        "BMIP by prompted layers",
        Plan(
            ("oxford_flowers",),
            methods=methods("BMIP", DEPTHS),
            small=methods("BMIP", SMALL_DEPTHS),
            seeds=FIVE,
            paired=True,
        ),
    ),
    study(
        "length",
        "BMIP by the number of prompts in each layer, in the open world",
        "BMIP by prompts in each layer",
        Plan(("oxford_flowers",), methods=methods("BMIP", LENGTHS), seeds=FIVE, paired=True),
    ),
    Results(
        "combinations",
        "prompts by objectives: open world, seconds of training, and memory",
        "Prompts by objectives, {}",
        ("base", "new", "accuracy", "train s", "peak GiB"),
        combination_values,
        Plan(methods=COMBINATIONS, embedded_methods=COMBINATIONS[:9], seeds=FIVE, paired=True),
        dict(harmonic=True, costs=("train s", "peak GiB"), planned=ELEVEN),
    ),
    Paired(),
)
