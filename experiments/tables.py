"""Tables from the records of finished runs, and from nothing else.

    python scripts/tables.py [RESULTS] [--table NAME ...] [--format text|markdown|latex|csv]

    base2new        accuracy on base and on new classes, each told apart among its own; harmonic mean (HM)
    open-world      the same images told apart among all classes, and OpenworldAUC
    cross-dataset   models trained on one data set, tested on others
    domains         the same models on variants of that data set
    few-shot        models trained on all classes, by number of shots
    ablation        BMIP's aggregation functions, gates and sharing, and the control of its size, in the open world
    depth, length   BMIP by the layers that prompts enter, and by their number in each, in the open world
    class-ratio     models of base classes on as many classes, by the per cent of base classes among them
    combinations    prompts by objectives: open world, seconds of training, and memory
    paired          variants of a method against it with the same seeds, in the open world, with paired t-tests; also
                    the control of BMIP's size against BMIP, and stacks against what they stack on

Cells are means ± standard deviations (population) over seeds; the best mean of a column is marked with an asterisk or
set bold. The harmonic mean is that of the averages, as in the field's tables; "mean HM" is the average of the seeds'
own. What a run has that its configuration files do not say stands behind the method's name. A cell of fewer seeds than
others says so, base and new are compared with the seeds that both have, and what is missing, contradictory or of mixed
origin is listed, and never averaged in silence. CSV has one line for each number.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import ttest_1samp
from tabulate import tabulate

from trainers.prompting.core.metrics import harmonic_mean

from .launch import DOMAINS, ELEVEN, FIFTEEN, METHODS, ROOT, SOURCE_OF, TARGETS
from .published import ABLATION, BASE2NEW, OTHERS, REMARKS
from .store import GIVEN, Collection, Record, collect, config_name

MISSING = "–"
PLANNED_SHOTS = "16 shots"  # of the tables of reproduce.py that have one number of them, and of the published ones
# What BMIP's configuration files add to the name for the tables about its parts; reproduce.py runs them.
ABLATIONS = (
    *("addition", "attention", "joint", "none", "l2v", "v2l", "released", "unshared"),
    *("relative_gate", "constant_gate", "shuffled_gate"),
)
DEPTHS = tuple(f"depth{number}" for number in (1, 2, 3, 4, 6, 12))
LENGTHS = tuple(f"length{number}" for number in (1, 4, 8))
CONTROL = "IVLP_BMIP_size"
# The learners of the table of combinations, what their configuration files add for an objective, and methods that are
# such a combination by name.
COMBINED = ("IVLP", "MaPLe", "BMIP")
OBJECTIVES = ("self_regulation", "consistency")
STACKED = ("PromptSRC", "CoPrompt", "PromptSRC_BMIP", "CoPrompt_BMIP")
# What a method of another name is compared with, seed by seed.
REFERENCES = {CONTROL: "BMIP", "PromptSRC_BMIP": "PromptSRC", "CoPrompt_BMIP": "CoPrompt"}
# What a table should have of one kind alone, by its key in a record's environment.
ORIGINS = {"code": "versions of the code", "torch": "versions of torch", "dassl": "Dassls", "device": "devices"}
NO_P_BELOW = 0.0005


def variants(method: str, additions: Iterable[str]) -> list[str]:
    """The rows of a method's configuration files with these additions to their names."""
    return [f"{method}, {addition.replace('_', ' ')}" for addition in additions]


# Rows of the tables of their own, which the one of open world does not have.
ROWS_ELSEWHERE = {
    *variants("BMIP", (*ABLATIONS, *DEPTHS, *LENGTHS)),
    *(name for method in COMBINED for name in variants(method, OBJECTIVES)),
}

Key = tuple[str, str, str]  # row, group of columns, column


@dataclass(frozen=True)
class Cell:
    """The values of one row and column by seed, and the records that they come from."""

    by_seed: dict[int, float]
    records: tuple[Record, ...] = ()

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def spread(self) -> float:
        return statistics.pstdev(self.by_seed.values())

    def of(self, seeds: set[int]) -> Cell | None:
        """Of some seeds alone; None where there is none."""
        kept = {seed: value for seed, value in self.by_seed.items() if seed in seeds}
        return Cell(kept, self.records) if kept else None


