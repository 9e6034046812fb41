"""The tables of the open world: methods, BMIP's parts, prompts by objectives, and differences seed by seed."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..data import ELEVEN, FIFTEEN
from ..methods import row_name
from ..published import ABLATION
from ..store import Record
from .cells import Cell, Table
from .results import Plan, Results
from .text import MISSING

CONTROL = "IVLP_BMIP_size"
ABLATIONS = (
    *("addition", "attention", "joint", "none", "l2v", "v2l", "released", "unshared"),
    *("relative_gate", "constant_gate", "shuffled_gate"),
)
# Of twelve layers, and of the small CLIP's four.
DEPTHS, SMALL_DEPTHS = ("depth3", "depth6", "depth12"), ("depth1", "depth2", "depth4")
LENGTHS = ("length1", "length4", "length8")
# The learners of the table of combinations, their objectives, and methods that are such a combination by name.
COMBINED = ("IVLP", "MaPLe", "BMIP")
OBJECTIVES = ("self_regulation", "consistency")
STACKED = ("PromptSRC", "CoPrompt", "PromptSRC_BMIP", "CoPrompt_BMIP")
# Methods of another name than those with which they are compared, seed by seed.
REFERENCES = {CONTROL: "BMIP", "PromptSRC_BMIP": "PromptSRC", "CoPrompt_BMIP": "CoPrompt"}


def methods(name: str, variants: Iterable[str]) -> tuple[str, ...]:
    """METHOD and METHOD:VARIANT of each."""
    return name, *(f"{name}:{variant}" for variant in variants)


def rows(names: Iterable[str]) -> list[str]:
    """The rows of METHOD or METHOD:VARIANT."""
    return [row_name(*name.split(":")) for name in names]


COMBINATIONS = (*(name for method in COMBINED for name in methods(method, OBJECTIVES)), *STACKED)
# Rows that the table of open world leaves out.
ELSEWHERE = {
    row
    for row in rows((*methods("BMIP", (*ABLATIONS, *DEPTHS, *SMALL_DEPTHS, *LENGTHS)), *COMBINATIONS))
    if ", " in row
}
FIVE = (1, 2, 3, 4, 5)
NO_P_BELOW = 0.0005


OPEN_WORLD_COLUMNS = {"base": "base", "new": "new", "accuracy": "accuracy", "openworld_auc": "OpenworldAUC"}


def in_open_world(records: list[Record]) -> list[Record]:
    """Tests of models of base classes, and of zero-shot CLIP, on all classes."""
    return [record for record in records if record.data["open_world"] and record.from_base]


def open_world_numbers(record: Record) -> dict[str, float]:
    return {name: record.data["open_world"][key] for key, name in OPEN_WORLD_COLUMNS.items()}


OPEN_WORLD = Results(
    "open-world",
    "the same images told apart among all classes, and OpenworldAUC",
    "Open world, {shots}",
    tuple(OPEN_WORLD_COLUMNS.values()),
    lambda records: [record for record in in_open_world(records) if record.method not in ELSEWHERE],
    Plan(
        FIFTEEN,
        ("symbols",),
        embedded_methods=("ZeroshotCLIP", "CoOp", "MaPLe", "BMIP", "PromptSRC", "PromptSRC_BMIP"),
        embedded_seeds=(1,),
    ),
    open_world_numbers,
    settings=dict(harmonic=True, planned=FIFTEEN),
)


def study(name: str, help: str, title: str, plan: Plan, **settings: Any) -> Results:
    """A table of BMIP beside its variants, of the data sets on which there are variants to compare."""
    shown = rows((*plan.methods, *plan.small))

    def chosen(records: list[Record]) -> list[Record]:
        found = [record for record in in_open_world(records) if record.method in shown]
        varied = {(one.data["dataset"], one.shots) for one in found if one.method not in ("BMIP", CONTROL)}
        return [record for record in found if (record.data["dataset"], record.shots) in varied]

    settings, columns = {"harmonic": True, **settings}, tuple(OPEN_WORLD_COLUMNS.values())
    return Results(name, help, title + ", {shots}", columns, chosen, plan, open_world_numbers, settings=settings)


def combinations(records: list[Record]) -> Iterator[Record]:
    """Tests of methods that prompt both towers by each objective, with the costs of their training."""

    def model(record: Record) -> tuple:
        return record.method, record.data["recipe"], record.data["dataset"], record.shots, record.seed

    trained = {model(one): one.data for one in records if one.data["trained"] and one.data["classes"] == "base"}
    shown = rows(COMBINATIONS)
    for record in records:
        if record.data["open_world"] and model(record) in trained and record.method in shown:
            costs = {key: trained[model(record)][key] for key in ("train_seconds", "peak_memory_bytes")}
            yield Record(record.path, {**record.data, **costs})


def combination_numbers(record: Record) -> dict[str, float]:
    numbers = {name: record.data["open_world"][name] for name in ("base", "new", "accuracy")}
    memory = (record.data["peak_memory_bytes"] or 0) / 2**30
    return {**numbers, "train s": record.data["train_seconds"], "peak GiB": memory}


class Difference(NamedTuple):
    """Of one column over the seeds that both methods have."""

    seeds: int
    mean: float
    spread: float  # the deviation of a sample
    p: float  # of a two-sided paired t-test; NaN where all differences are equal, and have no spread to compare with

    def p_text(self) -> str:
        return MISSING if math.isnan(self.p) else f"<{2 * NO_P_BELOW}" if self.p < NO_P_BELOW else f"{self.p:.3f}"


class PairedTable(Table):
    """Differences to a method over the seeds that both have."""

    @property
    def rows(self) -> list[str]:
        return [*self.differences]

    @functools.cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """By variant and column."""
        from scipy.stats import ttest_1samp  # a second to import

        found: dict[str, dict[str, Difference]] = {}
        for (row, group, column), cell in sorted(self.cells.items(), key=lambda item: item[0][0]):
            theirs = self.cells.get((reference(row), group, column), Cell({})).by_seed
            values = [value - theirs[seed] for seed, value in sorted(cell.by_seed.items()) if seed in theirs]
            if len(values) > 1:
                spread = statistics.stdev(values)
                p = ttest_1samp(values, 0).pvalue if spread else math.nan
                found.setdefault(row, {})[column] = Difference(len(values), statistics.fmean(values), spread, p)
        return found

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        headers = ["variant", "against", "seeds", "base", "new", "HM", "p (HM)", "accuracy", "p (accuracy)"]
        texts = []
        for variant, found in self.differences.items():
            cells = {name: f"{one.mean:+.2f} ± {one.spread:.2f}" for name, one in found.items()}
            cells |= {f"p ({name})": one.p_text() for name, one in found.items()}
            seeds = str(found[self.columns[-1]].seeds)
            texts.append([variant, reference(variant), seeds, *(cells[name] for name in headers[3:])])
        return headers, texts

    def lines(self) -> list[list[str]]:
        return [
            [
                *(variant, f"against {reference(variant)}", name),
                *(f"{one.mean:.4f}", f"{one.spread:.4f}", str(one.seeds), f"{one.p:.4g}"),
            ]
            for variant, found in self.differences.items()
            for name, one in found.items()
        ]

    def notes(self) -> list[str]:
        return ["differences seed by seed, HM of each seed; ± is the deviation of a sample, p that of a paired t-test"]


def reference(row: str) -> str | None:
    """The reference of a variant: the method of its name's first part, or that of `REFERENCES`."""
    plain, _, addition = row.partition(", ")
    return plain if addition else REFERENCES.get(row)


PAIRED = Results(
    "paired",
    "variants of a method against it with the same seeds, in the open world, with paired t-tests; also the "
    "control of BMIP's size against BMIP, and stacks against their parts",
    "Paired differences in the open world, {dataset}, {shots}",
    ("base", "new", "HM", "accuracy"),
    lambda records: [one for one in records if one.data["open_world"] and one.learned["classes"] == "base"],
    plan=None,
    numbers=lambda record: {name: record.data["open_world"][name] for name in PAIRED.columns},
    group="",
    kind=PairedTable,
)
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
        "Prompts by objectives, {shots}",
        ("base", "new", "accuracy", "train s", "peak GiB"),
        combinations,
        Plan(methods=COMBINATIONS, embedded_methods=COMBINATIONS[:9], seeds=FIVE, paired=True),
        combination_numbers,
        settings=dict(harmonic=True, costs=("train s", "peak GiB"), planned=ELEVEN),
    ),
    PAIRED,
)
