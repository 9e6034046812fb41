"""Tables from the records of finished runs, and from nothing else.

    python scripts/tables.py [RESULTS] [--table NAME ...] [--format text|markdown|latex|csv]

{tables}

Cells are means ± standard deviations (population) over seeds; the best mean of a column is marked with an asterisk or
set bold. The harmonic mean is that of the averages, as in the field's tables; "mean HM" is the average of the seeds'
own. Settings of a run that its configuration files do not have follow the method's name. A cell of fewer seeds than
others says so, base and new are compared with the seeds that both have, and missing, contradictory or mixed records
are listed, and never averaged in silence. CSV has one line for each number.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from minidassl.own.text import csv_cell, printable, words

from trainers.prompting.errors import check_name

from .. import ROOT
from ..commands import exit_status, make_parser
from ..protocols import TABLES, listed
from ..store import collect
from .table import Table
from .text import bold, escaped, lay_out

CSV_COLUMNS = ("table", "method", "group", "column", "mean", "std", "seeds", "p")
# Heading, and beginning of a note.
FRAMES = {"text": ("{}\n\n", "note: "), "markdown": ("### {}\n\n", "- "), "latex": ("% {}\n", "% ")}


def render(table: Table, style: str) -> str:
    """A table and its notes as text, Markdown, LaTeX (booktabs), or lines of CSV."""
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(csv_cell, [table.title, *line]) for line in table.lines())
        return text.getvalue()
    heading, mark = FRAMES[style]
    # Behind LaTeX's comment sign any character but a line's end may stand.
    plain = "text" if style == "latex" else style
    notes = [f"{mark}{escaped(note, plain)}\n" for note in table.notes()]
    blank = "\n" if notes and style != "latex" else ""
    return f"{heading.format(escaped(table.title, plain))}{lay_out(*table.grid(bold), style)}\n{blank}{''.join(notes)}"


def print_tables(results: Path, names: Sequence[str], style: str = "text") -> int:
    """Print tables of a results folder; gives the exit status, 1 where there is no record."""
    found = collect(results)
    tables = [table for name in names for table in TABLES[name].tables(found)]
    if style == "csv":
        print(",".join(CSV_COLUMNS))
    for table in tables:
        print(render(table, style), end="" if style == "csv" else "\n")
    of_tables = [f"{table.title}: {note}" for table in tables for note in table.notes()] if style == "csv" else []
    for note in (*of_tables, *dict.fromkeys(found.notes)):
        print(f"note: {printable(note)}", file=sys.stderr)
    print(printable(found.summary), file=sys.stderr)
    if not found.records:
        print(f"There is no record of a test below {results}.", file=sys.stderr)
    return 0 if found.records else 1


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 where there is no record, or 2 for wrong input."""
    parser = make_parser(__doc__.format(tables=listed(TABLES)))
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    text = f"of {', '.join(TABLES)}; default: all"
    parser.add_argument("--table", nargs="+", type=words, default=[[*TABLES]], metavar="TABLE", help=text)
    parser.add_argument("--format", choices=["text", "markdown", "latex", "csv"], default="text")
    args = parser.parse_args(argv)

    def make(args: argparse.Namespace) -> int:
        names = [check_name("--table", name, TABLES, "--help") for name in sum(args.table, [])]
        return print_tables(args.results, names, args.format)

    return exit_status(make, args)