def gather(values: Iterable[tuple[Key, Record, float]], notes: list[str]) -> dict[Key, Cell]:
    """Cells over seeds. A row that two configuration files would share in some cell is one row for each."""
    found: dict[Key, list[tuple[Record, float]]] = defaultdict(list)
    for key, record, value in values:
        found[key].append((record, value))
    shared = {key[0] for key, some in found.items() if len({record.data["recipe"] for record, _ in some}) > 1}
    split: dict[Key, dict[int, list[tuple[Record, float]]]] = defaultdict(lambda: defaultdict(list))
    for (row, group, column), some in found.items():
        for record, value in some:
            name = f"{row} [{record.data['recipe']}]" if row in shared else row
            split[name, group, column][record.seed].append((record, value))
    cells = {}
    for key, by_seed in split.items():
        usable = {seed: some[0][1] for seed, some in sorted(by_seed.items()) if len(some) == 1}
        for seed in sorted(by_seed.keys() - usable.keys()):
            paths = ", ".join(str(record.path) for record, _ in by_seed[seed])
            notes.append(f"{', '.join(key)}, seed {seed}: records of different models, and are not used: {paths}")
        if usable:
            cells[key] = Cell(usable, tuple(by_seed[seed][0][0] for seed in usable))
    return cells


@dataclass(frozen=True)
class Table:
    """Rows of methods, groups of columns; a last group of averages where there are several groups.

    Attributes:
        columns: of each group.
        harmonic: adds HM of the averaged base and new to each group.
        published: numbers by row, for the columns `published_names`, over `planned`.
        costs: columns of which less is better.
        plan: the table of `reproduce.py` that makes this one.
        planned: the data sets of the published table, as files in configs/datasets.
        source: the group that stands apart from the averages.
        averaged: there are averages over the groups.
        remarks: further notes.
    """

    title: str
    cells: dict[Key, Cell]
    columns: tuple[str, ...]
    harmonic: bool = False
    published: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    published_names: tuple[str, ...] = ("base", "new", "HM")
    costs: tuple[str, ...] = ()
    plan: str = ""
    planned: tuple[str, ...] = ()
    source: str = ""
    averaged: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        present = {row for row, _, _ in self.cells}
        known = [name for name in METHODS if name in present]
        elsewhere = [row for row in self.published if row.partition(", ")[0] not in METHODS]
        return known + sorted(present - set(known)) + (elsewhere if self.compares else [])

    @property
    def groups(self) -> list[str]:
        return sorted({group for _, group, _ in self.cells}, key=self._place)

    def _place(self, group: str) -> tuple:
        """The source first, then the published order, then by the number that a name begins with, then by name."""
        name, number = config_name(group), group.partition(" ")[0]
        place = FIFTEEN.index(name) if name in FIFTEEN else len(FIFTEEN)
        return group != self.source, place, int(number) if number.isdigit() else 0, group

    @property
    def averaged_groups(self) -> list[str]:
        groups = [group for group in self.groups if group != self.source]
        return groups if self.averaged and len(groups) > 1 else []

    @property
    def compares(self) -> bool:
        """Whether published numbers stand beside these: they are of 16 shots, and of the published data sets."""
        ours = {config_name(group) for group in self.groups}
        return bool(self.published) and self.title.endswith(PLANNED_SHOTS) and bool(ours & set(self.planned))

    def group_cells(self, row: str, group: str) -> list[Cell | None]:
        """The group's cells, of the seeds that all of them have, so that none is compared with another's seeds."""
        cells = [self.cells.get((row, group, column)) for column in self.columns]
        there = [set(cell.by_seed) for cell in cells if cell]
        common = set.intersection(*there) if there else set()
        return [cell and cell.of(common) for cell in cells]

    def means(self, row: str, group: str) -> list[float | None]:
        """The group's columns, HM included; None where one is missing."""
        means = [cell and cell.mean for cell in self.group_cells(row, group)]
        if self.harmonic:
            means.insert(2, None if None in means[:2] else harmonic_mean(*means[:2]))
        return means

    def averages(self, row: str) -> list[float | None]:
        """Over the groups, and the harmonic mean of these averages; None where any group is missing."""
        columns = zip(*(self.means(row, group) for group in self.averaged_groups))
        averages = [None if None in values else statistics.fmean(values) for values in columns]
        if self.harmonic and None not in averages[:2]:
            averages.insert(3, averages[2])
            averages[2] = harmonic_mean(*averages[:2])
        elif self.harmonic:
            averages.insert(3, None)
        return averages

    @property
    def group_columns(self) -> list[str]:
        names = list(self.columns)
        if self.harmonic:
            names.insert(2, "HM")
        return names

    @property
    def average_columns(self) -> list[tuple[str, str]]:
        groups = self.averaged_groups
        ours = [group for group in groups if config_name(group) in self.planned]
        whole = len(ours) in (0, len(self.planned))
        names = self.group_columns
        if self.harmonic:
            names.insert(3, "mean HM")
        return [("average" if whole else f"average of {len(ours)}/{len(self.planned)}", name) for name in names]

    def numbers(self) -> tuple[list[tuple[str, str]], dict[str, list[tuple[float | None, Cell | None]]]]:
        """Headers of two parts, and by row the number of each column, with its cell where it is one's mean."""
        headers = [(group, name) for group in self.groups for name in self.group_columns]
        rows: dict[str, list[tuple[float | None, Cell | None]]] = {row: [] for row in self.rows}
        for row, line in rows.items():
            for group in self.groups:
                cells = self.group_cells(row, group)
                if self.harmonic:
                    cells.insert(2, None)
                line += zip(self.means(row, group), cells)
            if self.averaged_groups:
                line += [(average, None) for average in self.averages(row)]
        return headers + (self.average_columns if self.averaged_groups else []), rows

    @property
    def seeds(self) -> set[int]:
        """Those that any row has in all columns of a group."""
        return {
            seed
            for row in self.rows
            for group in self.groups
            if None not in (cells := self.group_cells(row, group))
            for seed in cells[0].by_seed
        }

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of text; `bold` marks the best mean of a column."""
        headers, numbers = self.numbers()
        best = []
        for (_, name), column in zip(headers, zip(*numbers.values())):
            values = [value for value, _ in column if value is not None]
            best.append((min if name in self.costs else max)(values) if len(values) > 1 else None)
        texts = []
        for row, line in numbers.items():
            cells = []
            for (mean, cell), top in zip(line, best):
                text = MISSING if mean is None else bold(f"{mean:.2f}") if mean == top else f"{mean:.2f}"
                if cell and len(cell.by_seed) > 1:
                    text += f" ± {cell.spread:.2f}"
                if cell and len(cell.by_seed) < len(self.seeds):
                    text += f" (n={len(cell.by_seed)})"
                cells.append(text)
            texts.append([row, *cells])
        titles = ["method", *(" ".join(header) for header in headers)]
        if self.compares:
            titles += [f"published {name} ({len(self.planned)} sets)" for name in self.published_names]
            for line in texts:
                known = self.published.get(line[0].removesuffix(GIVEN))
                line += [f"{number:.2f}" for number in known] if known else [""] * len(self.published_names)
        return titles, texts

    def lines(self) -> list[list[str]]:
        """One line for each number: method, group, column, mean, deviation, number of seeds, and what is published."""
        headers, rows = self.numbers()
        lines = []
        for row, line in rows.items():
            for (group, name), (mean, cell) in zip(headers, line):
                spread, count = (f"{cell.spread:.4f}", str(len(cell.by_seed))) if cell else ("", "")
                lines.append([row, group, name, "" if mean is None else f"{mean:.4f}", spread, count, ""])
            known = self.published.get(row.removesuffix(GIVEN)) if self.compares else None
            lines += [
                [row, f"published, {len(self.planned)} sets", name, f"{number:.2f}", "", "", ""]
                for name, number in zip(self.published_names, known or ())
            ]
        return lines

    def notes(self) -> list[str]:
        """What each row lacks, with the command that fills it; origins that differ; remarks on published numbers."""
        notes = [*self.remarks, *self._gaps()]
        for key, name in ORIGINS.items():
            rows: dict[str, list[str]] = defaultdict(list)
            for (row, _, _), cell in self.cells.items():
                for origin in {record.data["environment"][key] for record in cell.records}:
                    rows[origin] += [row] * (row not in rows[origin])
            if len(rows) > 1:
                parts = "; ".join(f"{origin}: {', '.join(some)}" for origin, some in sorted(rows.items()))
                notes.append(f"these records come from {len(rows)} {name} ({parts})")
        if self.compares:
            notes += [REMARKS[row] for row in self.rows if row in REMARKS]
        return notes

    def _gaps(self) -> list[str]:
        gaps, seeds = [], self.seeds
        for row in dict.fromkeys(row for row, _, _ in self.cells):
            lacking, unused = {}, set()
            for group in self.groups:
                cells = self.group_cells(row, group)
                there = set() if None in cells else set(cells[0].by_seed)
                lacking[group] = sorted(seeds - there)
                for column in self.columns:
                    cell = self.cells.get((row, group, column))
                    unused |= set(cell.by_seed) - there if cell and None not in cells else set()
            lacking = {group: some for group, some in lacking.items() if some}
            if lacking:
                parts = "; ".join(
                    f"{group} with the seeds {', '.join(map(str, some))}" for group, some in lacking.items()
                )
                gaps.append(f"{row} lacks {parts}{self._filling(row, lacking)}")
            if unused:
                numbers = ", ".join(map(str, sorted(unused)))
                gaps.append(f"{row}: the seeds {numbers} lack one of {', '.join(self.columns)}, and are not used")
        return gaps

    def _filling(self, row: str, lacking: dict[str, list[int]]) -> str:
        """The command for what a row lacks, where `reproduce.py` has one; it leaves alone what is there."""
        method, _, addition = row.partition(", ")
        names = [config_name(group) for group in lacking]
        suffix = addition.replace(" ", "_")
        known = suffix in ("", *ABLATIONS, *DEPTHS, *LENGTHS, *OBJECTIVES)
        if not self.plan or self.source or method not in METHODS or not known or None in names:
            return ""
        method += f":{suffix}" if suffix else ""
        seeds = sorted({seed for some in lacking.values() for seed in some})
        return (
            f': python scripts/reproduce.py {self.plan} --methods {method} --datasets "{" ".join(names)}" '
            f'--seeds "{" ".join(map(str, seeds))}"'
        )


Values = list[tuple[str, tuple[Key, Record, float]]]  # part of the title, and a value


def _by_part(found: Collection, values: Values, title: str, columns: tuple[str, ...], **more: Any) -> list[Table]:
    """One table for each part, which stands in the title's braces; `reproduce.py` runs those of its shots alone."""
    parts: dict[str, list[tuple[Key, Record, float]]] = defaultdict(list)
    for part, value in values:
        parts[part].append(value)
    made = []
    for part, part_values in sorted(parts.items()):
        whole, notes = title.format(part), []
        planned = "shot" not in part or part.endswith(PLANNED_SHOTS)
        settings = {**more, "plan": more.get("plan", "") if planned else ""}
        cells = gather(part_values, notes)
        found.notes += notes
        if cells:
            made.append(Table(whole, cells, columns, **settings))
    return made


