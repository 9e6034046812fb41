"""One self-contained HTML page of a results folder: tables, pictures, configurations, and their commands.

    python scripts/report.py [RESULTS] [--output PAGE] [--models RUN ...]

Everything comes from the records of finished tests. The page is RESULTS/report.html, unless --output names another.
The pictures are also written as PNG and SVG, into a folder beside the page: accuracies of the methods, few-shot
curves, gains over zero-shot CLIP by class, and BMIP's gates by layer and over training. Of each RUN, the output folder
of a training run, scripts/look_inside.py draws the image features and the attention to prompts, for which it needs
checkpoint and data.
"""

from __future__ import annotations

import argparse
import base64
import html
import itertools
import math
import re
import statistics
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minidassl.own.files import write_whole
from minidassl.own.text import printable

import yaml
from tqdm import tqdm

from . import ROOT, inside
from .commands import exit_status, make_parser
from .methods import BASELINE, names
from .pictures import by_tower, pyplot, save, tower_title
from .protocols import TABLES
from .runs import check_file, check_folder, check_trained
from .store import EVERYTHING, Collection, Record, Selection, collect, grouped
from .tables.asked import add_selection, check_results, selected, without_records
from .tables.command import commands, in_parts
from .tables.results import FEW_SHOT, OPEN_WORLD, elsewhere, in_open_world
from .tables.table import Table, list_flags
from .tables.text import with_marks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (Okabe and Ito); a method has the same one in all pictures.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
LINES = ("-", "--", ":", "-.")
# Base, new and HM, which are no methods.
SHADES = ("#bdbdbd", "#737373", "#252525")
# A gate beyond these is called saturated: one of its two prompts hardly counts.
SATURATED = (0.05, 0.95)
MOST_CLASSES = 40
LONGEST_STEM = 120
STYLE = """
body { font-family: sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 0.85rem } .wide { overflow-x: auto; margin-bottom: 0.5rem }
caption { text-align: left; font-weight: bold; padding: 0.3rem 0.6rem }
.parts { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem } .parts > * { max-width: 100% } figure { margin: 0 0 1rem }
td, th { padding: 0.25rem 0.4rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: #fff }
img { max-width: 100% } .note { color: #666; font-size: 0.85rem; overflow-wrap: anywhere }
pre { background: #f4f4f4; padding: 0.7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem }
li > pre { margin: 0.2rem 0; padding: 0.3rem 0.7rem } ul { padding-left: 1.2rem }
summary { overflow-wrap: anywhere }
"""


def look(method: str) -> dict[str, str]:
    """Colour and line of a method, the same beside any others."""
    known = names()
    place = known.index(method) if method in known else len(known) + sum(map(ord, method))
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}


# A figure, what it shows, and the parts of the name of its files.
Picture = tuple["Figure", str, tuple[str, ...]]


def of_seeds(records: Iterable[Record]) -> list[tuple[tuple[str, str, str, str, str], list[Record]]]:
    """Method, data set, classes, shots and backbone, and their records."""

    def run(one: Record) -> tuple[str, str, str, str, str]:
        return one.method, one.data["dataset"], one.data["classes"], one.shots, one.backbone

    return sorted(grouped(records, run).items())


def over_seeds(what: str, *numbers: int) -> str:
    """Over how many seeds a mean is, or means are."""
    least, most = min(numbers), max(numbers)
    return f"{what} over {f'{least} to ' * (least < most)}{most} seeds" if most > 1 else "of 1 seed"


def is_bmip(record: Record) -> bool:
    """BMIP with any options, but without the recipes of its variants."""
    return record.data["trainer"] == "BMIP" and record.method not in elsewhere()


def accuracy_bars(found: Collection) -> Iterator[Picture]:
    """Base, new and HM of the methods on each data set, from the table in which most methods have it."""
    fullest: dict[tuple[str, str, str], Table] = {}
    for table in OPEN_WORLD.tables(found):
        for dataset in table.groups:
            key = table.title, table.backbone, dataset
            fullest[key] = max(fullest.get(key, table), table, key=lambda one: len(one.rows))
    for (title, backbone, dataset), table in fullest.items():
        shown = dict(zip(("base", "new", "HM"), SHADES))
        lines = {row: [line[dataset, name] for name in shown] for row, line in table.numbers.items()}
        lines = {row: line for row, line in lines.items() if None not in line}
        if not lines:
            continue
        figure, axes = pyplot().subplots(figsize=(6, 1.2 + 0.5 * len(lines)), layout="constrained")
        for number, (name, shade) in enumerate(shown.items()):
            means = [line[number].mean for line in lines.values()]
            # HM is of averages, and has no spread; nor have numbers that are the same for all seeds.
            errors = [line[number].spread or math.nan for line in lines.values()]
            places = [place + 0.27 * (number - 1) for place in range(len(lines))]
            axes.barh(places, means, 0.27, xerr=errors, capsize=2, label=name, color=shade, ecolor="#D55E00")
        axes.set_yticks(range(len(lines)), [*lines])
        axes.invert_yaxis()
        axes.set(xlabel="accuracy in per cent", xlim=(0, 100))
        axes.set_title(dataset, loc="left")
        axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        axes.grid(axis="x", alpha=0.3)
        seeds = over_seeds("mean and deviation", *(len(line[0].by_seed) for line in lines.values()))
        caption = f"{dataset}, {table.heading}: base, new, and their harmonic mean; {seeds}."
        yield figure, caption, ("accuracy", dataset, title.rpartition(", ")[2], backbone)


