"""Figures from records: accuracies, few-shot curves, gains by class, and gates by layer and over training."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minidassl.own.text import printable

from ..methods import BASELINE, row_name
from ..pictures import BMIP_COLOUR, pyplot
from ..store import Collection, Record, grouped
from ..tables.results import FEW_SHOT, OPEN_WORLD, elsewhere, in_open_world
from ..tables.table import Table
from .looks import MUTED, NEUTRAL, STACK_COLOUR, WIDTH, kin, look
from .scores import Score, score, seeds_of_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A gate beyond these is called saturated: one of its two prompts hardly counts.
SATURATED = (0.05, 0.95)
MOST_CLASSES = 30
LONGEST_NAME = 22  # of a row or a class beside a figure
TOWERS = {"text": "text tower, over classes", "vision": "vision tower, over images"}


@dataclass(frozen=True)
class Picture:
    """A figure, its title, a caption that says what it shows, and the parts of the name of its files."""

    figure: Figure
    title: str
    caption: str
    name: tuple[str, ...]


def short(name: str) -> str:
    """Of a stranger, beside a figure; a control character in an SVG would spoil the file."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def of_seeds(records: Iterable[Record]) -> list[tuple[tuple[str, str, str, str, str], list[Record]]]:
    """Method, data set, classes, shots and backbone, and their records."""

    def run(one: Record) -> tuple[str, str, str, str, str]:
        return one.method, one.data["dataset"], one.data["classes"], one.shots, one.backbone

    return sorted(grouped(records, run).items())


def deviations(numbers: Sequence[int]) -> str:
    """What bars of n seeds show."""
    bars = "bars: standard deviation over seeds" if max(numbers) > 1 else "one seed, no deviation"
    return f"{seeds_of_mean(numbers)}; {bars}"


def is_bmip(record: Record) -> bool:
    """BMIP with any options, but without the recipes of its variants."""
    return record.data["trainer"] == "BMIP" and record.method not in elsewhere()


def accuracies(found: Collection) -> Iterator[Picture]:
    """Base, new and HM of the methods on each data set, from the table in which most methods have it."""
    fullest: dict[tuple[str, str, str], Table] = {}
    for table in OPEN_WORLD.tables(found):
        for dataset in table.groups:
            key = table.title, table.backbone, dataset
            fullest[key] = max(fullest.get(key, table), table, key=lambda one: len(one.rows))
    for (title, backbone, dataset), table in fullest.items():
        lines = {row: [score(table, row, dataset, name) for name in ("base", "new", "HM")] for row in table.rows}
        lines = {row: line for row, line in lines.items() if None not in line}
        if lines:
            ordered = dict(sorted(lines.items(), key=lambda one: -one[1][-1].mean))
            counts = [line[-1].n for line in lines.values()]
            own = ", of HM that of the seeds' own" if max(counts) > 1 else ""
            caption = (
                f"{table.name}: accuracy on base classes (squares) and on new ones (diamonds), each told apart among "
                f"their own, and harmonic mean HM (discs and numbers). {deviations(counts)}{own}. "
                "Orange: BMIP; light orange: stacks with BMIP; dotted line: HM of zero-shot CLIP."
            )
            name = "accuracy", dataset, title.rpartition(", ")[2], backbone
            yield Picture(draw_accuracies(ordered), f"Base, new and HM on {dataset}", caption, name)


def draw_accuracies(lines: dict[str, list[Score]]) -> Figure:
    """A line for each row, best HM first."""
    figure, axes = pyplot().subplots(figsize=(WIDTH, 0.9 + 0.23 * len(lines)), layout="constrained")
    most = max(line[-1].n for line in lines.values())
    for place, (row, line) in enumerate(lines.items()):
        colour = {"bmip": BMIP_COLOUR, "stack": STACK_COLOUR}.get(kin(row), NEUTRAL)
        means, spreads = [one.mean for one in line], [one.spread or math.nan for one in line]
        axes.plot([min(means), max(means)], [place, place], color=colour, linewidth=0.8, alpha=0.6)
        for mean, spread, marker, size in zip(means, spreads, "sDo", (3.2, 3.2, 5.5)):
            fill = colour if marker == "o" else "#ffffff"
            style = dict(marker=marker, markersize=size, markerfacecolor=fill, markeredgewidth=1)
            axes.errorbar([mean], [place], xerr=[spread], color=colour, capsize=2, elinewidth=1, **style)
        n = f", n={line[-1].n}" if line[-1].n < most else ""
        weight = "bold" if kin(row) == "bmip" else "normal"
        beside = dict(transform=axes.get_yaxis_transform(), va="center", fontweight=weight)
        axes.text(1.03, place, line[-1].text(1) + n, ha="left", **beside)
    plain = lines.get(row_name(BASELINE))
    if plain:
        axes.axvline(plain[-1].mean, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lines)), [short(row) for row in lines])
    for label, row in zip(axes.get_yticklabels(), lines):
        label.set_fontweight("bold" if kin(row) == "bmip" else "normal")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy in per cent")
    axes.grid(axis="x")
    axes.text(1.03, 1, f"HM (n = {most})", transform=axes.transAxes, ha="left", va="bottom")
    keys = [
        pyplot().Line2D([], [], linestyle="", marker=marker, markersize=4, color=NEUTRAL, markerfacecolor=fill)
        for marker, fill in zip("sDo", ("#ffffff", "#ffffff", NEUTRAL))
    ]
    figure.legend(keys, ["base", "new", "HM"], ncols=3, loc="outside upper center", handletextpad=0.1)
    return figure


