"""The tables of the protocols, and of studies in the open world: which records, which numbers, and their runs."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from .. import published
from ..data import DOMAINS as DOMAINS_OF
from ..data import ELEVEN, FIFTEEN, SOURCE_OF, TARGETS, config_name
from ..methods import METHODS, row_name
from ..store import Record
from .table import PLANNED_SHOTS, Cell, Part, Plan, Results, Table, blocks, common_seeds
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
# Left out of a first look at many classes with the small CLIP: CoCoOp encodes all for each image, and takes long; the
# sentences of the other are for photographs.
NOT_EMBEDDED = ("CoCoOp", "ZeroshotCLIP2")
OPEN_WORLD_COLUMNS = ("base", "new", "accuracy", "OpenworldAUC")
NO_P_BELOW = 0.0005


def methods(name: str, variants: Iterable[str]) -> tuple[str, ...]:
    """METHOD and METHOD:VARIANT of each."""
    return name, *(f"{name}:{variant}" for variant in variants)


def rows(names: Iterable[str]) -> list[str]:
    """The rows of METHOD or METHOD:VARIANT."""
    return [row_name(*name.split(":")) for name in names]


COMBINATIONS = (*(name for method in COMBINED for name in methods(method, OBJECTIVES)), *STACKED)


@functools.cache
def elsewhere() -> set[str]:
    """Rows that the table of open world leaves out."""
    shown = rows((*methods("BMIP", (*ABLATIONS, *DEPTHS, *SMALL_DEPTHS, *LENGTHS)), *COMBINATIONS))
    return {row for row in shown if ", " in row}


def of_base_or_new(records: list[Record]) -> list[Record]:
    # Variants are tested on all classes alone, and would be half a row.
    plain = [one for one in records if one.base_share is None and one.from_base and one.data["classes"] != "all"]
    shown = {record.method for record in plain if record.data["classes"] == "new"} | set(rows(METHODS))
    return [record for record in plain if record.method in shown]


BASE2NEW = Results(
    "base2new",
    "accuracy on base and on new classes, each told apart among its own; harmonic mean (HM)",
    "Base to new, {shots}",
    ("base", "new"),
    of_base_or_new,
    Plan(embedded=("digits",), not_embedded=NOT_EMBEDDED),  # the open world has base and new of the others, too
    numbers=lambda record: {record.data["classes"]: record.data["accuracy"]},
    published=published.AVERAGES,
    beyond=published.BEYOND,
    published_at=published.base2new_at,
    planned=ELEVEN,
)


def in_open_world(records: list[Record]) -> list[Record]:
    """Tests of models of base classes, and of zero-shot CLIP, on all classes."""
    return [record for record in records if record.data["open_world"] and record.from_base]


def open_world_numbers(record: Record) -> dict[str, float]:
    return {**record.data["open_world"], "OpenworldAUC": record.data["open_world"]["openworld_auc"]}


OPEN_WORLD = Results(
    "open-world",
    "the same images told apart among all classes, and OpenworldAUC",
    "Open world, {shots}",
    OPEN_WORLD_COLUMNS,
    lambda records: [record for record in in_open_world(records) if record.method not in elsewhere()],
    Plan(
        FIFTEEN,
        not_embedded=NOT_EMBEDDED,
    ),
    open_world_numbers,
    planned=FIFTEEN,
)
# Columns of the table of calibration, and the fields of a record's open world.
CALIBRATION_FIELDS = {
    "OpenworldAUC": "openworld_auc",
    "AUROC": "auroc",
    "ECE base": "ece_base",
    "ECE new": "ece_new",
    "ECE all": "ece_all",
}


def calibration_numbers(record: Record) -> dict[str, float]:
    return {column: record.data["open_world"][name] for column, name in CALIBRATION_FIELDS.items()}


CALIBRATION = replace(
    OPEN_WORLD,
    name="calibration",
    help="AUROC of base against new images, and expected calibration errors, beside OpenworldAUC; of the runs of "
    "open-world, without records that are older than these figures",
    title="Base against new images and calibration, {shots}",
    columns=(*CALIBRATION_FIELDS,),
    chosen=lambda records: [
        record
        for record in OPEN_WORLD.chosen(records)
        if record.data["open_world"].keys() >= {*CALIBRATION_FIELDS.values()}
    ],
    numbers=calibration_numbers,
    costs=("ECE base", "ECE new", "ECE all"),
    planned=ELEVEN,
    published=published.CALIBRATION,
    published_names=("ECE base", "ECE new"),
)


def transferred(to_domains: bool) -> Callable[[list[Record]], list[Record]]:
    """Models of all classes of a source on other data sets, which are variants of the source or are not."""

    def model(record: Record) -> tuple:
        return record.words["source"], record.shots, record.method, record.data["recipe"]

    def chosen(records: list[Record]) -> list[Record]:
        of_sources, others = [], []
        for record in records:
            source, target = record.words["source"], record.words["dataset"]
            if record.learned["classes"] == record.data["classes"] == "all":
                is_domain = SOURCE_OF.get(config_name(target) or "") == config_name(source)
                if target == source:
                    of_sources.append(record)
                elif is_domain == to_domains:
                    others.append(record)
        tested = set(map(model, others))
        return others + [record for record in of_sources if model(record) in tested]

    return chosen


TRANSFERRED = Plan(
    ("imagenet",),
    ("icons",),
    ("CoOp", "CoCoOp", "MaPLe", "BMIP"),
    embedded_methods=("MaPLe", "BMIP"),
    embedded_seeds=(1, 2, 3),
)
CROSS_DATASET = Results(
    "cross-dataset",
    "models trained on one data set, tested on others",
    "Transfer from {source}, {shots}",
    ("accuracy",),
    transferred(to_domains=False),
    TRANSFERRED,
    planned=TARGETS,
)
DOMAINS = Results(
    "domains",
    "the same models on variants of that data set",
    "Domain generalization from {source}, {shots}",
    ("accuracy",),
    transferred(to_domains=True),
    TRANSFERRED,
    planned=DOMAINS_OF["imagenet"],
)


def few_shot_averages(tables: list[Table]) -> Iterator[Table]:
    """Over data sets that rows have in common, of the seeds that a row has in all of them."""
    # Those of as many shots.
    shots, _ = next(blocks({table.title: set(table.groups) for table in tables}))
    tables = [table for table in tables if table.title in shots]
    sets: dict[str, set[str]] = {}
    for table in tables:
        for row in table.rows:
            sets.setdefault(row, set()).add(table.title)
    for rows, _ in blocks(sets):
        common = [table for table in tables if all(table.title in sets[row] for row in rows)]
        cells = {}
        for key in dict.fromkeys(key for table in common for key in table.cells if key[0] in rows):
            parts = [table.cells[key] for table in common if key in table.cells]
            seeds = common_seeds(parts)
            if len(parts) == len(common) and seeds:
                means = {seed: statistics.fmean(part.by_seed[seed] for part in parts) for seed in sorted(seeds)}
                cells[key] = Cell.of_seeds(means, tuple(record for part in parts for record in part.records))
        if len(common) > 1 and cells:
            names = ", ".join(table.title.removeprefix("All classes of ") for table in common)
            yield Table(FEW_SHOT, f"All classes, average over {names}", cells)


FEW_SHOT = Results(
    "few-shot",
    "models trained on all classes, by number of shots",
    "All classes of {dataset}",
    ("accuracy",),
    lambda records: [record for record in records if record.data["trained"] and record.data["classes"] == "all"],
    Plan(
        methods=("CoOp", "MaPLe", "BMIP"),
        embedded=("digits",),
        embedded_methods=("MaPLe", "BMIP"),
        embedded_seeds=(1, 2, 3),
    ),
    group="{shots}",
    summary=few_shot_averages,
    published_at=published.few_shot_at,
)
CLASS_RATIO = Results(
    "class-ratio",
    "models of base classes on as many classes, by the per cent of base classes among them",
    "Among as many classes of {dataset}, {shots}",
    ("accuracy",),
    lambda records: [record for record in records if record.base_share is not None and record.from_base],
    Plan(methods=("CoOp", "MaPLe", "BMIP"), embedded=("digits",), embedded_methods=("MaPLe", "BMIP")),
    group="{share} % base",
)


def study(name: str, help: str, title: str, plan: Plan, **settings: Any) -> Results:
    """A table of BMIP beside its variants, of the data sets on which there are variants to compare."""

    def chosen(records: list[Record]) -> list[Record]:
        shown = rows((*plan.methods, *plan.small))
        found = [record for record in in_open_world(records) if record.method in shown]
        varied = {(one.data["dataset"], one.shots) for one in found if one.method not in ("BMIP", CONTROL)}
        return [record for record in found if (record.data["dataset"], record.shots) in varied]

    return Results(name, help, title, OPEN_WORLD_COLUMNS, chosen, plan, open_world_numbers, **settings)


def combinations(records: list[Record]) -> Iterator[Record]:
    """Tests of methods that prompt both towers by each objective, with the costs of their training."""

    def model(record: Record) -> tuple:
        return record.method, record.data["recipe"], record.data["dataset"], record.shots, record.seed

    on_base = [one for one in records if one.data["trained"] and one.data["classes"] == "base"]
    trained = {model(one): one.data for one in on_base if one.data["train_seconds"] is not None}
    shown = rows(COMBINATIONS)
    found = [one for one in records if one.data["open_world"] and model(one) in trained and one.method in shown]
    # Where there is more than cross-entropy.
    varied = {(one.dataset, one.shots) for one in found if one.method not in COMBINED}
    for record in found:
        if (record.dataset, record.shots) in varied:
            costs = {key: trained[model(record)][key] for key in ("train_seconds", "peak_memory_bytes")}
            yield Record(record.path, {**record.data, **costs})


def combination_numbers(record: Record) -> dict[str, float]:
    memory = (record.data["peak_memory_bytes"] or 0) / 2**30
    return {**record.data["open_world"], "train s": record.data["train_seconds"], "peak GiB": memory}


class Difference(NamedTuple):
    """Of one column over the seeds that both methods have."""

    seeds: tuple[int, ...]
    mean: float
    spread: float  # the deviation of a sample
    p: float  # of a two-sided paired t-test; NaN where all differences are equal, and have no spread to compare with

    def p_text(self) -> str:
        return MISSING if math.isnan(self.p) else f"<{2 * NO_P_BELOW}" if self.p < NO_P_BELOW else f"{self.p:.3f}"


class PairedTable(Table):
    """Differences to a method over the seeds that both have."""

    first = "variant"
    against = ""  # a row that all are compared with; empty: each variant with its method

    def reference(self, row: str) -> str | None:
        """The row that another is compared with; None for none."""
        return reference(row) if not self.against else None if row == self.against else self.against

    @property
    def rows(self) -> list[str]:
        return [*self.differences]

    @functools.cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """By variant and column."""
        from scipy.stats import ttest_1samp  # a second to import

        found: dict[str, dict[str, Difference]] = {}
        for (row, group, column), cell in sorted(self.cells.items(), key=lambda item: item[0][0]):
            against = self.cells.get((self.reference(row), group, column))
            theirs = against.by_seed if against else {}
            seeds = tuple(sorted(cell.by_seed.keys() & theirs.keys()))
            values = [cell.by_seed[seed] - theirs[seed] for seed in seeds]
            if len(values) > 1:
                spread = statistics.stdev(values)
                p = ttest_1samp(values, 0).pvalue if spread else math.nan
                found.setdefault(row, {})[column] = Difference(seeds, statistics.fmean(values), spread, p)
        return found

    @property
    def seeds(self) -> set[int]:
        return {seed for found in self.differences.values() for one in found.values() for seed in one.seeds}

    @property
    def plan(self) -> str:
        return OPEN_WORLD.name if self.title.endswith(PLANNED_SHOTS) else ""

    @property
    def filled_by(self) -> str:
        return self.command(dict.fromkeys((*map(self.reference, self.rows), *self.rows)), self.groups, self.seeds)

    def parts(self, bold: Callable[[str], str], names_count: bool = False) -> list[Part]:
        headers, rows = self.grid(bold)
        return [("", headers[1:], rows)]

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        headers = [self.first, "against", "seeds", "base", "new", "HM", "p (HM)", "accuracy", "p (accuracy)"]
        texts = []
        for variant, found in self.differences.items():
            cells = {name: f"{one.mean:+.2f} ± {one.spread:.2f}" for name, one in found.items()}
            cells |= {f"p ({name})": one.p_text() for name, one in found.items()}
            texts.append([variant, self.reference(variant), str(len(found["HM"].seeds)), *map(cells.get, headers[3:])])
        return headers, texts

    def lines(self) -> list[list[str]]:
        lines = []
        for variant, found in self.differences.items():
            for name, one in found.items():
                numbers = f"{one.mean:.4f}", f"{one.spread:.4f}", str(len(one.seeds)), f"{one.p:.4g}"
                lines.append([variant, f"against {self.reference(variant)}", name, *numbers])
        return lines

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
    in_open_world,
    plan=None,
    numbers=open_world_numbers,
    group="",
    kind=PairedTable,
)
STUDIES = (
    study(
        "ablation",
        "BMIP's aggregation functions, gates and sharing, and the control of its size, in the open world",
        "BMIP's parts, {shots}",
        Plan(methods=("BMIP", CONTROL, *methods("BMIP", ABLATIONS)[1:]), paired=True),
        planned=ELEVEN,
        published=published.ABLATION,
        published_names=("HM",),
    ),
    study(
        "depth",
        "BMIP by the layers that prompts enter, in the open world",
        "BMIP by prompted layers, {shots}",
        Plan(("oxford_flowers",), methods=methods("BMIP", DEPTHS), small=methods("BMIP", SMALL_DEPTHS), paired=True),
    ),
    study(
        "length",
        "BMIP by the number of prompts in each layer, in the open world",
        "BMIP by prompts in each layer, {shots}",
        Plan(("oxford_flowers",), ("digits",), methods("BMIP", LENGTHS), embedded_seeds=(1, 2, 3), paired=True),
    ),
    Results(
        "combinations",
        "prompts by objectives: open world, seconds of training, and memory",
        "Prompts by objectives, {shots}",
        ("base", "new", "accuracy", "train s", "peak GiB"),
        combinations,
        Plan(
            embedded=("digits",),
            methods=COMBINATIONS,
            embedded_methods=COMBINATIONS[:9],
            embedded_seeds=(1, 2, 3),
            paired=True,
        ),
        combination_numbers,
        costs=("train s", "peak GiB"),
        planned=ELEVEN,
    ),
    CALIBRATION,
    PAIRED,
)