def few_shot_curves(found: Collection) -> Iterator[Picture]:
    """Accuracy by number of shots."""
    for table in FEW_SHOT.tables(found):
        shots = {group: int(group.partition(" ")[0]) for group in table.groups}
        if len(shots) < 2:
            continue
        dataset = table.title.removeprefix("All classes of ").removeprefix("All classes, ")
        figure, axes = pyplot().subplots(figsize=(6, 4), layout="constrained")
        for number, (row, line) in enumerate(table.numbers.items()):
            cells = {shots[group]: cell for (group, _), cell in line.items() if cell}
            # Beside each other: error bars of the same place hide one another.
            places = [count * 1.05 ** (number - (len(table.rows) - 1) / 2) for count in cells]
            means, spreads = [cell.mean for cell in cells.values()], [cell.spread for cell in cells.values()]
            axes.errorbar(places, means, spreads, marker="o", capsize=3, label=row, **look(row))
        axes.set_xscale("log", base=2)
        axes.set_xticks([*shots.values()], [str(count) for count in shots.values()])
        axes.set(title=dataset, xlabel="training images per class", ylabel="accuracy in per cent")
        axes.legend()
        axes.grid(alpha=0.3)
        numbers = [len(cell.by_seed) for line in table.numbers.values() for cell in line.values() if cell]
        seeds = over_seeds("mean and deviation", *numbers)
        caption = f"Few-shot accuracy on {dataset}, {table.backbone}: {seeds}."
        yield figure, caption, ("few_shot", dataset, table.backbone)


