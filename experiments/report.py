"""One self-contained HTML page of a results folder: tables, pictures, configurations, and their commands.

    python scripts/report.py [RESULTS] [--output report.html] [--models RUN ...]

Everything comes from the records of finished tests. The pictures are also written as PNG and SVG, into a folder beside
the page: accuracies of the methods, few-shot curves, gains over zero-shot CLIP by class, and BMIP's gates by layer and
over training. Of each RUN, the output folder of a training run, scripts/look_inside.py draws the image features and
the attention to prompts, for which it needs checkpoint and data.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from . import ROOT
from . import pictures as look_inside
from .commands import exit_status, make_parser
from .methods import BASELINE, METHODS, import_modules
from .protocols import TABLES
from .store import Collection, Record, collect
from .tables.cells import Table
from .tables.results import FEW_SHOT, OPEN_WORLD
from .tables.rows import ELSEWHERE
from .tables.studies import PairedTable
from .tables.text import bold, with_marks

# Colours that stay apart for colour-blind readers (Okabe and Ito); a method has the same one in all pictures.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LINES = ("-", "--", ":", "-.")
# Base, new and HM, which are no methods.
SHADES = ("#bdbdbd", "#737373", "#252525")
# A gate beyond these is called saturated: one of its two prompts hardly counts.
SATURATED = (0.05, 0.95)
MOST_CLASSES = 40
STYLE = """
body { font-family: sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 0.85rem } .wide { overflow-x: auto; margin-bottom: 0.5rem }
td, th { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: #fff }
img { max-width: 100% } .note { color: #666; font-size: 0.85rem; overflow-wrap: anywhere }
pre { background: #f4f4f4; padding: 0.7rem; overflow-x: auto; font-size: 0.8rem }
summary { overflow-wrap: anywhere }
"""


def look(method: str) -> dict[str, str]:
    """Colour and line of a method, the same beside any others."""
    names = [*METHODS]
    place = names.index(method) if method in METHODS else len(names) + sum(map(ord, method))
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


def file_name(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts)).strip("_")


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its files and what it shows."""

    name: str
    caption: str
    figure: Figure


def by_test(records: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Records of the seeds, by method, data set and shots."""
    groups = defaultdict(list)
    for record in records:
        groups[record.method, record.data["dataset"], record.shots].append(record)
    return dict(sorted(groups.items()))


def is_bmip(record: Record) -> bool:
    """BMIP with any options, but without the recipes of its variants."""
    return record.data["trainer"] == "BMIP" and record.method not in ELSEWHERE


def open_world_records(found: Collection) -> list[Record]:
    """Tests of models of base classes, and of zero-shot CLIP, on all classes."""
    return [record for record in found.records if record.data["open_world"] and record.from_base]


def accuracy_bars(table: Table) -> Iterator[Picture]:
    """Base, new and HM of the methods on each data set."""
    names = ("base", "new", "HM")
    for dataset in table.groups:
        rows = [row for row in table.rows if None not in table.means(row, dataset)[:3]]
        if not rows:
            continue
        figure, axes = plt.subplots(figsize=(6, 1.2 + 0.5 * len(rows)), layout="constrained")
        for number, (name, shade) in enumerate(zip(names, SHADES)):
            # HM is of averages, and has no spread; nor have numbers that are the same for all seeds.
            cells = [dict(zip(table.columns, table.group_cells(row, dataset))).get(name) for row in rows]
            errors = [(cell.spread or math.nan) if cell else math.nan for cell in cells]
            lengths = [table.means(row, dataset)[number] for row in rows]
            places = [place + 0.27 * (number - 1) for place in range(len(rows))]
            axes.barh(places, lengths, 0.27, xerr=errors, capsize=2, label=name, color=shade, ecolor="#D55E00")
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set_xlabel("accuracy in per cent")
        axes.set_xlim(0, 100)
        axes.set_title(dataset, loc="left")
        axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        axes.grid(axis="x", alpha=0.3)
        caption = f"{table.title}, {dataset}: base, new, and their harmonic mean; mean and deviation over seeds."
        yield Picture(file_name("accuracy", dataset, table.title.rpartition(", ")[2]), caption, figure)


def few_shot_curves(found: Collection) -> Iterator[Picture]:
    """Accuracy by number of shots."""
    for table in FEW_SHOT.tables(found):
        shots = [int(group.partition(" ")[0]) for group in table.groups]
        if len(shots) < 2:
            continue
        dataset = table.title.removeprefix("All classes of ").removeprefix("All classes, ")
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for number, row in enumerate(table.rows):
            cells = {
                count: cell for count, group in zip(shots, table.groups) if (cell := table.group_cells(row, group)[0])
            }
            # Beside each other: error bars of the same place hide one another.
            places = [count * 1.05 ** (number - (len(table.rows) - 1) / 2) for count in cells]
            means, spreads = [cell.mean for cell in cells.values()], [cell.spread for cell in cells.values()]
            axes.errorbar(places, means, spreads, marker="o", capsize=3, label=row, **look(row))
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(count) for count in shots])
        axes.set_xlabel("training images per class")
        axes.set_ylabel("accuracy in per cent")
        axes.set_title(dataset)
        axes.legend()
        axes.grid(alpha=0.3)
        caption = f"Few-shot accuracy on {dataset}: mean and deviation over seeds."
        yield Picture(file_name("few_shot", dataset), caption, figure)


def class_gains(found: Collection) -> Iterator[Picture]:
    """Accuracy of each class among all classes, less that of zero-shot CLIP."""
    tested = open_world_records(found)
    for (method, dataset, shots), records in by_test(tested).items():
        same = dataset, records[0].data["backbone"]
        plain = [
            record
            for record in tested
            if record.data["trainer"] == BASELINE and (record.data["dataset"], record.data["backbone"]) == same
        ]
        if not is_bmip(records[0]) or not plain:
            continue
        ours, theirs = class_accuracies(records), class_accuracies(plain)
        base = set(list(ours)[: (len(ours) + 1) // 2])
        gains = {name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}
        ordered = sorted(gains, key=lambda name: (gains[name], name))
        if len(ordered) > MOST_CLASSES:
            ordered = ordered[: MOST_CLASSES // 2] + ordered[-MOST_CLASSES // 2 :]
        figure, axes = plt.subplots(figsize=(6, 1.2 + 0.2 * len(ordered)), layout="constrained")
        shades = [SHADES[0] if name in base else SHADES[1] for name in ordered]
        axes.barh(range(len(ordered)), [gains[name] for name in ordered], color=shades)
        axes.set_yticks(range(len(ordered)), ordered, fontsize=7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel("gain in points over zero-shot CLIP, among all classes")
        axes.set_title(f"{method} on {dataset}, {shots}")
        keys = [plt.Rectangle((0, 0), 1, 1, color=shade) for shade in SHADES[:2]]
        axes.legend(handles=keys, labels=["base", "new"])
        shown = f" (the {MOST_CLASSES} of {len(gains)} classes at both ends)" if len(gains) > MOST_CLASSES else ""
        caption = (
            f"{method} on {dataset}, {shots}: gain of each class over zero-shot CLIP in the open world, mean over "
            f"seeds{shown}."
        )
        yield Picture(file_name("gains", method, dataset, shots), caption, figure)


def class_accuracies(records: Sequence[Record]) -> dict[str, float]:
    """By class name, mean over the records, in per cent, in the order of the labels."""
    found = defaultdict(list)
    for record in records:
        for entry in record.data["per_class"] or ():
            found[entry["name"]].append(100 * entry["correct"] / max(1, entry["images"]))
    return {name: statistics.fmean(values) for name, values in found.items()}


def gates(found: Collection) -> Iterator[Picture]:
    """The gates of each tower and layer: spread over images and classes, and over seeds; and over training."""
    tested = [record for record in open_world_records(found) if is_bmip(record) and record.data.get("gates")]
    for (method, dataset, shots), records in by_test(tested).items():
        yield gate_layers(method, dataset, shots, records)
    histories = defaultdict(list)
    for record in found.records:
        if record.data["trained"] and is_bmip(record) and record.data.get("gate_history"):
            key = record.method, record.data["dataset"], record.data["classes"], record.shots
            histories[key].append(record)
    for key, records in sorted(histories.items()):
        yield gate_training(*key, records)


def both_towers(title: str, ylabel: str, xlabel: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a picture of each tower."""
    figure, both = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
    for axes in both:
        axes.set_xlabel(xlabel)
    both[0].set_ylabel(ylabel)
    figure.suptitle(title)
    return figure, dict(zip(("text", "vision"), both))


def gate_layers(method: str, dataset: str, shots: str, records: Sequence[Record]) -> Picture:
    figure, both = both_towers(f"{method} on {dataset}, {shots}", "weight of the layer's own prompts", "layer")
    for tower, axes in both.items():
        layers = sorted({row["layer"] for record in records for row in record.data["gates"] if row["tower"] == tower})
        for number, record in enumerate(records):
            rows = {row["layer"]: row for row in record.data["gates"] if row["tower"] == tower}
            means, spreads = ([rows[layer][key] for layer in layers] for key in ("mean", "std"))
            places = [layer + 0.08 * (number - (len(records) - 1) / 2) for layer in layers]
            low, high = ([abs(rows[layer][key] - rows[layer]["mean"]) for layer in layers] for key in ("min", "max"))
            axes.errorbar(places, means, [low, high], fmt="none", ecolor="#bbbbbb", elinewidth=1)
            axes.errorbar(places, means, spreads, fmt="o", markersize=4, capsize=2, color=look(method)["color"])
        for start, end in ((0, SATURATED[0]), (SATURATED[1], 1)):
            axes.axhspan(start, end, color="#D55E00", alpha=0.15)
        axes.set_title(f"{tower}: over {'classes' if tower == 'text' else 'images'}")
        axes.set_xticks(layers)
        axes.set_ylim(0, 1)
        axes.grid(axis="y", alpha=0.3)
    caption = (
        f"Gates of {method} on {dataset}, {shots}, one mark a seed: mean, standard deviation (coloured) and range "
        "(grey) over classes or images. Shaded: saturated."
    )
    return Picture(file_name("gates", method, dataset, shots), caption, figure)


def gate_training(method: str, dataset: str, classes: str, shots: str, records: Sequence[Record]) -> Picture:
    title = f"{method} on {dataset}, {classes} classes, {shots}"
    figure, both = both_towers(title, "mean gate of the last batch", "epoch")
    for tower, axes in both.items():
        names = [name for name in records[0].data["gate_history"][0] if name.startswith(tower)]
        # From dark to light by depth, as many as there are.
        shades = plt.get_cmap("viridis")([place / max(1, len(names)) for place in range(len(names))])
        for shade, name in zip(shades, names):
            for number, record in enumerate(records):
                values = [epoch[name] for epoch in record.data["gate_history"]]
                label = f"layer {name.split()[1]}" if number == 0 else None
                axes.plot(range(1, len(values) + 1), values, color=shade, label=label, linewidth=1)
        axes.set_title(tower)
        axes.grid(alpha=0.3)
    figure.legend(*both["vision"].get_legend_handles_labels(), loc="outside right center", frameon=False)
    caption = (
        f"Gates of {method} while it trains on {classes} classes of {dataset}, {shots}: one line a seed and layer."
    )
    return Picture(file_name("gates_training", method, dataset, classes, shots), caption, figure)


def inside(run: Path, data: str | None) -> Iterator[Picture]:
    """Image features and attention to prompts of one trained model."""
    captions = {
        "features": "image features beside plain CLIP's, by t-SNE (distances between groups mean little)",
        "attention": "attention to each prompt token by layer, in units of uniform attention",
    }
    for name, figure in look_inside.draw(run, data).items():
        yield Picture(file_name(name, *run.parts[-6:]), f"{run}: {captions[name]}.", figure)


def pictures(found: Collection) -> Iterator[Picture]:
    for table in OPEN_WORLD.tables(found):
        yield from accuracy_bars(table)
    yield from few_shot_curves(found)
    yield from class_gains(found)
    yield from gates(found)


def notes_html(notes: Sequence[str]) -> str:
    return f"<ul class=note>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def table_html(table: Table | PairedTable) -> str:
    """A table whose best means are bold; marked first, because the cells are escaped afterwards."""

    def line(tag: str, row: Sequence[str]) -> str:
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        return f"<tr>{with_marks(cells, '<b>', '</b>')}</tr>"

    headers, rows = table.grid(bold)
    body = "\n".join([line("th", headers), *(line("td", row) for row in rows)])
    plan = f"<pre>python scripts/reproduce.py {table.plan}</pre>" if table.plan else ""
    title = html.escape(table.title)
    return f"<h3>{title}</h3>\n<div class=wide><table>\n{body}\n</table></div>{notes_html(table.notes())}{plan}"


def origin_html(records: Sequence[Record]) -> str:
    """Versions; and of each method and data set the commands, and the configuration of its first training."""
    environments = {yaml.safe_dump(record.data["environment"]) for record in records}
    parts = ["<h2>Where it comes from</h2>", *(f"<pre>{html.escape(text)}</pre>" for text in sorted(environments))]
    groups = defaultdict(list)
    for record in records:
        groups[record.method, record.learned_dataset].append(record)
    for (method, dataset), some in sorted(groups.items()):
        ordered = sorted(some, key=lambda record: (not record.data["trained"], record.seed, str(record.path)))
        commands = html.escape("\n".join(record.command for record in ordered))
        configuration = html.escape(yaml.safe_dump(ordered[0].data["configuration"]))
        parts.append(
            f"<details><summary>{html.escape(method)} on {html.escape(dataset)}: {len(some)} runs</summary>"
            f"<pre>{commands}</pre><pre>{configuration}</pre></details>"
        )
    return "\n".join(parts)


def write_report(found: Collection, results: Path, page: Path, models: Sequence[Path], data: str | None) -> int:
    """Write the page and the pictures; gives the number of pictures.

    Raises:
        InputError: one of the models is no output folder of a training run.
    """
    inner = [picture for run in tqdm(models, desc="models") for picture in inside(run, data)]
    made = [table for entry in TABLES.values() for table in entry.tables(found)]
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for picture in tqdm([*pictures(found), *inner], desc="pictures"):
        for kind in ("png", "svg"):
            picture.figure.savefig(folder / f"{picture.name}.{kind}", dpi=120)
        content = io.BytesIO()
        picture.figure.savefig(content, format="png", dpi=120)
        plt.close(picture.figure)
        encoded, caption = base64.b64encode(content.getvalue()).decode(), html.escape(picture.caption)
        images.append(f'<img alt="{caption}" src="data:image/png;base64,{encoded}">\n<p class=note>{caption}</p>')
    command = html.escape(f"python scripts/tables.py {results}\npython scripts/report.py {results} --output {page}")
    viewport = '<meta name=viewport content="width=device-width, initial-scale=1">'
    parts = [
        f"<!doctype html><meta charset=utf-8>{viewport}<title>{html.escape(str(results))}</title>",
        f"<style>{STYLE}</style><h1>Results of {html.escape(str(results))}</h1>",
        f"<p class=note>{html.escape(found.summary)}. Means ± deviations over seeds, in per cent; bold: best.</p>",
        notes_html(list(dict.fromkeys(found.notes))),
        f"<pre>{command}</pre><h2>Tables</h2>",
        *(table_html(table) for table in made),
        "<h2>Pictures</h2>",
        *images,
        origin_html(found.records),
    ]
    page.write_text("\n".join(parts), encoding="utf-8")
    return len(images)


def report(results: Path, page: Path, models: Sequence[Path] = (), data: str | None = None) -> int:
    """Write the report of a results folder; gives the exit status, 1 where there is no record."""
    found = collect(results)
    if not found.records:
        print(f"There is no record of a test below {results}.", file=sys.stderr)
        return 1
    number = write_report(found, results, page, models, data)
    print(f"{page} has the tables and {number} pictures, which are also in {page.with_suffix('')}/")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where there is no record, 2 for wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--output", type=Path, default=Path("report.html"))
    parser.add_argument("--models", nargs="+", type=Path, default=[], help="training runs to look into")
    parser.add_argument("--data", help="folder of the data sets, for --models; default: that of the run")
    args = parser.parse_args(argv)

    def work() -> int:
        import_modules(args.modules)
        return report(args.results, args.output, args.models, args.data)

    return exit_status(work)
