"""Published numbers, `published.yaml`, to stand beside our own and never in their place."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from trainers.prompting.core.harmonic import harmonic_mean

from .data import ELEVEN

_PUBLISHED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SOURCES: Mapping[str, str] = _PUBLISHED["sources"]
SHOTS: tuple[int, ...] = tuple(_PUBLISHED["few_shot"]["shots"])
ABLATION = _PUBLISHED["ablation"]
# Beyond what rounding explains: of a harmonic mean, and of an average over data sets.
HM_OFF, AVERAGE_OFF = 0.05, 0.02
AVERAGE = "average"  # over the eleven data sets, among their names


@dataclass(frozen=True)
class BaseToNew:
    """Base, new and harmonic mean of a method, in per cent, as they were printed.

    Attributes:
        average: over the eleven data sets.
        sets: by data set, a file in configs/datasets; the harmonic mean is None where it was not taken down, as it
            follows from the others.
        source: code of it in `SOURCES`.
        uses: what it learns from beside few images; empty: nothing.
        differs: what other sources print.
    """

    average: tuple[float, float, float]
    source: str
    sets: Mapping[str, tuple[float, float, float | None]] = field(default_factory=dict)
    uses: str = ""
    differs: str = ""

    @classmethod
    def of(cls, row: Mapping, datasets: list[str]) -> BaseToNew:
        base, new = row.get("base", ()), row.get("new", ())
        means = row.get("HM", [None] * len(base))
        texts = {name: row.get(name, "") for name in ("source", "uses", "differs")}
        return cls(tuple(row["average"]), sets=dict(zip(datasets, zip(base, new, means))), **texts)

    def cells(self, dataset: str) -> dict[str, float]:
        """By column, of a data set; empty where there are none."""
        if dataset not in self.sets:
            return {}
        base, new, mean = self.sets[dataset]
        return {"base": base, "new": new, "HM": harmonic_mean(base, new) if mean is None else mean}

    def marks(self) -> Iterator[tuple[str, str, float, float]]:
        """Printed numbers that do not follow from others: data set, or "average"; column; printed, and computed."""
        for name, (base, new, printed) in {AVERAGE: self.average, **self.sets}.items():
            if printed is not None and abs((mean := harmonic_mean(base, new)) - printed) > HM_OFF:
                yield name, "HM", printed, mean
        for number, column in enumerate(("base", "new") if self.sets else ()):
            mean = statistics.fmean(cells[number] for cells in self.sets.values())
            if abs(mean - self.average[number]) > AVERAGE_OFF:
                yield AVERAGE, column, self.average[number], mean


BASE2NEW = {
    name: BaseToNew.of(row, _PUBLISHED["base2new"]["datasets"]) for name, row in _PUBLISHED["base2new"]["rows"].items()
}
# Rows that stand beside ours: all but those of one method on top of another, which docs/PUBLISHED.md has.
_ALONE = {name: row for name, row in BASE2NEW.items() if "+" not in name.removesuffix("++")}
AVERAGES = {name: row.average for name, row in _ALONE.items() if not row.uses}
BEYOND = {name: row.average for name, row in _ALONE.items() if row.uses}
FEW_SHOT_ROWS = _PUBLISHED["few_shot"]["rows"]
# By method, data set or `AVERAGE`, and number of shots.
FEW_SHOT: dict[str, dict[str, dict[int, float]]] = {
    name: {place: dict(zip(SHOTS, values)) for place, values in row.items() if place in (AVERAGE, *ELEVEN)}
    for name, row in FEW_SHOT_ROWS.items()
}
CALIBRATION_ROWS = _PUBLISHED["calibration"]["rows"]
# Expected calibration errors of base and of new classes.
CALIBRATION = {name: tuple(row["average"][1::2]) for name, row in CALIBRATION_ROWS.items() if "+" not in name}
REMARKS = {
    name: f"the printed HM of {name}, {printed:.2f}, is not that of its base and new accuracy, which is {mean:.2f}"
    for name, row in _ALONE.items()
    for place, column, printed, mean in row.marks()
    if (place, column) == (AVERAGE, "HM")
}


def base2new_at(row: str, dataset: str, shots: str) -> dict[str, float]:
    """Published numbers of a method by column, on a data set of configs/datasets with "16 shots"."""
    known = BASE2NEW.get(row)
    return known.cells(dataset) if known and shots == "16 shots" else {}


def few_shot_at(row: str, dataset: str, shots: str) -> dict[str, float]:
    """The same of models of all classes, also on `AVERAGE`."""
    number = FEW_SHOT.get(row, {}).get(dataset, {}).get(int(shots.split()[0]))
    return {} if number is None else {"accuracy": number}