def class_gains(found: Collection) -> Iterator[Picture]:
    """Accuracy of each class among all classes, less that of zero-shot CLIP."""
    tested = in_open_world(found.records)
    for (method, dataset, _, shots, backbone), records in of_seeds(tested):
        same = {"trainer": BASELINE, "dataset": dataset, "backbone": records[0].data["backbone"]}
        plain = [record for record in tested if same.items() <= record.data.items()]
        if not is_bmip(records[0]) or not plain:
            continue
        ours, theirs = class_accuracies(records), class_accuracies(plain)
        base = [*ours][: (len(ours) + 1) // 2]
        gains = {name: ours[name] - theirs[name] for name in ours.keys() & theirs.keys()}
        ordered = sorted(gains, key=lambda name: (gains[name], name))
        if len(ordered) > MOST_CLASSES:
            ordered = ordered[: MOST_CLASSES // 2] + ordered[-MOST_CLASSES // 2 :]
        title = f"{method} on {dataset}, {shots}, {backbone}"
        figure, axes = pyplot().subplots(figsize=(6, 1.2 + 0.2 * len(ordered)), layout="constrained")
        shades = [SHADES[0] if name in base else SHADES[1] for name in ordered]
        axes.barh(range(len(ordered)), [gains[name] for name in ordered], color=shades)
        axes.set_yticks(range(len(ordered)), ordered, fontsize=7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=title, xlabel="gain in points over zero-shot CLIP, among all classes")
        keys = [pyplot().Rectangle((0, 0), 1, 1, color=shade) for shade in SHADES[:2]]
        axes.legend(handles=keys, labels=["base", "new"])
        shown = f" (the {MOST_CLASSES} of {len(gains)} classes at both ends)" if len(gains) > MOST_CLASSES else ""
        seeds = over_seeds("mean", len(records))
        caption = f"{title}: gain of each class over zero-shot CLIP in the open world, {seeds}{shown}."
        yield figure, caption, ("gains", method, dataset, shots, backbone)


def class_accuracies(records: Sequence[Record]) -> dict[str, float]:
    """By class name, mean over the records, in per cent, in the order of the labels."""
    found = defaultdict(list)
    for record in records:
        for entry in record.data["per_class"] or ():
            found[entry["name"]].append(100 * entry["correct"] / max(1, entry["images"]))
    return {name: statistics.fmean(values) for name, values in found.items()}


def gates_by_layer(found: Collection) -> Iterator[Picture]:
    """The gates of each tower and layer: spread over images and classes, and over seeds."""
    tested = [record for record in in_open_world(found.records) if is_bmip(record) and record.data.get("gates")]
    for (method, dataset, _, shots, backbone), records in of_seeds(tested):
        title = f"{method} on {dataset}, {shots}, {backbone}"
        figure, both = by_tower(title, ylabel="weight of the layer's own prompts")
        for tower, axes in both.items():
            for number, record in enumerate(records):
                gates = [row for row in record.data["gates"] if row["tower"] == tower]
                layers, means, spreads = ([row[key] for row in gates] for key in ("layer", "mean", "std"))
                places = [layer + 0.08 * (number - (len(records) - 1) / 2) for layer in layers]
                ends = [[abs(row[key] - row["mean"]) for row in gates] for key in ("min", "max")]
                axes.errorbar(places, means, ends, fmt="none", ecolor="#bbbbbb", elinewidth=1)
                axes.errorbar(places, means, spreads, fmt="o", markersize=4, capsize=2, color=look(method)["color"])
            for start, end in ((0, SATURATED[0]), (SATURATED[1], 1)):
                axes.axhspan(start, end, color="#D55E00", alpha=0.15)
            axes.set(title=tower_title(tower, ":"), xlabel="layer", xticks=layers, ylim=(0, 1))
            axes.grid(axis="y", alpha=0.3)
        caption = (
            f"Gates of {title}, one mark a seed: mean, standard deviation (coloured) and range (grey) over classes or "
            "images. Shaded: saturated."
        )
        yield figure, caption, ("gates", method, dataset, shots, backbone)


def gates_in_training(found: Collection) -> Iterator[Picture]:
    trained = [record for record in found.records if record.data["trained"] and record.data.get("gate_history")]
    for (method, dataset, classes, shots, backbone), records in of_seeds(filter(is_bmip, trained)):
        title = f"{method} on {dataset}, {classes} classes, {shots}, {backbone}"
        figure, both = by_tower(title, "mean gate of the last batch")
        for tower, axes in both.items():
            gates = [name for name in records[0].data["gate_history"][0] if name.startswith(tower)]
            # From dark to light by depth, as many as there are.
            shades = pyplot().get_cmap("viridis")([place / max(1, len(gates)) for place in range(len(gates))])
            for shade, name in zip(shades, gates):
                for number, record in enumerate(records):
                    values = [epoch[name] for epoch in record.data["gate_history"]]
                    label = f"layer {name.split()[1]}" if number == 0 else None
                    axes.plot(range(1, len(values) + 1), values, color=shade, label=label, linewidth=1)
            axes.set(title=tower, xlabel="epoch")
            axes.grid(alpha=0.3)
        figure.legend(*both["vision"].get_legend_handles_labels(), loc="outside right center", frameon=False)
        caption = f"Gates of {title}, while it trains: one line a seed and layer."
        yield figure, caption, ("gates_training", method, dataset, classes, shots, backbone)


def notes_html(notes: Sequence[str]) -> str:
    items = []
    for note in notes:
        text, _, command = note.partition("\n")
        items.append(f"<li>{html.escape(text)}{f':<pre>{html.escape(command)}</pre>' if command else ''}</li>")
    return f"<ul class=note>{''.join(items)}</ul>" if notes else ""


def table_html(table: Table, anchor: str) -> str:
    """A table, for each data set one; best means are bold, and marked first, because cells are escaped afterwards."""

    def line(tag: str, row: Sequence[str]) -> str:
        cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        return f"<tr>{with_marks(cells, '<b>', '</b>')}</tr>"

    parts = []
    for name, headers, rows in in_parts(table):
        body = "\n".join([line("th", [table.first, *headers]), *(line("td", row) for row in rows)])
        caption = f"<caption>{html.escape(name)}</caption>" if name else ""
        parts.append(f"<div class=wide><table>{caption}\n{body}\n</table></div>")
    notes = notes_html([*table.notes(), *(f"filled by\n{command}" for command in commands(table))])
    heading = f"<h3 id={anchor}>{html.escape(table.heading)}</h3>"
    return f"{heading}\n<div class=parts>{''.join(parts)}</div>{notes}"


def origin_html(records: Sequence[Record]) -> str:
    """Versions; and of each method and data set the commands, and the configuration of its first training."""
    environments = {yaml.safe_dump(record.data["environment"]) for record in records}
    parts = [
        "<h2 id=origin>Where it comes from</h2>",
        *(f"<pre>{html.escape(text)}</pre>" for text in sorted(environments)),
    ]
    by_model = grouped(records, lambda record: (record.method, record.learned["dataset"]))
    for (method, dataset), some in sorted(by_model.items()):
        ordered = sorted(some, key=lambda record: (not record.data["trained"], record.seed, str(record.path)))
        title = html.escape(f"{method} on {dataset}: {len(some)} runs")
        commands = html.escape("\n".join(record.command for record in ordered))
        configuration = html.escape(yaml.safe_dump(ordered[0].data["configuration"]))
        parts.append(f"<details><summary>{title}</summary><pre>{commands}</pre><pre>{configuration}</pre></details>")
    return "\n".join(parts)


def file_stem(text: str) -> str:
    """Letters, digits and underscores; of a long text the beginning, and a hash of all of it."""
    stem = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return (
        stem
        if len(stem) <= LONGEST_STEM
        else f"{stem[:LONGEST_STEM]}_{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
    )


def print_report(
    results: Path,
    page: Path,
    models: Sequence[Path] = (),
    data: str | None = None,
    names: Sequence[str] = tuple(TABLES),
    selection: Selection = EVERYTHING,
) -> int:
    """Write the page and the pictures of a results folder; gives the exit status, 1 where there is no record.

    Args:
        names: of the tables.
    """
    for run in models:
        check_trained(run, data)
    check_file(page)
    check_folder(page.with_suffix(""))
    found = collect(results, selection)
    if not found.records:
        print(*map(printable, without_records(results, found)), sep="\n", file=sys.stderr)
        return 1
    looks = [
        (figure, f"{run}: {caption}", (name, *run.parts[-6:]))
        for run in tqdm(models, desc="models")
        for name, (figure, caption) in inside.look([run], data).figures.items()
    ]
    made = [table for name in names for table in TABLES[name].tables(found)]
    tables = {f"table{number}": table for number, table in enumerate(made)}
    folder, images = page.with_suffix(""), []
    folder.mkdir(parents=True, exist_ok=True)
    drawn = (draw(found) for draw in (accuracy_bars, few_shot_curves, class_gains, gates_by_layer, gates_in_training))
    # One after another: each picture is drawn, saved and closed before the next.
    for figure, caption, name in tqdm(itertools.chain(*drawn, looks), desc="pictures"):
        png, _ = save(figure, folder, file_stem("_".join(name)))
        pyplot().close(figure)
        encoded, caption = base64.b64encode(png.read_bytes()).decode(), html.escape(caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{encoded}">'
        images.append(f"<figure>{image}\n<figcaption class=note>{caption}</figcaption></figure>")
    lists = dict(methods=selection.methods, datasets=selection.datasets, seeds=map(str, selection.seeds))
    flags = list_flags(**lists, protocols=() if {*names} == {*TABLES} else names)
    asked = " ".join([str(results), *flags])
    command = html.escape(f"python scripts/tables.py {asked}\npython scripts/report.py {asked} --output {page}")
    headings = {anchor: table.heading for anchor, table in tables.items()}
    headings |= {"pictures": f"{len(images)} pictures", "origin": "versions, commands and configurations"}
    contents = [f"<li><a href=#{anchor}>{html.escape(text)}</a></li>" for anchor, text in headings.items()]
    viewport = '<meta name=viewport content="width=device-width, initial-scale=1">'
    parts = [
        f"<!doctype html><meta charset=utf-8>{viewport}<title>{html.escape(str(results))}</title>",
        f"<style>{STYLE}</style><h1>Results of {html.escape(str(results))}</h1>",
        f"<p class=note>{html.escape(found.summary)}. Means ± deviations over seeds, in per cent; bold: best.</p>",
        notes_html(list(dict.fromkeys(found.notes))),
        f"<pre>{command}</pre><ul>{''.join(contents)}</ul><h2>Tables</h2>",
        *(table_html(table, anchor) for anchor, table in tables.items()),
        "<h2 id=pictures>Pictures</h2><div class=parts>",
        *images,
        "</div>",
        origin_html(found.records),
    ]
    write_whole(page, printable("\n".join(parts), keep="\n"))
    print(f"{page} has the tables and {len(images)} pictures, which are also in {folder}/")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 where there is no record, 2 for wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--output", type=Path, metavar="PAGE", help="default: report.html in RESULTS")
    parser.add_argument("--models", nargs="+", type=Path, default=[], help="training runs to look into")
    parser.add_argument("--data", help="folder of the data sets, for --models; default: that of the run")
    add_selection(parser)
    return exit_status(report, parser.parse_args(argv))


def report(args: argparse.Namespace) -> int:
    """Raises InputError for names that there are not."""
    selection, names = selected(args)
    check_results(args.results)
    return print_report(
        args.results, args.output or args.results / "report.html", args.models, args.data, names, selection
    )
