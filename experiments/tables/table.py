"""Tables of means over seeds: rows of methods, groups of columns, and notes of missing numbers."""

from __future__ import annotations

import functools
import re
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from trainers.prompting.core.harmonic import harmonic_mean

from ..commands import IMPORTED
from ..data import BUILTIN, DOMAINS, ELEVEN, FIFTEEN, config_name, file_name
from ..methods import METHODS, names, row_name, variants_of
from ..published import AVERAGE, REMARKS
from ..store import GIVEN, SMALL, Collection, Record, grouped
from .text import MISSING

PLANNED_SHOTS = "16 shots"  # of the tables of reproduce.py that have one number of them, and of the published ones
# Origins that a table should have one of, by their keys in a record's environment.
ORIGINS = {"code": "versions of the code", "torch": "versions of torch", "dassl": "Dassls", "device": "devices"}

FEW = 3  # data sets that a title names

Key = tuple[str, str, str]  # row, group of columns, column
# The name of a group, its headers, and the texts of the rows, whose names come first.
Part = tuple[str, list[str], list[list[str]]]


@dataclass(frozen=True)
class Plan:
    """The runs of `reproduce.py` for a table, and for its counterpart on built-in data with the small CLIP."""

    datasets: tuple[str, ...] = ELEVEN  # of the published table
    embedded: tuple[str, ...] = ("icons", "digits")
    methods: tuple[str, ...] = ()  # METHOD or METHOD:VARIANT; all methods if empty
    small: tuple[str, ...] = ()  # of the small CLIP, where they are others, because it has fewer layers
    # Fewer, where the small CLIP would take too long for a first look.
    embedded_methods: tuple[str, ...] = ()
    not_embedded: tuple[str, ...] = ()  # those left out for that reason, where none are named
    embedded_seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    paired: bool = False  # the table of paired differences shows the runs too, for which they have more seeds

    @property
    def seeds(self) -> tuple[int, ...]:
        return (1, 2, 3, 4, 5) if self.paired else (1, 2, 3)

    def methods_for(self, is_small: bool, embedded: bool) -> tuple[str, ...]:
        chosen = (self.small if is_small else ()) or self.methods or tuple(names())
        soon = self.embedded_methods or tuple(name for name in chosen if name not in self.not_embedded)
        return soon if embedded else chosen


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


def blocks(sets: Mapping[str, set[str]]) -> Iterator[tuple[list[str], set[str]]]:
    """Rows that belong in one table, and its data sets, from the data sets of each row.

    A table starts from the row with the most data sets, and has the rows with more than half of these. Rows of few
    data sets, such as an experiment on one, are in a later table of these alone, beside the others that have them.
    """
    left = dict(sets)
    while left:
        fullest = max(left, key=lambda row: len(left[row]))
        most = left[fullest]
        rows = [row for row, some in sets.items() if row == fullest or 2 * len(some & most) > len(most)]
        yield rows, set().union(*(left.pop(row) for row in rows if row in left))


def beside(parts: Iterable[list[list[str]]]) -> list[list[str]]:
    """Rows of several parts, each of which begins with their names, in one."""
    return [[some[0][0], *(cell for row in some for cell in row[1:])] for some in zip(*parts)]


def seeds_text(seeds: Iterable[int]) -> str:
    seeds = sorted(seeds)
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def reproduce_command(
    table: str, methods: Iterable[str] = (), datasets: Iterable[str] = (), seeds: Iterable[int] = ()
) -> str:
    """The command of a table's runs; of all of them where none are named."""
    flags = list_flags(methods=methods, datasets=datasets, seeds=map(str, sorted(seeds)))
    return " ".join([f"python scripts/reproduce.py {table}", *flags, *map(shlex.quote, IMPORTED)])


def list_flags(**lists: Iterable[str]) -> list[str]:
    """Flags of a command line, of those lists that are not empty."""
    texts = {name: " ".join(some) for name, some in lists.items()}
    return [f"--{name} {quoted(text)}" for name, text in texts.items() if text]


def quoted(text: str) -> str:
    """A word of a shell's command line; names of a stranger's records must not become commands."""
    return shlex.quote(text) if re.search(r"[^\w .,:/@+-]", text) else f'"{text}"'