def base2new(found: Collection) -> list[Table]:
    # Variants are tested on all classes alone, and would be half a row.
    plain = [record for record in found.records if record.base_share is None and record.from_base]
    tested = {record.method for record in plain if record.data["classes"] == "new"}
    values = [
        (record.shots, ((record.method, record.data["dataset"], record.data["classes"]), record, accuracy))
        for record in plain
        if record.data["classes"] in ("base", "new")
        and (record.method in METHODS or record.method in tested)
        and (accuracy := record.data["accuracy"]) is not None
    ]
    more = dict(harmonic=True, published={**BASE2NEW, **OTHERS}, plan="base2new", planned=ELEVEN)
    return _by_part(found, values, "Base to new, {}", ("base", "new"), **more)


OPEN_WORLD = {"base": "base", "new": "new", "accuracy": "accuracy", "openworld_auc": "OpenworldAUC"}


def open_world_values(found: Collection, shown: Callable[[str], bool]) -> Values:
    return [
        (record.shots, ((record.method, record.data["dataset"], name), record, numbers[key]))
        for record in found.records
        if (numbers := record.data["open_world"]) and record.from_base and shown(record.method)
        for key, name in OPEN_WORLD.items()
    ]


def open_world(found: Collection) -> list[Table]:
    values = open_world_values(found, lambda method: method not in ROWS_ELSEWHERE)
    more = dict(harmonic=True, plan="open-world", planned=FIFTEEN)
    return _by_part(found, values, "Open world, {}", tuple(OPEN_WORLD.values()), **more)


