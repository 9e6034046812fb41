"""Numbers of tables with the deviation of the seeds' own, and the best of each table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainers.prompting.core.harmonic import harmonic_mean

from ..methods import BASELINE, row_name
from ..tables.results import STUDIES
from ..tables.table import Table, common_seeds

# Of a table, the first that it has.
MEASURES = ("HM", "accuracy")


@dataclass(frozen=True)
class Score:
    """A mean, and the population deviation over n seeds; n is 0 where seeds have nothing in common."""

    mean: float
    spread: float
    n: int

    def text(self, digits: int = 2) -> str:
        mean = f"{self.mean:.{digits}f}"
        return f"{mean} ± {self.spread:.{digits}f}" if self.n > 1 else mean


def score(table: Table, row: str, group: str, name: str) -> Score | None:
    """A number of a table; HM is that of the averages, with the deviation of the seeds' own, as of averages."""
    cell = table.numbers[row].get((group, name))
    if cell is None:
        return None
    groups = [group] if group in table.groups else table.averaged

    def by_seed(column: str) -> dict[int, float]:
        cells = [table.numbers[row][one, column] for one in groups]
        return {seed: statistics.fmean(one.by_seed[seed] for one in cells) for seed in common_seeds(cells)}

    if name == "HM":
        base, new = by_seed("base"), by_seed("new")
        values = [harmonic_mean(base[seed], new[seed]) for seed in base.keys() & new.keys()]
    else:
        values = [*by_seed(name).values()]
    return Score(cell.mean, statistics.pstdev(values) if values else 0.0, len(values))


@dataclass(frozen=True)
class Best:
    """The best rows of a column, and beside them BMIP and zero-shot CLIP, where the table has them."""

    table: Table
    group: str
    measure: str
    rows: tuple[str, ...]
    best: Score
    bmip: Score | None
    plain: Score | None

    @property
    def protocol(self) -> str:
        """The table's title and backbone."""
        return ", ".join(filter(None, (self.table.title, self.table.backbone)))


def bests(tables: Iterable[Table]) -> list[Best]:
    """Of the protocols' tables, by data set; where several tables have it, of that with most rows."""
    found: dict[tuple[str, ...], Best] = {}
    for best in _bests(tables):
        key = best.protocol, best.group, best.measure
        found[key] = max(found.get(key, best), best, key=lambda one: len(one.table.rows))
    return [*found.values()]


def _bests(tables: Iterable[Table]) -> Iterator[Best]:
    """Studies of BMIP's parts compare nothing else."""
    for table in tables:
        if table.results in STUDIES or not table.numbers:
            continue
        headers = [*next(iter(table.numbers.values()))]
        for group, measure in headers:
            if measure not in MEASURES or group == table.source:
                continue
            of = {row: score(table, row, group, measure) for row in table.rows}
            there = {row: one for row, one in of.items() if one}
            rows = table.best((group, measure)) or ({*there} if len(there) == 1 else set())
            if rows:
                ordered = tuple(row for row in table.rows if row in rows)
                others = of.get("BMIP"), of.get(row_name(BASELINE))
                yield Best(table, group, measure, ordered, there[ordered[0]], *others)


def seeds_of_mean(numbers: Sequence[int]) -> str:
    """Over how many seeds means are."""
    least, most = min(numbers), max(numbers)
    return f"n = {least}" if least == most else f"n = {least} to {most}"