@dataclass(frozen=True)
class Results:
    """A kind of table, of which the records fill several; texts in braces are those of `Record.words`."""

    name: str
    help: str
    title: str  # records of one title and family are in one table, or in several by `blocks`
    columns: tuple[str, ...]  # of each group
    chosen: Callable[[list[Record]], Iterable[Record]]  # those of the usable records that it shows
    plan: Plan | None  # None for a table of the runs of others
    # By column; others are not shown.
    numbers: Callable[[Record], Mapping[str, float]] = lambda record: {"accuracy": record.data["accuracy"]}
    group: str = "{dataset}"
    summary: Callable[[list[Table]], Iterable[Table]] | None = None  # makes further tables of those of one family
    kind: type[Table] | None = None  # None for `Table` itself
    planned: tuple[str, ...] = ()  # the data sets of the published table, as files in configs/datasets
    published: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by row, over `planned`
    published_names: tuple[str, ...] = ("base", "new", "HM")
    beyond: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # the same, from more than few-shot data
    # Published numbers by column, of a row, a data set (a file in configs/datasets) and "16 shots".
    published_at: Callable[[str, str, str], Mapping[str, float]] | None = None
    costs: tuple[str, ...] = ()  # columns of which less is better

    def tables(self, found: Collection) -> list[Table]:
        by_title = grouped(
            self.chosen(found.records), lambda record: (self.title.format_map(record.words), record.family)
        )
        by_family: dict[tuple, list[Table]] = defaultdict(list)
        for (title, family), records in sorted(by_title.items()):
            values = [
                ((record.method, self.group.format_map(record.words), column), record, number)
                for record in records
                for column, number in self.numbers(record).items()
                if column in self.columns
            ]
            source = records[0].words["source"] if "{source}" in self.title else ""
            cells, is_chosen = gather(values, found.notes), bool(found.selection.methods)
            by_family[family] += self._parts((self.kind or Table)(self, title, cells, source, is_chosen=is_chosen))
        made = [table for tables in by_family.values() for table in tables]
        if self.summary:
            made += [table for tables in by_family.values() for table in self.summary(tables)]
        several = Counter(table.name for table in made)
        return [replace(table, is_part=several[table.name] > 1) for table in made]

    def _parts(self, table: Table) -> Iterator[Table]:
        """Of the rows and data sets that belong together; none of a source without a target."""
        if self.group != "{dataset}":
            yield from [table] * bool(table.rows)
            return
        sets: dict[str, set[str]] = {row: set() for row, _, _ in table.cells}
        for row, group, _ in table.cells:
            sets[row] |= {group} - {table.source}
        for rows, groups in blocks(sets):
            shown = {table.source, *groups} if groups else ()
            cells = {key: cell for key, cell in table.cells.items() if key[0] in rows and key[1] in shown}
            if cells:
                yield replace(table, cells=cells)