def about_bmip(name: str, title: str, additions: Iterable[str], **more: Any) -> Callable[[Collection], list[Table]]:
    """A table of BMIP and of its variants with these additions; none where there is no variant."""

    def make(found: Collection) -> list[Table]:
        rows = variants("BMIP", additions)
        others = ("BMIP", CONTROL) if name == "ablation" else ("BMIP",)
        values = open_world_values(found, lambda method: method in (*others, *rows))
        # Data sets on which there are variants to compare.
        shown = {(part, dataset) for part, ((row, dataset, _), _, _) in values if row in rows}
        values = [value for value in values if (value[0], value[1][0][1]) in shown]
        return _by_part(found, values, f"{title}, {{}}", tuple(OPEN_WORLD.values()), harmonic=True, plan=name, **more)

    return make


ablation = about_bmip(
    *("ablation", "BMIP's parts", ABLATIONS), planned=ELEVEN, published=ABLATION, published_names=("HM",)
)
depth = about_bmip("depth", "BMIP by prompted layers", DEPTHS)
length = about_bmip("length", "BMIP by prompts in each layer", LENGTHS)


def transfer(name: str, title: str, planned: tuple[str, ...]) -> Callable[[Collection], list[Table]]:
    """Tests of models of all classes of a source on other data sets; "domains" are variants of the source."""

    def make(found: Collection) -> list[Table]:
        learned = [
            record
            for record in found.records
            if record.learned_classes == "all" and record.data["classes"] == "all" and record.base_share is None
        ]
        values, tested = [], set()
        for record in learned:
            source, target = record.learned_dataset, record.data["dataset"]
            is_domain = SOURCE_OF.get(config_name(target) or "") == config_name(source)
            if target != source and is_domain == (name == "domains"):
                part = f"{source}, {record.shots}"
                tested.add((part, record.method, record.data["recipe"]))
                values.append((part, ((record.method, target, "accuracy"), record, record.data["accuracy"])))
        for record in learned:
            source = record.learned_dataset
            part = f"{source}, {record.shots}"
            if record.data["dataset"] == source and (part, record.method, record.data["recipe"]) in tested:
                values.append((part, ((record.method, source, "accuracy"), record, record.data["accuracy"])))
        tables = []
        for source in sorted({record.learned_dataset for record in learned}):
            some = [value for value in values if value[0].startswith(f"{source}, ")]
            tables += _by_part(found, some, f"{title} {{}}", ("accuracy",), source=source, planned=planned, plan=name)
        return tables

    return make


