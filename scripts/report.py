"""One self-contained HTML page of a results folder: tables, pictures, configurations, and the commands behind them.

    python scripts/report.py [RESULTS] [--output report.html]

Everything comes from the records of finished tests. The pictures are also written as PNG and SVG, into a folder beside
the page: accuracies of the methods, few-shot curves, gains over zero-shot CLIP by class, and BMIP's gates by layer and
over training.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import math
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
from matplotlib.figure import Figure
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables
from launch import METHODS, ROOT
from tables import Collection, PairedTable, Record, Table

# Colours that stay apart for colour-blind readers (Okabe and Ito), in the order in which they are given out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
# A gate beyond these is called saturated: one of its two prompts hardly counts.
SATURATED = (0.05, 0.95)
MOST_CLASSES = 40
# Characters of the private use area, which no cell holds.
BOLD = ("\ue000", "\ue001")
STYLE = """
body { font-family: sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 0.85rem } .wide { overflow-x: auto; margin-bottom: 1.5rem }
td, th { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left } img { max-width: 100% } .note { color: #666; font-size: 0.85rem }
pre { background: #f4f4f4; padding: 0.7rem; overflow-x: auto; font-size: 0.8rem }
"""


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its files and what it shows."""

    name: str
    caption: str
    figure: Figure


def by_seeds(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Records by method and data set."""
    groups = defaultdict(list)
    for record in records:
        groups[record.method, record.data["dataset"]].append(record)
    return groups


def open_world_records(found: Collection) -> list[Record]:
    """Tests of models of base classes, and of zero-shot CLIP, on all classes."""
    return [
        record
        for record in found.records
        if record.data.get("open_world")
        and (record.data.get("trained_on") or {"classes": "base"})["classes"] == "base"
    ]


def accuracy_bars(table: Table) -> Iterator[Picture]:
    """Base, new and HM of the methods on each data set."""
    names = ("base", "new", "HM")
    for dataset in table.groups:
        rows = [row for row in table.rows if row in METHODS and None not in table.means(row, dataset)[:3]]
        if not rows:
            continue
        figure, axes = plt.subplots(figsize=(max(5, 1.1 * len(rows)), 4), layout="constrained")
        for number, (name, colour) in enumerate(zip(names, COLOURS)):
            cells = [table.cells.get((row, dataset, name)) for row in rows]
            # HM is of averages, and has no spread; nor has what is the same for all seeds.
            errors = [(cell.spread or math.nan) if cell else math.nan for cell in cells]
            heights = [table.means(row, dataset)[number] for row in rows]
            places = [place + 0.27 * (number - 1) for place in range(len(rows))]
            axes.bar(places, heights, 0.27, yerr=errors, capsize=2, label=name, color=colour)
        axes.set_xticks(range(len(rows)), rows, rotation=30, ha="right")
        axes.set_ylabel("accuracy in per cent")
        axes.set_ylim(0, 100)
        axes.set_title(dataset, loc="left")
        axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        axes.grid(axis="y", alpha=0.3)
        caption = f"{table.title}, {dataset}: base, new, and their harmonic mean; mean and deviation over seeds."
        yield Picture(f"accuracy_{dataset}", caption, figure)


def few_shot_curves(found: Collection) -> Iterator[Picture]:
    """Accuracy by number of shots."""
    curves: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in found.records:
        data = record.data
        if data["trained"] and data["classes"] == "all":
            curves[data["dataset"]][record.method][data["shots"]].append(data["accuracy"])
    for dataset, methods in curves.items():
        shots = sorted({number for values in methods.values() for number in values})
        if len(shots) < 2:
            continue
        figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
        for colour, (method, values) in zip(COLOURS, sorted(methods.items())):
            there = [number for number in shots if number in values]
            means = [statistics.fmean(values[number]) for number in there]
            spreads = [statistics.pstdev(values[number]) for number in there]
            axes.errorbar(there, means, spreads, marker="o", capsize=3, label=method, color=colour)
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(number) for number in shots])
        axes.set_xlabel("training images per class")
        axes.set_ylabel("accuracy in per cent")
        axes.set_title(dataset)
        axes.legend()
        axes.grid(alpha=0.3)
        yield Picture(f"few_shot_{dataset}", f"Few-shot accuracy on {dataset}: mean and deviation over seeds.", figure)


def class_gains(found: Collection, method: str = "BMIP") -> Iterator[Picture]:
    """Accuracy of each class among all classes, less that of zero-shot CLIP."""
    groups = by_seeds(open_world_records(found))
    for (name, dataset), records in sorted(groups.items()):
        plain = groups.get(("ZeroshotCLIP", dataset))
        if name != method or not plain:
            continue
        classes = [entry["name"] for entry in records[0].data["per_class"]]
        gains = {}
        for label, title in enumerate(classes):
            ours, theirs = (
                statistics.fmean(
                    100
                    * record.data["per_class"][label]["correct"]
                    / max(1, record.data["per_class"][label]["images"])
                    for record in some
                )
                for some in (records, plain)
            )
            gains[title, label < (len(classes) + 1) // 2] = ours - theirs
        ordered = sorted(gains.items(), key=lambda item: item[1])
        if len(ordered) > MOST_CLASSES:
            ordered = ordered[: MOST_CLASSES // 2] + ordered[-MOST_CLASSES // 2 :]
        figure, axes = plt.subplots(figsize=(6, 1.2 + 0.2 * len(ordered)), layout="constrained")
        colours = [COLOURS[0] if is_base else COLOURS[1] for (_, is_base), _ in ordered]
        axes.barh(range(len(ordered)), [gain for _, gain in ordered], color=colours)
        axes.set_yticks(range(len(ordered)), [title for (title, _), _ in ordered], fontsize=7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel("gain in points over zero-shot CLIP, among all classes")
        axes.set_title(f"{method} on {dataset}")
        axes.legend(
            handles=[plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS[:2]], labels=["base", "new"]
        )
        shown = f" (the {MOST_CLASSES} of {len(gains)} classes at both ends)" if len(gains) > MOST_CLASSES else ""
        caption = (
            f"{method} on {dataset}: gain of each class over zero-shot CLIP in the open world, mean over seeds{shown}."
        )
        yield Picture(f"gains_{dataset}", caption, figure)


def gates(found: Collection) -> Iterator[Picture]:
    """The gates of each tower and layer: spread over images and classes, and over seeds; and over training."""
    for (method, dataset), records in sorted(by_seeds(open_world_records(found)).items()):
        if not method.startswith("BMIP") or not any(record.data.get("gates") for record in records):
            continue
        if method == "BMIP":
            yield gate_layers(method, dataset, records)
    histories = defaultdict(list)
    for record in found.records:
        if record.data["trained"] and record.method == "BMIP" and record.data.get("gate_history"):
            histories[record.data["dataset"], record.data["classes"]].append(record)
    for (dataset, classes), records in sorted(histories.items()):
        yield gate_training(dataset, classes, records)


def gate_layers(method: str, dataset: str, records: Sequence[Record]) -> Picture:
    figure, both = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
    for axes, tower, colour in zip(both, ("text", "vision"), COLOURS):
        layers = sorted({row["layer"] for record in records for row in record.data["gates"] if row["tower"] == tower})
        for number, record in enumerate(records):
            rows = {row["layer"]: row for row in record.data["gates"] if row["tower"] == tower}
            means, spreads = ([rows[layer][key] for layer in layers] for key in ("mean", "std"))
            places = [layer + 0.08 * (number - (len(records) - 1) / 2) for layer in layers]
            low, high = ([abs(rows[layer][key] - rows[layer]["mean"]) for layer in layers] for key in ("min", "max"))
            axes.errorbar(places, means, [low, high], fmt="none", ecolor="#bbbbbb", elinewidth=1)
            axes.errorbar(places, means, spreads, fmt="o", markersize=4, capsize=2, color=colour)
        for start, end in ((0, SATURATED[0]), (SATURATED[1], 1)):
            axes.axhspan(start, end, color="#D55E00", alpha=0.15)
        axes.set_title(f"{tower}: over {'classes' if tower == 'text' else 'images'}")
        axes.set_xticks(layers)
        axes.set_xlabel("layer")
        axes.set_ylim(0, 1)
        axes.grid(axis="y", alpha=0.3)
    both[0].set_ylabel("weight of the layer's own prompts")
    figure.suptitle(f"{method} on {dataset}")
    caption = (
        f"Gates of {method} on {dataset}, one mark a seed: mean, standard deviation (coloured) and range (grey) over "
        "classes or images. Shaded: saturated."
    )
    return Picture(f"gates_{dataset}", caption, figure)


def gate_training(dataset: str, classes: str, records: Sequence[Record]) -> Picture:
    figure, both = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
    for axes, tower in zip(both, ("text", "vision")):
        names = [name for name in records[0].data["gate_history"][0] if name.startswith(tower)]
        for colour, name in zip(COLOURS, names):
            for number, record in enumerate(records):
                values = [epoch[name] for epoch in record.data["gate_history"]]
                label = f"layer {name.split()[1]}" if number == 0 else None
                axes.plot(range(1, len(values) + 1), values, color=colour, label=label, linewidth=1)
        axes.set_title(tower)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    both[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    both[0].set_ylabel("mean gate of the last batch")
    figure.suptitle(f"BMIP on {dataset}, {classes} classes")
    caption = f"Gates of BMIP while it trains on {classes} classes of {dataset}, one line a seed and layer."
    return Picture(f"gates_training_{dataset}_{classes}", caption, figure)


def pictures(found: Collection) -> Iterator[Picture]:
    for table in tables.open_world(found):
        yield from accuracy_bars(table)
    yield from few_shot_curves(found)
    yield from class_gains(found)
    yield from gates(found)


def table_html(table: Table | PairedTable) -> str:
    """A table whose best means are bold; marked first, because the cells are escaped afterwards."""

    def line(tag: str, row: Sequence[str]) -> str:
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        return "<tr>" + cells.replace(BOLD[0], "<b>").replace(BOLD[1], "</b>") + "</tr>"

    headers, rows = table.grid(lambda text: f"{BOLD[0]}{text}{BOLD[1]}")
    body = "\n".join([line("th", headers), *(line("td", row) for row in rows)])
    return f"<h3>{html.escape(table.title)}</h3>\n<div class=wide><table>\n{body}\n</table></div>"


def origin_html(records: Sequence[Record]) -> str:
    """Versions, and the configuration of one run of each method."""
    environments = {yaml.safe_dump(record.data["environment"]) for record in records}
    parts = ["<h2>Where it comes from</h2>", *(f"<pre>{html.escape(text)}</pre>" for text in sorted(environments))]
    shown = {record.method: record for record in records if record.data["trained"]}
    for method, record in sorted(shown.items()):
        configuration = record.data["configuration"]
        node = {key: configuration[key] for key in ("TRAINER", "OPTIM", "DATALOADER", "MODEL") if key in configuration}
        text = html.escape(yaml.safe_dump(node))
        parts.append(
            f"<details><summary>{html.escape(method)}: {record.path.parent}</summary><pre>{text}</pre></details>"
        )
    return "\n".join(parts)


def write_report(results: Path, page: Path) -> int:
    """Write the page and the pictures; gives the number of pictures."""
    found = tables.collect(results)
    made = [table for make in tables.TABLES.values() for table in make(found)]
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for picture in tqdm(list(pictures(found)), desc="pictures"):
        for kind in ("png", "svg"):
            picture.figure.savefig(folder / f"{picture.name}.{kind}", dpi=120)
        content = io.BytesIO()
        picture.figure.savefig(content, format="png", dpi=120)
        plt.close(picture.figure)
        data, caption = base64.b64encode(content.getvalue()).decode(), html.escape(picture.caption)
        images.append(f'<img alt="{caption}" src="data:image/png;base64,{data}">\n<p class=note>{caption}</p>')
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in dict.fromkeys(found.notes))
    command = html.escape(f"python scripts/tables.py {results}\npython scripts/report.py {results} --output {page}")
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(str(results))}</title><style>{STYLE}</style>",
        f"<h1>Results of {html.escape(str(results))}</h1>",
        f"<p class=note>{len(found.records)} tests. Means ± deviations over seeds, in per cent; bold: best.</p>",
        f"<pre>{command}</pre><h2>Tables</h2>",
        *(table_html(table) for table in made),
        f"<ul class=note>{notes}</ul><h2>Pictures</h2>",
        *images,
        origin_html(found.records),
    ]
    page.write_text("\n".join(parts))
    return len(images)


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where there is no record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--output", type=Path, default=Path("report.html"))
    args = parser.parse_args(argv)
    if not tables.collect(args.results).records:
        print(f"There is no record of a test below {args.results}.", file=sys.stderr)
        return 1
    number = write_report(args.results, args.output)
    print(f"{args.output} has the tables and {number} pictures, which are also in {args.output.with_suffix('')}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
