"""The table that concludes a comparison, and what it shows: accuracies and costs by method, beside zero-shot CLIP."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainers.prompting.core.harmonic import harmonic_mean
from trainers.records import read_result

from ..runs import Run
from .text import RULE, fitted, is_within, lay_out, mean_and_spread

ACCURACIES = ("base", "new", "HM", "open-world")
COLUMNS = (*ACCURACIES, "parameters", "train s", "peak GiB")
BEST = "*"
COLUMNS_MEAN = (
    "base: images of the classes that were trained on, among these; new: of the other classes, among those; HM: "
    "harmonic mean of both; open-world: all images, among all classes."
)


@dataclass(frozen=True)
class Line:
    """A method on one data set, over the seeds that came to their end.

    Attributes:
        accuracies: base, new, HM and open-world accuracy in per cent, of each seed.
        seconds: of training, of each seed.
        memory: bytes at its peak, of each seed.
    """

    name: str
    accuracies: tuple[tuple[float, ...], ...] = ()
    parameters: int = 0
    seconds: tuple[float, ...] = ()
    memory: tuple[int, ...] = ()

    @classmethod
    def of(cls, name: str, several: Iterable[Sequence[Run]]) -> Line:
        """From the runs of each seed: the first trains, and the last tests on all classes."""
        accuracies, parameters, seconds, memory = [], 0, [], []
        for runs in several:
            trained, tested = (read_result(run.folder) for run in (runs[0], runs[-1]))
            if tested is not None and (numbers := tested["open_world"]) is not None:
                accuracies.append(tuple(numbers[key] for key in ("base", "new", "HM", "accuracy")))
                parameters = tested["parameters"]
                seconds.append(trained["train_seconds"] or 0)
                memory.append(trained["peak_memory_bytes"])
        return cls(name, tuple(accuracies), parameters, tuple(seconds), tuple(memory))

    @property
    def means(self) -> tuple[float, ...]:
        """As in the field's tables, the harmonic mean is that of the averages."""
        base, new, _, everything = map(statistics.fmean, zip(*self.accuracies))
        return base, new, harmonic_mean(base, new), everything

    def cells(self) -> list[str]:
        """The table's row, without marks; the spread of the harmonic mean is that of the seeds' own."""
        if not self.accuracies:
            return [self.name, *["missing"] * len(COLUMNS)]
        cells = [mean_and_spread(values) for values in zip(*self.accuracies)]
        spread = cells[2].partition(" ")[2]
        cells[2] = " ".join(filter(None, (f"{self.means[2]:.2f}", spread)))
        costs = f"{self.parameters:,}", f"{statistics.fmean(self.seconds):.0f}", f"{max(self.memory) / 2**30:.2f}"
        return [self.name, *cells, *costs]


def conclusion(lines: Sequence[Line], reference: str, width: int) -> str:
    """The table, in which zero-shot CLIP comes first and the best means are marked; differences; and what they mean.

    Args:
        reference: the name of zero-shot CLIP's line.
        width: of the terminal, in columns.
    """
    plain = next((line for line in lines if line.name == reference and line.accuracies), None)
    others = [line for line in lines if line is not plain]
    rows = marked([*filter(None, [plain]), *others])
    if plain and others:
        rows.insert(1, RULE)
    parts = [_fitting(["method", *COLUMNS], rows, width)]
    if len(lines) > 1:
        parts[0] += f"\n{BEST} best of its column"
    differences = [
        [line.name, *(f"{ours - theirs:+.2f}" for ours, theirs in zip(line.means, plain.means))]
        for line in others
        if plain and line.accuracies
    ]
    if differences:
        table = _fitting(["method", *ACCURACIES], differences, width)
        parts.append(f"difference from zero-shot CLIP in points:\n{table}")
    parts += [textwrap.fill(text, width) for text in losses(plain, others)]
    return "\n\n".join(parts)


def _fitting(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    text = lay_out(headers, rows, right=True)
    return text if is_within(text, width) else fitted(headers, rows, width, right=True)


def marked(lines: Sequence[Line]) -> list[list[str]]:
    """Rows, in which a mark stands before the best mean of each accuracy, where there are several."""
    means = [[round(mean, 2) for mean in line.means] if line.accuracies else [] for line in lines]
    best = [max(column) for column in zip(*filter(None, means))] if len(lines) > 1 else []
    rows = [line.cells() for line in lines]
    for row, numbers in zip(rows, means):
        for place, (number, most) in enumerate(zip(numbers, best), 1):
            row[place] = BEST * (number == most) + row[place]
    return rows


def losses(plain: Line | None, others: Iterable[Line]) -> Iterator[str]:
    """Which methods have a harmonic mean below that of zero-shot CLIP, and why."""
    lost: dict[bool, list[tuple[str, float, float]]] = {}
    for line in others if plain else ():
        if line.accuracies and line.means[2] < plain.means[2]:
            gain, change = (line.means[column] - plain.means[column] for column in (0, 1))
            lost.setdefault(gain > 0 > change, []).append((line.name, gain, change))
    for learned, rows in lost.items():
        yield _loss(rows, learned)


def _loss(rows: Sequence[tuple[str, float, float]], learned: bool) -> str:
    """On methods that are below zero-shot CLIP by some points on base and on new classes."""
    (_, gain, loss), *others = rows
    names = " and ".join(filter(None, [", ".join(row[0] for row in rows[:-1]), rows[-1][0]]))
    verb, points = (
        ("are", "") if others else ("is", f", with {gain:+.1f} points on base and {loss:+.1f} on new classes")
    )
    subject, owner = ("they", "their") if others else ("it", "its")
    reason = f"{subject} learned {owner} base classes, but not for new names" if learned else "nothing was gained"
    return f"{names} {verb} below zero-shot CLIP in HM{points}: {reason}."