def few_shot_curves(found: Collection) -> Iterator[Picture]:
    """Accuracy by number of shots."""
    for table in FEW_SHOT.tables(found):
        shots = {group: int(group.partition(" ")[0]) for group in table.groups}
        if len(shots) < 2:
            continue
        dataset = table.title.removeprefix("All classes of ").removeprefix("All classes, ")
        figure, axes = pyplot().subplots(figsize=(WIDTH, 3.2), layout="constrained")
        counts = []
        for number, (row, line) in enumerate(table.numbers.items()):
            cells = {shots[group]: cell for (group, _), cell in line.items() if cell}
            counts += [len(cell.by_seed) for cell in cells.values()]
            # Beside each other: error bars of the same place hide one another.
            places = [count * 1.05 ** (number - (len(table.rows) - 1) / 2) for count in cells]
            means = [cell.mean for cell in cells.values()]
            spreads = [cell.spread or math.nan for cell in cells.values()]
            width = 2 if kin(row) == "bmip" else 1.2
            style = dict(markersize=4, capsize=2, linewidth=width, elinewidth=1, zorder=3 if kin(row) else 2)
            axes.errorbar(places, means, spreads, label=short(row), **style, **look(row))
        axes.set_xscale("log", base=2)
        axes.set_xticks([*shots.values()], [str(count) for count in shots.values()])
        axes.set(xlabel="training images per class", ylabel="accuracy in per cent")
        axes.minorticks_off()
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=2)
        caption = f"Accuracy among all classes of {dataset}, {table.backbone}, by shots. {deviations(counts)}."
        yield Picture(figure, f"Few-shot accuracy on {dataset}", caption, ("few_shot", dataset, table.backbone))


def by_class(record: Record) -> dict[str, float]:
    """Accuracies in per cent, in the order of the labels."""
    entries = record.data["per_class"] or ()
    return {entry["name"]: 100 * entry["correct"] / max(1, entry["images"]) for entry in entries}


def class_means(records: Sequence[Record]) -> dict[str, float]:
    """By class, over records."""
    found = defaultdict(list)
    for record in records:
        for name, value in by_class(record).items():
            found[name].append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}


