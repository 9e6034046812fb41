"""A table of means over seeds: rows of methods, groups of columns, and notes of missing numbers."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from trainers.prompting.core.metrics import harmonic_mean

from ..data import FIFTEEN, config_name
from ..methods import METHODS, names, variants_of
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


Number = tuple[Optional[float], Optional[Cell]]  # None where it is missing; with its cell where it is one's mean


def gather(values: Iterable[tuple[Key, Record, float]], notes: list[str]) -> dict[Key, Cell]:
    """Cells over seeds. A row that two configuration files would share in some cell is one row for each."""
    values = [*values]
    recipes: dict[Key, set[str]] = defaultdict(set)
    for key, record, _ in values:
        recipes[key].add(record.data["recipe"])
    shared = {row for (row, _, _), some in recipes.items() if len(some) > 1}
    found: dict[Key, dict[int, list[tuple[Record, float]]]] = defaultdict(lambda: defaultdict(list))
    for (row, *column), record, value in values:
        name = f"{row} [{record.data['recipe']}]" if row in shared else row
        found[(name, *column)][record.seed].append((record, value))
    cells = {}
    for key, by_seed in found.items():
        usable = {seed: some[0] for seed, some in sorted(by_seed.items()) if len(some) == 1}
        for seed in sorted(by_seed.keys() - usable.keys()):
            paths = ", ".join(str(record.path) for record, _ in by_seed[seed])
            notes.append(f"{', '.join(key)}, seed {seed}: records of different models, and are not used: {paths}")
        if usable:
            numbers = {seed: value for seed, (_, value) in usable.items()}
            cells[key] = Cell(numbers, tuple(record for record, _ in usable.values()))
    return cells


def with_harmonic_mean(numbers: dict[str, float | None]) -> dict[str, float | None]:
    """With HM of base and new after them."""
    pair = {name: numbers[name] for name in ("base", "new")}
    return {**pair, "HM": None if None in pair.values() else harmonic_mean(*pair.values()), **numbers}


@dataclass(frozen=True)
class Table:
    """Rows of methods, groups of columns; a last group of averages where there are several groups."""

    title: str
    cells: dict[Key, Cell]
    columns: tuple[str, ...]  # of each group
    harmonic: bool = False  # adds HM of the averaged base and new to each group
    published: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by row, over `planned`
    published_names: tuple[str, ...] = ("base", "new", "HM")
    costs: tuple[str, ...] = ()  # columns of which less is better
    plan: str = ""  # the table of `reproduce.py` that makes this one
    planned: tuple[str, ...] = ()  # the data sets of the published table, as files in configs/datasets
    source: str = ""  # the group that stands apart from the averages
    averaged: bool = True  # over the groups

    @property
    def rows(self) -> list[str]:
        present = {row for row, _, _ in self.cells}
        known = [name for name in names() if name in present]
        elsewhere = [row for row in self.published if row.partition(", ")[0] not in METHODS]
        return known + sorted(present - set(known)) + (elsewhere if self.compares else [])

    @property
    def groups(self) -> list[str]:
        """The source first, then the published order, then by the number that a name begins with, then by name."""

        def place(group: str) -> tuple:
            name, number = config_name(group), group.partition(" ")[0]
            published = FIFTEEN.index(name) if name in FIFTEEN else len(FIFTEEN)
            return group != self.source, published, int(number) if number.isdigit() else 0, group

        return sorted({group for _, group, _ in self.cells}, key=place)

    @property
    def compares(self) -> bool:
        """Whether published numbers stand beside these: they are of 16 shots, and of the published data sets."""
        ours = {config_name(group) for group in self.groups}
        return bool(self.published) and self.title.endswith(PLANNED_SHOTS) and bool(ours & set(self.planned))

    def published_of(self, row: str) -> tuple[float, ...]:
        return self.published.get(row.removesuffix(GIVEN), ()) if self.compares else ()

    def seeds_of(self, row: str, group: str) -> set[int]:
        """The seeds that a row has in all columns of a group."""
        cells = [self.cells.get((row, group, column)) for column in self.columns]
        return set() if None in cells else set.intersection(*(set(cell.by_seed) for cell in cells))

    @functools.cached_property
    def seeds(self) -> set[int]:
        """Those that any row has in all columns of a group."""
        return set().union(*(self.seeds_of(row, group) for row in self.rows for group in self.groups))

    @functools.cached_property
    def numbers(self) -> dict[str, dict[tuple[str, str], Number]]:
        """By row, the number of each group and column, HM and averages included."""
        groups = self.groups
        averaged = [group for group in groups if group != self.source] if self.averaged else []
        ours = sum(config_name(group) in self.planned for group in averaged)
        average = "average" if ours in (0, len(self.planned)) else f"average of {ours}/{len(self.planned)}"
        numbers = {}
        for row in self.rows:
            by_group = {group: self._group(row, group) for group in groups}
            line = {(group, name): number for group in groups for name, number in by_group[group].items()}
            if len(averaged) > 1:
                means = {}
                for name in by_group[averaged[0]]:
                    some = [by_group[group][name][0] for group in averaged]
                    means["mean HM" if name == "HM" else name] = None if None in some else statistics.fmean(some)
                # As in the field's tables, the harmonic mean is that of the averages.
                means = with_harmonic_mean(means) if self.harmonic else means
                line |= {(average, name): (mean, None) for name, mean in means.items()}
            numbers[row] = line
        return numbers

    def _group(self, row: str, group: str) -> dict[str, Number]:
        """A group's numbers by column, of the seeds that all of them have, so that base and new are of the same."""
        found = {name: self.cells[row, group, name] for name in self.columns if (row, group, name) in self.cells}
        common = set.intersection(*(set(cell.by_seed) for cell in found.values())) if found else set()
        cells = {}
        for name in found if common else ():
            values = {seed: value for seed, value in found[name].by_seed.items() if seed in common}
            cells[name] = Cell(values, found[name].records)
        means = {name: cells[name].mean if name in cells else None for name in self.columns}
        means = with_harmonic_mean(means) if self.harmonic else means
        return {name: (mean, cells.get(name)) for name, mean in means.items()}

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of text; `bold` marks the best mean of a column."""
        headers = [*next(iter(self.numbers.values()), ())]
        best = {}
        for header in headers:
            means = [line[header][0] for line in self.numbers.values() if line[header][0] is not None]
            best[header] = (min if header[1] in self.costs else max)(means) if len(means) > 1 else None

        def text(header: tuple[str, str], mean: float | None, cell: Cell | None) -> str:
            if mean is None:
                return MISSING
            number = bold(f"{mean:.2f}") if mean == best[header] else f"{mean:.2f}"
            seeds = len(cell.by_seed) if cell else 0
            number += f" ± {cell.spread:.2f}" if seeds > 1 else ""
            return number + (f" (n={seeds})" if cell and seeds < len(self.seeds) else "")

        rows = [[row, *(text(header, *line[header]) for header in headers)] for row, line in self.numbers.items()]
        titles = ["method", *map(" ".join, headers)]
        if self.compares:
            titles += [f"published {name} ({len(self.planned)} sets)" for name in self.published_names]
            for row in rows:
                known = [f"{number:.2f}" for number in self.published_of(row[0])]
                row += known or [""] * len(self.published_names)
        return titles, rows

    def lines(self) -> list[list[str]]:
        """One line for each number: method, group, column, mean, deviation, number of seeds, and published numbers."""
        lines = []
        for row, line in self.numbers.items():
            for (group, name), (mean, cell) in line.items():
                spread, count = (f"{cell.spread:.4f}", str(len(cell.by_seed))) if cell else ("", "")
                lines.append([row, group, name, "" if mean is None else f"{mean:.4f}", spread, count, ""])
            for name, number in zip(self.published_names, self.published_of(row)):
                lines.append([row, f"published, {len(self.planned)} sets", name, f"{number:.2f}", "", "", ""])
        return lines

    def notes(self) -> list[str]:
        """Missing cells of each row, with the command that fills them; different origins; remarks."""
        notes = self._gaps()
        for key, name in ORIGINS.items():
            rows: dict[str, dict[str, None]] = defaultdict(dict)
            for (row, _, _), cell in self.cells.items():
                for record in cell.records:
                    rows[record.data["environment"][key]][row] = None
            if len(rows) > 1:
                parts = "; ".join(f"{origin}: {', '.join(some)}" for origin, some in sorted(rows.items()))
                notes.append(f"these records come from {len(rows)} {name} ({parts})")
        return notes + [REMARKS[row] for row in self.rows if self.compares and row in REMARKS]

    def _gaps(self) -> list[str]:
        gaps = []
        for row in dict.fromkeys(row for row, _, _ in self.cells):
            lacking, unused = {}, set()
            for group in self.groups:
                there = self.seeds_of(row, group)
                if self.seeds - there:
                    lacking[group] = sorted(self.seeds - there)
                for column in self.columns if there else ():
                    unused |= set(self.cells[row, group, column].by_seed) - there
            if lacking:
                parts = "; ".join(f"{group} with the seeds {_listed(some)}" for group, some in lacking.items())
                gaps.append(f"{row} lacks {parts}{self._filling(row, lacking)}")
            if unused:
                columns = ", ".join(self.columns)
                gaps.append(f"{row}: the seeds {_listed(sorted(unused))} lack one of {columns}, and are not used")
        return gaps

    def _filling(self, row: str, lacking: dict[str, list[int]]) -> str:
        """The command for the missing cells of a row, where `reproduce.py` has one; it repeats no run."""
        method, _, addition = row.partition(", ")
        suffix, sets = addition.replace(" ", "_"), [config_name(group) for group in lacking]
        if not self.plan or self.source or method not in METHODS or None in sets:
            return ""
        if suffix not in ("", *variants_of(method)):
            return ""
        seeds = sorted({seed for some in lacking.values() for seed in some})
        return (
            f": python scripts/reproduce.py {self.plan} --methods {method}{suffix and ':'}{suffix} "
            f'--datasets "{" ".join(sets)}" --seeds "{_listed(seeds, " ")}"'
        )


def _listed(seeds: Iterable[int], comma: str = ", ") -> str:
    return comma.join(map(str, seeds))