cross_dataset = transfer("cross-dataset", "Transfer from", TARGETS)
domains = transfer("domains", "Domain generalization from", DOMAINS["imagenet"])


def few_shot(found: Collection) -> list[Table]:
    values = [
        (record.data["dataset"], ((record.method, record.shots, "accuracy"), record, record.data["accuracy"]))
        for record in found.records
        if record.data["trained"] and record.data["classes"] == "all"
    ]
    tables = _by_part(found, values, "All classes of {}", ("accuracy",), averaged=False, plan="few-shot")
    return [*tables, *([few_shot_average(tables)] if len(tables) > 1 else [])]


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
    return Table(title, cells, ("accuracy",), averaged=False, plan="few-shot")


def class_ratio(found: Collection) -> list[Table]:
    values = [
        (
            f"{record.data['dataset']}, {record.shots}",
            ((record.method, f"{record.base_share} % base", "accuracy"), record, record.data["accuracy"]),
        )
        for record in found.records
        if record.base_share is not None and record.from_base
    ]
    return _by_part(found, values, "Among as many classes of {}", ("accuracy",), averaged=False, plan="class-ratio")


def combinations(found: Collection) -> list[Table]:
    """Methods that prompt both towers by each objective, and what their training took."""
    training = {
        (record.method, record.data["recipe"], record.data["dataset"], record.shots, record.seed): record.data
        for record in found.records
        if record.data["trained"] and record.data["classes"] == "base"
    }
    rows = {*COMBINED, *STACKED, *(name for method in COMBINED for name in variants(method, OBJECTIVES))}
    values = []
    for record in found.records:
        data = record.data
        trained = training.get((record.method, data["recipe"], data["dataset"], record.shots, record.seed))
        if not data["open_world"] or trained is None or record.method not in rows:
            continue
        numbers = {name: data["open_world"][name] for name in ("base", "new", "accuracy")}
        numbers |= {"train s": trained["train_seconds"], "peak GiB": (trained["peak_memory_bytes"] or 0) / 2**30}
        for name, number in numbers.items():
            values.append((record.shots, ((record.method, data["dataset"], name), record, number)))
    more = dict(harmonic=True, costs=("train s", "peak GiB"), plan="combinations", planned=ELEVEN)
    return _by_part(
        found, values, "Prompts by objectives, {}", ("base", "new", "accuracy", "train s", "peak GiB"), **more
    )


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

    @property
    def p_text(self) -> str:
        return MISSING if math.isnan(self.p) else f"<{2 * NO_P_BELOW}" if self.p < NO_P_BELOW else f"{self.p:.3f}"


@dataclass(frozen=True)
class PairedTable:
    """Differences to a method over the seeds that both have.

    Attributes:
        rows: variant, what it is compared with, number of seeds, and differences by column.
    """

    title: str
    rows: list[tuple[str, str, int, dict[str, Difference]]]

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