@dataclass(frozen=True)
class Table:
    """Rows of methods, groups of columns; a last group of averages where there are several groups."""

    results: Results
    title: str
    cells: dict[Key, Cell]
    source: str = ""  # the group that stands apart from the averages
    is_part: bool = False  # whether another table has the same title and backbone
    is_chosen: bool = False  # whether rows were asked for by name
    first = "method"  # the header of the rows' names

    @functools.cached_property
    def records(self) -> list[Record]:
        return [record for cell in self.cells.values() for record in cell.records]

    @property
    def backbone(self) -> str:
        """That of all records; empty where they have several."""
        backbones = {record.backbone for record in self.records}
        return backbones.pop() if len(backbones) == 1 else ""

    @property
    def name(self) -> str:
        """The title, with the backbone if all rows have the same, and the data sets where only they tell it apart."""
        sets = [group for group in self.groups if group != self.source]
        sets = (", ".join(sets) if len(sets) <= FEW else f"{len(sets)} data sets") if self.is_part else ""
        return ", ".join(filter(None, [self.title, self.backbone, sets]))

    @property
    def heading(self) -> str:
        """The name and the seeds."""
        return f"{self.name}, {seeds_text(self.seeds)}"

    @property
    def rows(self) -> list[str]:
        """Those of the records, and published ones."""
        published = (*self.results.published, *self.results.beyond)
        own = set(map(row_name, METHODS))
        elsewhere = [row for row in published if row.partition(", ")[0] not in own]
        return [*self._rows, *(elsewhere if self.compares and not self.is_chosen else ())]

    @property
    def _rows(self) -> list[str]:
        present = {row for row, _, _ in self.cells}
        known = [row for row in map(row_name, names()) if row in present]
        return known + sorted(present - set(known))

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
        planned = not self.needs_planned_shots or self.title.endswith(PLANNED_SHOTS)
        return self.results.name if self.results.plan and planned else ""

    @property
    def needs_planned_shots(self) -> bool:
        return "{shots}" in self.results.title

    @property
    def compares(self) -> bool:
        """Whether published averages stand beside these: they are of 16 shots, and of the published data sets."""
        ours = {config_name(group) for group in self.averaged} & set(self.results.planned)
        return bool(self.results.published and ours) and self.title.endswith(PLANNED_SHOTS)

    @property
    def published_blocks(self) -> dict[str, Mapping[str, tuple[float, ...]]]:
        """Published averages of rows, by the title of their columns."""
        blocks = {"published": self.results.published, "published, from more than few-shot data": self.results.beyond}
        return {title: rows for title, rows in blocks.items() if rows and self.compares}

    def published_at(self, row: str, group: str) -> Mapping[str, float]:
        """Published numbers of a row of ours by column, in a group of the usual backbone."""
        if self.results.published_at is None or self.backbone == SMALL or row not in self._rows:
            return {}
        if self.results.group == "{dataset}":
            dataset, shots = config_name(group), self.title.rpartition(", ")[2]
        else:
            datasets, shots = {record.dataset for record in self.records}, group
            dataset = AVERAGE if datasets == {*ELEVEN} else datasets.pop() if len(datasets) == 1 else None
        return self.results.published_at(row.removesuffix(GIVEN), dataset, shots) if dataset else {}

    def _there(self, row: str, group: str) -> dict[str, Cell]:
        """By column."""
        keys = {column: (row, group, column) for column in self.results.columns}
        return {column: self.cells[key] for column, key in keys.items() if key in self.cells}

    def seeds_of(self, row: str, group: str) -> set[int]:
        """The seeds that a row has in all columns of a group, of those that it has at all: base and new are of the
        same, and base alone is of all."""
        return common_seeds(self._there(row, group).values())

    @functools.cached_property
    def seeds(self) -> set[int]:
        """Those of the numbers; where there are none, those of the records."""
        shown = set().union(*(self.seeds_of(row, group) for row in self._rows for group in self.groups))
        return shown or {record.seed for record in self.records}

    @functools.cached_property
    def _by_group(self) -> dict[str, dict[str, dict[str, Cell | None]]]:
        """By row and group, the number of each column."""
        return {row: {group: self._group(row, group) for group in self.groups} for row in self._rows}

    @functools.cached_property
    def averaged(self) -> list[str]:
        """The data sets of the averages: those of which all rows have all numbers; none if there is one."""
        if self.results.group != "{dataset}":
            return []
        sets, lines = [group for group in self.groups if group != self.source], self._by_group.values()
        complete = [group for group in sets if not any(None in line[group].values() for line in lines)]
        return complete if len(complete) > 1 else []

    @functools.cached_property
    def numbers(self) -> dict[str, dict[tuple[str, str], Cell | None]]:
        """By row, the number of each group and column, HM and averages included; None where it is missing."""
        planned, averaged = self.results.planned, self.averaged
        ours = sum(config_name(group) in planned for group in averaged)
        average = "average" if ours in (0, len(planned)) else f"average of {ours}/{len(planned)}"
        numbers = {}
        for row, by_group in self._by_group.items():
            if averaged:
                means = {}
                for name in by_group[averaged[0]]:
                    mean = Cell(statistics.fmean(by_group[group][name].mean for group in averaged))
                    means["mean HM" if name == "HM" else name] = mean
                by_group = {**by_group, average: self._with_harmonic_mean(means)}
            numbers[row] = {(group, name): cell for group, line in by_group.items() for name, cell in line.items()}
        empty = dict.fromkeys(next(iter(numbers.values()), ()))
        return {row: numbers.get(row, empty) for row in self.rows}

    def _group(self, row: str, group: str) -> dict[str, Cell | None]:
        """A group's numbers by column."""
        seeds, cells = self.seeds_of(row, group), dict.fromkeys(self.results.columns)
        for name, cell in self._there(row, group).items() if seeds else ():
            cells[name] = Cell.of_seeds({seed: value for seed, value in cell.by_seed.items() if seed in seeds})
        return self._with_harmonic_mean(cells)

    def _with_harmonic_mean(self, numbers: dict[str, Cell | None]) -> dict[str, Cell | None]:
        """With HM after base and new, where the table has them: that of the averages, as in the field's tables."""
        if "new" not in numbers:
            return numbers
        base, new = numbers["base"], numbers["new"]
        mean = Cell(harmonic_mean(base.mean, new.mean)) if base and new else None
        return {"base": base, "new": new, "HM": mean, **numbers}

    def best(self, header: tuple[str, str]) -> set[str]:
        """The rows with the best mean of a column, among rows of the same seeds: those that most rows have, and of as
        many rows, the most seeds. None where there is one such row."""
        groups = {header[0]} if header[0] in self.groups else {*self.averaged}
        by_seeds: dict[frozenset, dict[str, str]] = defaultdict(dict)
        for row, line in self.numbers.items():
            if line[header]:
                cells = ((group, cell) for (group, _), cell in line.items() if group in groups and cell)
                seeds = frozenset((group, seed) for group, cell in cells for seed in cell.by_seed)
                # As it is printed: equal numbers are equally good.
                by_seeds[seeds][row] = f"{line[header].mean:.2f}"
        means = max(by_seeds.items(), key=lambda one: (len(one[1]), len(one[0])), default=((), {}))[1]
        best = (min if header[1] in self.results.costs else max)(means.values(), key=float, default="")
        return {row for row, mean in means.items() if mean == best} if len(means) > 1 else set()

    def parts(self, bold: Callable[[str], str], names_count: bool = False) -> list[Part]:
        """Texts of the numbers by group, each with published ones, of the averages, and of published averages.

        Args:
            bold: marks the best means.
            names_count: a number of seeds that a row has in all columns of a group follows its name, not each number.
        """
        headers = [*next(iter(self.numbers.values()), ())]
        best = {header: self.best(header) for header in headers}

        def count(cell: Cell | None) -> str:
            seeds = len(cell.by_seed) if cell else 0
            return f" (n={seeds})" if 0 < seeds < len(self.seeds) else ""

        def text(row: str, header: tuple[str, str]) -> str:
            cell = self.numbers[row][header]
            if cell is None:
                return MISSING
            number = f"{cell.mean:.2f}"
            number = bold(number) if row in best[header] else number
            return number + (f" ± {cell.spread:.2f}" if len(cell.by_seed) > 1 else "")

        parts = []
        for group in dict.fromkeys(group for group, _ in headers):
            columns = [header for header in headers if header[0] == group]
            rows = []
            for row, line in self.numbers.items():
                counts = {count(line[column]) for column in columns if line[column] and line[column].by_seed}
                of_all = counts.pop() if names_count and len(counts) == 1 else ""
                cells = (text(row, one) + ("" if of_all else count(line[one])) for one in columns)
                rows.append([row + of_all, *cells])
            names = [name for _, name in columns]
            published = {row: self.published_at(row, group) for row in self.numbers}
            if shown := [name for name in names if any(name in cells for cells in published.values())]:
                names += [f"published {name}" for name in shown]
                for row, cells in zip(rows, published.values()):
                    row += [f"{cells[name]:.2f}" if name in cells else "" for name in shown]
            parts.append((group, names, rows))
        for title, known in self.published_blocks.items():
            titles = [f"{name} ({len(self.results.planned)} sets)" for name in self.results.published_names]
            lines = {row: [f"{number:.2f}" for number in known.get(row.removesuffix(GIVEN), ())] for row in self.rows}
            parts.append((title, titles, [[row, *(line or [""] * len(titles))] for row, line in lines.items()]))
        return parts

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of all parts beside one another."""
        parts = self.parts(bold)
        headers = [f"{group} {name}" for group, names, _ in parts for name in names]
        return [self.first, *headers], beside(rows for _, _, rows in parts)

    def lines(self) -> list[list[str]]:
        """One line for each number: method, group, column, mean, deviation, number of seeds, and p, which is empty."""
        lines = []
        for row, line in self.numbers.items():
            for header, cell in line.items():
                mean = f"{cell.mean:.4f}" if cell else ""
                of_seeds = [f"{cell.spread:.4f}", str(len(cell.by_seed))] if cell and cell.by_seed else ["", ""]
                lines.append([row, *header, mean, *of_seeds, ""])
            for group in self.groups:
                for name, number in self.published_at(row, group).items():
                    lines.append([row, group, f"published {name}", f"{number:.2f}", "", "", ""])
            for title, known in self.published_blocks.items():
                for name, number in zip(self.results.published_names, known.get(row.removesuffix(GIVEN), ())):
                    sets = f"{title}, {len(self.results.planned)} sets"
                    lines.append([row, sets, name, f"{number:.2f}", "", "", ""])
        return lines

    def notes(self) -> list[str]:
        """Missing cells, with a line of the command that fills them; what is averaged; different origins; remarks."""
        notes = self._gaps()
        by_group = ({frozenset(self.seeds_of(row, group)) for row in self._rows} for group in self.groups)
        if any(len(seeds - {frozenset()}) > 1 for seeds in by_group):
            notes.append("a column's best mean is marked among rows of the same seeds")
        sets = [group for group in self.groups if group != self.source]
        if self.results.group == "{dataset}" and len(self.averaged) < len(sets) > 1:
            there = f"averages are over {', '.join(self.averaged)}, which all rows have"
            notes.append(there if self.averaged else "no average: no two data sets have all numbers of all rows")
        for key, name in ORIGINS.items():
            rows: dict[str, dict[str, None]] = defaultdict(dict)
            for (row, _, _), cell in self.cells.items():
                for record in cell.records:
                    rows[record.data["environment"][key]][row] = None
            if len(rows) > 1:
                parts = "; ".join(f"{origin}: {', '.join(some)}" for origin, some in sorted(rows.items()))
                notes.append(f"these records come from {len(rows)} {name} ({parts})")
        if self.compares or any(self.published_at(row, group) for row in self._rows for group in self.groups):
            notes.append("docs/PUBLISHED.md has the sources of published numbers")
        return notes + [REMARKS[row] for row in self.rows if self.compares and row in REMARKS]

    def _gaps(self) -> list[str]:
        """What rows lack of the seeds of the table, with commands, and what they have and is not used."""
        gaps, notes, columns = defaultdict(list), [], self.results.columns

        def text(some: Iterable[str], seeds: Iterable[int], groups: Iterable[str]) -> str:
            of = f"{', '.join(some)} of " if some != columns else ""
            return f"{of}{', '.join(groups)} with {seeds_text(seeds)}"

        for row in self._rows:
            # Groups by missing columns and seeds.
            lacking, unused = defaultdict(list), defaultdict(list)
            for group in self.groups:
                there, by_missing = self._there(row, group), defaultdict(set)
                for seed in self.seeds.union(*(cell.by_seed for cell in there.values())):
                    has = {column for column, cell in there.items() if seed in cell.by_seed}
                    by_missing[tuple(column for column in columns if column not in has)].add(seed)
                for missing, seeds in by_missing.items():
                    wanted, left_out = seeds & self.seeds, seeds - self.seeds_of(row, group)
                    if missing and wanted:
                        lacking[missing, tuple(sorted(wanted))].append(group)
                    if missing != columns and left_out:
                        unused[missing, tuple(sorted(left_out))].append(group)
            if lacking:
                gaps[tuple((*key, tuple(groups)) for key, groups in lacking.items())].append(row)
            for (missing, seeds), groups in unused.items():
                there = text([column for column in columns if column not in missing], seeds, groups)
                notes.append(f"{row}: {there} is not used, because {', '.join(missing)} is missing")
        for lacking, rows in gaps.items():
            groups = dict.fromkeys(group for _, _, some in lacking for group in some)
            command = self.command(rows, groups, {seed for _, seeds, _ in lacking for seed in seeds})
            note = f"{'; '.join(rows)} lack{'s' * (len(rows) == 1)} {'; '.join(text(*one) for one in lacking)}"
            notes.append(f"{note}\n{command}" if command else note)
        return notes

    @functools.cached_property
    def _asked(self) -> dict[str, str]:
        """METHOD or METHOD:VARIANT of the rows that `reproduce.py` can fill."""
        return {
            row: ":".join(filter(None, record.identity))
            for (row, _, _), cell in self.cells.items()
            for record in cell.records
            if row == record.plain_method
            and record.identity[0] in METHODS
            and record.identity[1] in ("", *variants_of(record.identity[0]))
            and (record.backbone == SMALL) == (record.dataset in BUILTIN)
        }

    def command(self, rows: Iterable[str], groups: Iterable[str], seeds: Iterable[int]) -> str:
        """The command of `reproduce.py` for cells; it repeats no run. Empty if there is none."""
        methods = [self._asked[row] for row in rows if row in self._asked]
        if self.source:
            sets = [name for name in DOMAINS if name == file_name(self.source)]
        elif self.results.group == "{dataset}":
            sets = [file_name(group) for group in groups if config_name(group)]
        else:
            sets = sorted({record.dataset for record in self.records if config_name(record.data["dataset"])})
        return reproduce_command(self.plan, methods, sets, seeds) if self.plan and methods and sets else ""

    @property
    def filled_by(self) -> str:
        """The command of all that it shows."""
        return self.command(self.rows, self.groups, {record.seed for record in self.records})
