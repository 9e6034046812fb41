"""A table of means over seeds: rows of methods, groups of columns, and notes of missing numbers."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from trainers.prompting.core.metrics import harmonic_mean

from ..data import FIFTEEN, config_name
from ..methods import METHODS, variants_of
from ..published import REMARKS
from ..store import GIVEN, Record
from .text import MISSING

PLANNED_SHOTS = "16 shots"  # of the tables of reproduce.py that have one number of them, and of the published ones
# Origins that a table should have one of, by their keys in a record's environment.
ORIGINS = {"code": "versions of the code", "torch": "versions of torch", "dassl": "Dassls", "device": "devices"}

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
        return self._with_harmonic([cell and cell.mean for cell in self.group_cells(row, group)])

    def _with_harmonic(self, means: list[float | None]) -> list[float | None]:
        if not self.harmonic:
            return means
        return [*means[:2], None if None in means[:2] else harmonic_mean(*means[:2]), *means[2:]]

    def averages(self, row: str) -> list[float | None]:
        """Over the groups, and the harmonic mean of these averages; None where any group is missing."""
        columns = zip(*(self.means(row, group) for group in self.averaged_groups))
        averages = [None if None in values else statistics.fmean(values) for values in columns]
        return self._with_harmonic(averages)

    @property
    def group_columns(self) -> list[str]:
        return [*self.columns[:2], "HM", *self.columns[2:]] if self.harmonic else [*self.columns]

    @property
    def average_columns(self) -> list[tuple[str, str]]:
        ours = [group for group in self.averaged_groups if config_name(group) in self.planned]
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
                cells = dict(zip(self.columns, self.group_cells(row, group)))
                line += zip(self.means(row, group), map(cells.get, self.group_columns))
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
        """One line for each number: method, group, column, mean, deviation, number of seeds, and published numbers."""
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
        """Missing cells of each row, with the command that fills them; different origins; remarks."""
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
        """The command for the missing cells of a row, where `reproduce.py` has one; it repeats no run."""
        method, _, addition = row.partition(", ")
        names = [config_name(group) for group in lacking]
        suffix = addition.replace(" ", "_")
        if not self.plan or self.source or method not in METHODS or None in names:
            return ""
        if suffix not in ("", *variants_of(method)):
            return ""
        method += f":{suffix}" if suffix else ""
        seeds = sorted({seed for some in lacking.values() for seed in some})
        return (
            f': python scripts/reproduce.py {self.plan} --methods {method} --datasets "{" ".join(names)}" '
            f'--seeds "{" ".join(map(str, seeds))}"'
        )