def class_gains(found: Collection) -> Iterator[Picture]:
    """Accuracy of each class among all classes, less that of zero-shot CLIP."""
    tested = in_open_world(found.records)
    for (method, dataset, _, shots, backbone), records in of_seeds(tested):
        same = {"trainer": BASELINE, "dataset": dataset, "backbone": records[0].data["backbone"]}
        plain = [record for record in tested if same.items() <= record.data.items()]
        if not is_bmip(records[0]) or not plain:
            continue
        ours, theirs, of_each = class_means(records), class_means(plain), [by_class(record) for record in records]
        base = [*ours][: (len(ours) + 1) // 2]
        gains = {name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}
        if not gains:
            continue
        ordered = sorted(gains, key=lambda name: (-gains[name], name))
        if len(ordered) > MOST_CLASSES:
            ordered = ordered[: MOST_CLASSES // 2] + ordered[-MOST_CLASSES // 2 :]
        figure, axes = pyplot().subplots(figsize=(WIDTH, 0.9 + 0.165 * len(ordered)), layout="constrained")
        spreads = [statistics.pstdev(one[name] for one in of_each if name in one) or math.nan for name in ordered]
        fills = [BMIP_COLOUR if name in base else "#ffffff" for name in ordered]
        places, values = range(len(ordered)), [gains[name] for name in ordered]
        axes.barh(places, values, 0.7, color=fills, edgecolor=BMIP_COLOUR, linewidth=0.8)
        axes.errorbar(values, places, xerr=spreads, fmt="none", ecolor=NEUTRAL, elinewidth=0.9)
        axes.set_yticks(places, [short(name) for name in ordered])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(ordered) - 0.3, -0.7)
        axes.axvline(0, color=pyplot().rcParams["axes.edgecolor"], linewidth=0.8)
        axes.set_xlabel("gain over zero-shot CLIP in points")
        axes.grid(axis="x")
        keys = [pyplot().Rectangle((0, 0), 1, 1, facecolor=one, edgecolor=BMIP_COLOUR) for one in (BMIP_COLOUR, "w")]
        axes.legend(keys, ["base class", "new class"], ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        ends = f" The {MOST_CLASSES} of {len(gains)} classes at both ends." if len(gains) > MOST_CLASSES else ""
        caption = (
            f"{method} on {dataset}, {shots}, {backbone}: gain of each class over zero-shot CLIP among all classes, "
            f"{deviations([len(records)])}.{ends}"
        )
        yield Picture(figure, f"Gain by class, {dataset}", caption, ("gains", method, dataset, shots, backbone))


def by_tower(ylabel: str) -> tuple[Figure, dict[str, Axes]]:
    """A narrow figure with one picture of each tower, one above the other."""
    figure, both = pyplot().subplots(len(TOWERS), 1, figsize=(WIDTH, 4), sharey=True, layout="constrained")
    for (tower, title), axes in zip(TOWERS.items(), both):
        axes.set_title(title, loc="left")
        axes.grid(axis="y")
        axes.set(ylabel=ylabel, label=tower)
    return figure, dict(zip(TOWERS, both))


def gates_by_layer(found: Collection) -> Iterator[Picture]:
    """The gates of each tower and layer: spread over images and classes, and over seeds."""
    tested = [record for record in in_open_world(found.records) if is_bmip(record) and record.data.get("gates")]
    for (method, dataset, _, shots, backbone), records in of_seeds(tested):
        figure, both = by_tower("weight of own prompts")
        for tower, axes in both.items():
            for number, record in enumerate(records):
                gates = [row for row in record.data["gates"] if row["tower"] == tower]
                layers, means, spreads = ([row[key] for row in gates] for key in ("layer", "mean", "std"))
                places = [layer + 0.12 * (number - (len(records) - 1) / 2) for layer in layers]
                ends = [[abs(row[key] - row["mean"]) for row in gates] for key in ("min", "max")]
                axes.errorbar(places, means, ends, fmt="none", ecolor=NEUTRAL, elinewidth=1)
                axes.errorbar(places, means, spreads, fmt="o", markersize=4, capsize=2, color=BMIP_COLOUR)
            for start, end in ((0, SATURATED[0]), (SATURATED[1], 1)):
                axes.axhspan(start, end, color=NEUTRAL, alpha=0.25, linewidth=0)
            axes.set(xticks=layers, ylim=(0, 1))
        axes.set_xlabel("layer")
        caption = (
            f"{method} on {dataset}, {shots}, {backbone}: the weight that the gate gives a layer's own prompts; "
            f"the other tower's have the rest. One mark a seed (n = {len(records)}): mean, standard deviation "
            "(orange) and range (grey) over classes or images. Shaded: saturated."
        )
        yield Picture(figure, f"Gates by layer, {dataset}", caption, ("gates", method, dataset, shots, backbone))


def gates_in_training(found: Collection) -> Iterator[Picture]:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("depth", [MUTED[0], "#8A8A8A", BMIP_COLOUR])
    trained = [record for record in found.records if record.data["trained"] and record.data.get("gate_history")]
    for (method, dataset, classes, shots, backbone), records in of_seeds(filter(is_bmip, trained)):
        figure, both = by_tower("mean gate of a batch")
        for tower, axes in both.items():
            gates = [name for name in records[0].data["gate_history"][0] if name.startswith(tower)]
            for place, name in enumerate(gates):
                for number, record in enumerate(records):
                    values = [epoch[name] for epoch in record.data["gate_history"]]
                    label = short(f"layer {name.split()[1]}") if number == 0 else None
                    colour = shades(place / max(1, len(gates) - 1))
                    axes.plot(range(1, len(values) + 1), values, color=colour, label=label, linewidth=1.2)
        axes.set_xlabel("epoch")
        for one in both.values():
            one.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(*both["vision"].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        caption = (
            f"{method} on {dataset}, {classes} classes, {shots}, {backbone}: gates while it trains, from the first "
            f"layer (blue) to the last (orange). One line a layer and seed (n = {len(records)})."
        )
        name = "gates_training", method, dataset, classes, shots, backbone
        yield Picture(figure, f"Gates over training, {dataset}", caption, name)


def drawn(found: Collection) -> Iterator[Picture]:
    """All figures, each drawn when it is asked for."""
    for draw in (accuracies, few_shot_curves, class_gains, gates_by_layer, gates_in_training):
        yield from draw(found)
