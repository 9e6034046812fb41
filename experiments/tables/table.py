"""Tables of means over seeds: rows of methods, groups of columns, and notes of missing numbers."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from trainers.prompting.core.harmonic import harmonic_mean

from ..data import ELEVEN, FIFTEEN, config_name
from ..methods import METHODS, names, variants_of
from ..published import REMARKS
from ..store import GIVEN, Collection, Record, grouped
from .text import MISSING

PLANNED_SHOTS = "16 shots"  # of the tables of reproduce.py that have one number of them, and of the published ones
# Origins that a table should have one of, by their keys in a record's environment.
ORIGINS = {"code": "versions of the code", "torch": "versions of torch", "dassl": "Dassls", "device": "devices"}

Key = tuple[str, str, str]  # row, group of columns, column


@dataclass(frozen=True)
class Plan:
    """The runs of `reproduce.py` for a table, and for its counterpart on built-in data with the small CLIP."""

    datasets: tuple[str, ...] = ELEVEN  # of the published table
    embedded: tuple[str, ...] = ("digits",)
    methods: tuple[str, ...] = ()  # METHOD or METHOD:VARIANT; all methods if empty
    small: tuple[str, ...] = ()  # of the small CLIP, where they are others, because it has fewer layers
    # Fewer, where the small CLIP would take too long for a first look.
    embedded_methods: tuple[str, ...] = ()
    embedded_seeds: tuple[int, ...] = ()
    paired: bool = False  # the table of paired differences shows the runs too, for which they have more seeds

    @property
    def seeds(self) -> tuple[int, ...]:
        return (1, 2, 3, 4, 5) if self.paired else (1, 2, 3)

    def methods_for(self, is_small: bool, embedded: bool) -> tuple[str, ...]:
        chosen = (self.small if is_small else ()) or self.methods or tuple(names())
        return (self.embedded_methods if embedded else ()) or chosen


@dataclass(frozen=True)
class Cell:
    """A number of a table; if it is the mean of seeds, with their values and the records that they come from."""

    mean: float
    by_seed: Mapping[int, float] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @classmethod
    def of_seeds(cls, by_seed: Mapping[int, float], records: tuple[Record, ...] = ()) -> Cell:
        return cls(statistics.fmean(by_seed.values()), by_seed, records)

    @property
    def spread(self) -> float:
        """0 of a number that is no mean of seeds."""
        return statistics.pstdev(self.by_seed.values() or [self.mean])


def common_seeds(cells: Iterable[Cell]) -> set[int]:
    seeds = [set(cell.by_seed) for cell in cells]
    return set.intersection(*seeds) if seeds else set()


def gather(values: list[tuple[Key, Record, float]], notes: list[str]) -> dict[Key, Cell]:
    """Cells over seeds. A row that two configuration files would share in some cell is one row for each."""
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
            cells[key] = Cell.of_seeds(numbers, tuple(record for record, _ in usable.values()))
    return cells


@dataclass(frozen=True)
class Results:
    """A kind of table, of which the records fill several; texts in braces are those of `Record.words`."""

    name: str
    help: str
    title: str  # records of one title are in one table
    columns: tuple[str, ...]  # of each group
    chosen: Callable[[list[Record]], Iterable[Record]]  # those of the usable records that it shows
    plan: Plan | None  # None for a table of the runs of others
    # By column; others are not shown.
    numbers: Callable[[Record], Mapping[str, float]] = lambda record: {"accuracy": record.data["accuracy"]}
    group: str = "{dataset}"
    summary: Callable[[list[Table]], Table] | None = None  # makes a further table of several
    kind: type[Table] | None = None  # None for `Table` itself
    planned: tuple[str, ...] = ()  # the data sets of the published table, as files in configs/datasets
    published: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by row, over `planned`
    published_names: tuple[str, ...] = ("base", "new", "HM")
    costs: tuple[str, ...] = ()  # columns of which less is better

    def tables(self, found: Collection) -> list[Table]:
        by_title = grouped(self.chosen(found.records), lambda record: self.title.format_map(record.words))
        made = []
        for title, records in sorted(by_title.items()):
            values = [
                ((record.method, self.group.format_map(record.words), column), record, number)
                for record in records
                for column, number in self.numbers(record).items()
                if column in self.columns
            ]
            source = records[0].words["source"] if "{source}" in self.title else ""
            made.append((self.kind or Table)(self, title, gather(values, found.notes), source))
        made = [table for table in made if table.rows]
        return [*made, *([self.summary(made)] if self.summary and len(made) > 1 else [])]


@dataclass(frozen=True)
class Table:
    """Rows of methods, groups of columns; a last group of averages where there are several groups."""

    results: Results
    title: str
    cells: dict[Key, Cell]
    source: str = ""  # the group that stands apart from the averages

    @property
    def rows(self) -> list[str]:
        present = {row for row, _, _ in self.cells}
        known = [name for name in names() if name in present]
        elsewhere = [row for row in self.results.published if row.partition(", ")[0] not in METHODS]
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
    def plan(self) -> str:
        """The table of `reproduce.py` that makes this one, if there is one: of several shots, those of the plans."""
        planned = "{shots}" not in self.results.title or self.title.endswith(PLANNED_SHOTS)
        return self.results.name if self.results.plan and planned else ""

    @property
    def compares(self) -> bool:
        """Whether published numbers stand beside these: they are of 16 shots, and of the published data sets."""
        ours = {config_name(group) for group in self.groups} & set(self.results.planned)
        return bool(self.results.published and ours) and self.title.endswith(PLANNED_SHOTS)

    def published_of(self, row: str) -> tuple[float, ...]:
        return self.results.published.get(row.removesuffix(GIVEN), ()) if self.compares else ()

    def _there(self, row: str, group: str) -> dict[str, Cell]:
        """By column."""
        keys = {column: (row, group, column) for column in self.results.columns}
        return {column: self.cells[key] for column, key in keys.items() if key in self.cells}

    def seeds_of(self, row: str, group: str) -> set[int]:
        """The seeds that a row has in all columns of a group."""
        there = self._there(row, group)
        return common_seeds(there.values()) if len(there) == len(self.results.columns) else set()

    @functools.cached_property
    def seeds(self) -> set[int]:
        """Those that any row has in all columns of a group."""
        return set().union(*(self.seeds_of(row, group) for row in self.rows for group in self.groups))

    @functools.cached_property
    def numbers(self) -> dict[str, dict[tuple[str, str], Cell | None]]:
        """By row, the number of each group and column, HM and averages included; None where it is missing."""
        groups, planned = self.groups, self.results.planned
        averaged = [group for group in groups if group != self.source] if self.results.group == "{dataset}" else []
        ours = sum(config_name(group) in planned for group in averaged)
        average = "average" if ours in (0, len(planned)) else f"average of {ours}/{len(planned)}"
        numbers = {}
        for row in self.rows:
            by_group = {group: self._group(row, group) for group in groups}
            if len(averaged) > 1:
                means = {}
                for name in by_group[averaged[0]]:
                    some = [by_group[group][name] for group in averaged]
                    mean = None if None in some else Cell(statistics.fmean(cell.mean for cell in some))
                    means["mean HM" if name == "HM" else name] = mean
                by_group[average] = self._with_harmonic_mean(means)
            numbers[row] = {(group, name): cell for group, line in by_group.items() for name, cell in line.items()}
        return numbers

    def _group(self, row: str, group: str) -> dict[str, Cell | None]:
        """A group's numbers by column, of the seeds that all of them have, so that base and new are of the same."""
        there = self._there(row, group)
        seeds, cells = common_seeds(there.values()), dict.fromkeys(self.results.columns)
        for name, cell in there.items() if seeds else ():
            cells[name] = Cell.of_seeds({seed: value for seed, value in cell.by_seed.items() if seed in seeds})
        return self._with_harmonic_mean(cells)

    def _with_harmonic_mean(self, numbers: dict[str, Cell | None]) -> dict[str, Cell | None]:
        """With HM after base and new, where the table has them: that of the averages, as in the field's tables."""
        if "new" not in numbers:
            return numbers
        base, new = numbers["base"], numbers["new"]
        mean = Cell(harmonic_mean(base.mean, new.mean)) if base and new else None
        return {"base": base, "new": new, "HM": mean, **numbers}

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of text; `bold` marks the best mean of a column."""
        headers = [*next(iter(self.numbers.values()), ())]
        best = {}
        for header in headers:
            means = [line[header].mean for line in self.numbers.values() if line[header]]
            best[header] = (min if header[1] in self.results.costs else max)(means) if len(means) > 1 else None

        def text(header: tuple[str, str], cell: Cell | None) -> str:
            if cell is None:
                return MISSING
            number, seeds = f"{cell.mean:.2f}", len(cell.by_seed)
            number = bold(number) if cell.mean == best[header] else number
            number += f" ± {cell.spread:.2f}" if seeds > 1 else ""
            return number + (f" (n={seeds})" if 0 < seeds < len(self.seeds) else "")

        rows = [[row, *(text(header, line[header]) for header in headers)] for row, line in self.numbers.items()]
        titles = ["method", *map(" ".join, headers)]
        if self.compares:
            published = self.results.published_names
            titles += [f"published {name} ({len(self.results.planned)} sets)" for name in published]
            for row in rows:
                row += [f"{number:.2f}" for number in self.published_of(row[0])] or [""] * len(published)
        return titles, rows

    def lines(self) -> list[list[str]]:
        """One line for each number: method, group, column, mean, deviation, number of seeds, and p, which is empty."""
        lines = []
        for row, line in self.numbers.items():
            for header, cell in line.items():
                mean = f"{cell.mean:.4f}" if cell else ""
                of_seeds = [f"{cell.spread:.4f}", str(len(cell.by_seed))] if cell and cell.by_seed else ["", ""]
                lines.append([row, *header, mean, *of_seeds, ""])
            for name, number in zip(self.results.published_names, self.published_of(row)):
                sets = f"published, {len(self.results.planned)} sets"
                lines.append([row, sets, name, f"{number:.2f}", "", "", ""])
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
                for cell in self._there(row, group).values() if there else ():
                    unused |= set(cell.by_seed) - there
            if lacking:
                parts = (f"{group} with the seeds {', '.join(map(str, some))}" for group, some in lacking.items())
                gaps.append(f"{row} lacks {'; '.join(parts)}{self._filling(row, lacking)}")
            if unused:
                seeds, columns = ", ".join(map(str, sorted(unused))), ", ".join(self.results.columns)
                gaps.append(f"{row}: the seeds {seeds} lack one of {columns}, and are not used")
        return gaps

    def _filling(self, row: str, lacking: dict[str, list[int]]) -> str:
        """The command for the missing cells of a row, where `reproduce.py` has one; it repeats no run."""
        method, _, addition = row.partition(", ")
        suffix, sets = addition.replace(" ", "_"), [config_name(group) for group in lacking]
        if not self.plan or self.source or method not in METHODS or None in sets:
            return ""
        if suffix not in ("", *variants_of(method)):
            return ""
        seeds = " ".join(map(str, sorted(set().union(*lacking.values()))))
        return (
            f": python scripts/reproduce.py {self.plan} --methods {method}{suffix and ':'}{suffix} "
            f'--datasets "{" ".join(sets)}" --seeds "{seeds}"'
        )
