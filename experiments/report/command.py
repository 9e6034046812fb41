"""One self-contained HTML page of a results folder: a summary, tables, figures, configurations, and their commands.

    python scripts/report.py [RESULTS] [--output PAGE] [--models RUN ...]

Everything comes from the records of finished tests. The page is RESULTS/report.html, unless --output names another.
The figures are also written as PNG and SVG, into a folder beside the page: accuracies of the methods, few-shot curves,
gains over zero-shot CLIP by class, and BMIP's gates by layer and over training. With --models, the output folders of
training runs, the page also shows the inside of these models, for which it needs checkpoints and data: images on
which the methods differ, image features, attention to prompts, gates by image, and the words nearest to the prompts.
docs/REPORT.md explains each part.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zlib
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from minidassl.own.files import write_whole
from minidassl.own.text import printable

from tqdm import tqdm

from .. import ROOT
from ..commands import exit_status, make_parser
from ..inside import look, together
from ..pictures import pyplot, save
from ..protocols import TABLES
from ..runs import check_file, check_folder, check_trained
from ..store import EVERYTHING, Selection, collect
from ..tables.asked import add_selection, check_results, selected, without_records
from .figures import Picture, drawn
from .looks import SETTINGS
from .models import inside_html
from .page import compose
from .parts import figure, figures
from .shown import Shown
from .svg import inline

LONGEST_STEM = 120


def file_stem(text: str) -> str:
    """Letters, digits and underscores; of a long text the beginning, and a hash of all of it."""
    stem = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return (
        stem
        if len(stem) <= LONGEST_STEM
        else f"{stem[:LONGEST_STEM]}_{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
    )


class Album:
    """Saves figures into a folder, closes them, and gives them as parts of the page."""

    def __init__(self, folder: Path, shown: Shown):
        self.folder, self.shown, self.count = folder, shown, 0

    def place(self, picture: Picture, level: int = 3) -> str:
        _, path = save(picture.figure, self.folder, file_stem("_".join(picture.name)))
        pyplot().close(picture.figure)
        self.count += 1
        words = self.shown.text(picture.title), self.shown.text(picture.caption)
        svg = inline(path.read_text(encoding="utf-8"), f"figure{self.count}", *words, self.shown)
        return figure(svg, picture.title, picture.caption, self.shown, level)


def print_report(
    results: Path,
    page: Path,
    models: Sequence[Path] = (),
    data: str | None = None,
    names: Sequence[str] = tuple(TABLES),
    selection: Selection = EVERYTHING,
) -> int:
    """Write the page and the figures of a results folder; gives the exit status, 1 where there is no record.

    Args:
        models: training runs to look into.
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
    tables = [table for name in names for table in TABLES[name].tables(found)]
    shown, folder, insides = Shown(results), page.with_suffix(""), []
    folder.mkdir(parents=True, exist_ok=True)
    album = Album(folder, shown)
    with pyplot().rc_context(SETTINGS):
        # One after another: each figure is drawn, saved and closed before the next.
        placed = [album.place(picture) for picture in tqdm(drawn(found), desc="figures")]
        for runs in tqdm(together(models), desc="models") if models else ():
            with redirect_stdout(io.StringIO()):  # how each model is loaded
                inside = look(runs, data)
            insides.append((inside.dataset, inside_html(inside, lambda one: album.place(one, 5), shown)))
    where = "" if page == results / "report.html" else page.name
    text = compose(found, tables, figures(placed) if placed else "", insides, shown, names, where)
    write_whole(page, text)
    print(f"{page} has the tables and {album.count} figures, which are also in {folder}/")
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