def reference(method: str) -> str | None:
    """What a variant is compared with: the method of its name's first part, or that of `REFERENCES`."""
    plain, _, addition = method.partition(", ")
    return plain if addition else REFERENCES.get(method)


def paired(found: Collection) -> list[PairedTable]:
    parts: dict[str, list[tuple[Key, Record, float]]] = defaultdict(list)
    for record in found.records:
        if record.data["open_world"] and record.learned_classes == "base":
            for name in ("base", "new", "HM", "accuracy"):
                key = record.method, "", name
                part = f"{record.data['dataset']}, {record.shots}"
                parts[part].append((key, record, record.data["open_world"][name]))
    made = []
    for part, values in sorted(parts.items()):
        cells = gather(values, found.notes)
        rows = []
        for name in sorted({name for name, _, _ in cells}):
            against = reference(name)
            differences = {}
            for column in ("base", "new", "HM", "accuracy"):
                ours, theirs = (cells.get((row, "", column), Cell({})).by_seed for row in (name, against))
                seeds = sorted(ours.keys() & theirs.keys())
                if len(seeds) > 1:
                    differences[column] = _difference([ours[seed] - theirs[seed] for seed in seeds])
            if differences:
                rows.append((name, against, len(seeds), differences))
        if rows:
            made.append(PairedTable(f"Paired differences in the open world, {part}", rows))
    return made


def _difference(values: list[float]) -> Difference:
    spread = statistics.stdev(values)
    # Of equal differences there is no spread to compare with.
    return Difference(statistics.fmean(values), spread, ttest_1samp(values, 0).pvalue if spread else math.nan)


TABLES = {
    "base2new": base2new,
    "open-world": open_world,
    "cross-dataset": cross_dataset,
    "domains": domains,
    "few-shot": few_shot,
    "ablation": ablation,
    "depth": depth,
    "length": length,
    "class-ratio": class_ratio,
    "combinations": combinations,
    "paired": paired,
}
CSV_COLUMNS = ("table", "method", "group", "column", "mean", "std", "seeds", "p")
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}
LATEX |= {character: rf"\{character}" for character in "&%$#_{}"} | {"<": r"$<$"}


def to_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def render(table: Table | PairedTable, style: str) -> str:
    """A table and its notes as text, Markdown, LaTeX (booktabs), or lines of CSV."""
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([table.title, *line] for line in table.lines())
        return text.getvalue()
    notes = table.notes()
    if style == "latex":
        # Marks that LaTeX lets through, until the cells are escaped.
        headers, rows = table.grid("\ue000{}\ue001".format)
        lines = [[to_latex(cell) for cell in row] for row in (headers, *rows)]
        lines = [[cell.replace("\ue000", r"\textbf{").replace("\ue001", "}") for cell in row] for row in lines]
        body = tabulate(lines[1:], headers=lines[0], tablefmt="latex_raw", disable_numparse=True)
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            body = body.replace(r"\hline", rule, 1)
        return "\n".join([f"% {table.title}", body, *(f"% {note}" for note in notes), ""])
    bolds = {"markdown": "**{}**", "text": "{}*"}
    headers, rows = table.grid(bolds[style].format)
    kinds = {"text": "simple", "markdown": "github"}
    body = tabulate(rows, headers=headers, tablefmt=kinds[style], disable_numparse=True)
    heading, mark = (f"### {table.title}", "- ") if style == "markdown" else (table.title, "note: ")
    return "\n".join([heading, "", body, *([""] if notes else []), *(f"{mark}{note}" for note in notes), ""])


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 1 where there is no record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--table", nargs="+", choices=[*TABLES], default=[*TABLES])
    parser.add_argument("--format", choices=["text", "markdown", "latex", "csv"], default="text")
    args = parser.parse_args(argv)
    found = collect(args.results)
    tables = [table for name in args.table for table in TABLES[name](found)]
    if args.format == "csv":
        print(",".join(CSV_COLUMNS))
    for table in tables:
        print(render(table, args.format), end="" if args.format == "csv" else "\n")
        if args.format == "csv":
            for note in table.notes():
                print(f"note: {table.title}: {note}", file=sys.stderr)
    for note in dict.fromkeys(found.notes):
        print(f"note: {note}", file=sys.stderr)
    print(found.summary, file=sys.stderr)
    if not found.records:
        print(f"There is no record of a test below {args.results}.", file=sys.stderr)
    return 0 if found.records else 1
