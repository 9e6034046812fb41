"""Tables from the records of finished runs, and from nothing else.

    python scripts/tables.py [RESULTS] [--table NAME ...] [--format text|markdown|latex|csv]
    python scripts/tables.py --methods "MaPLe BMIP" --datasets "eurosat dtd" --seeds "1 2 3" --protocols open_world

{tables}

Cells are means ± standard deviations (population) over seeds; the best mean of a column is marked with an asterisk or
set bold, among rows of the same seeds. The harmonic mean is that of the averages, as in the field's tables; "mean HM"
is the average of the seeds' own. Settings of a run that its configuration files do not have follow the method's name.
A cell of fewer seeds than others says so, base and new are of the seeds that both have, or one alone of all its seeds,
and missing, contradictory or mixed records are listed, and never averaged in silence. Averages are over the data sets
that all rows of a table have; built-in data sets, your own, the small CLIP and other numbers of shots have tables of
their own. A table that is wider than the terminal is printed in parts, one for each data set. CSV has one line for
each number.
"""

from __future__ import annotations

import argparse
import csv
import io
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from minidassl.own.text import csv_cell, printable, words

from trainers.prompting.errors import InputError

from .. import ROOT
from ..commands import IMPORTED, exit_status, make_parser
from ..methods import parse, row_name
from ..protocols import PROTOCOL_OF, TABLES, listed
from ..store import EVERYTHING, Record, Selection, collect, grouped
from .asked import add_selection, check_results, chosen_tables, emptiness, selected, without_records
from .results import PAIRED, PairedTable
from .table import PLANNED_SHOTS, Part, Table, beside, quoted
from .text import MISSING, bold, escaped, fitted, is_within, lay_out, terminal_width

CSV_COLUMNS = ("table", "method", "group", "column", "mean", "std", "seeds", "p")
# Heading, beginning of a note, and a command at its end.
FRAMES = {
    "text": ("{}\n\n", "note: ", "\n    {}"),
    "markdown": ("### {}\n\n", "- ", " `{}`"),
    "latex": ("% {}\n", "% ", " {}"),
}


def in_parts(table: Table) -> list[Part]:
    """A table in several, one for each data set, without empty rows; in one, where data sets have one column each."""
    parts = table.parts(bold, names_count=True)
    if all(len(headers) == 1 for _, headers, _ in parts):
        # The names of the groups are enough.
        return [("", [name for name, _, _ in parts], beside(rows for _, _, rows in table.parts(bold)))]
    is_empty = {MISSING, ""}.issuperset
    return [(name, headers, [row for row in rows if not is_empty(row[1:])]) for name, headers, rows in parts]


def narrow(table: Table, width: int) -> str:
    """A table as text within a width: in parts, where it is wider."""
    whole = lay_out(*table.grid(bold))
    if is_within(whole, width):
        return whole
    parts = [(name, [table.first, *headers], rows) for name, headers, rows in in_parts(table)]
    texts = [lay_out(headers, rows) for _, headers, rows in parts]
    if not all(is_within(text, width) for text in texts):
        texts = [fitted(headers, rows, width) for _, headers, rows in parts]
    return "\n\n".join(f"{printable(name)}\n" * bool(name) + text for (name, *_), text in zip(parts, texts))


def wrapped(text: str) -> str:
    """Within the terminal; what has no blanks stays whole."""
    options = dict(subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return textwrap.fill(text, terminal_width(), **options)


def note_text(note: str, style: str, mark: str) -> str:
    """A note; its second line, a command, stays one line that can be copied."""
    text, _, command = note.partition("\n")
    # Behind LaTeX's comment sign any character but a line's end may stand.
    text = mark + escaped(text, "text" if style == "latex" else style) + ":" * bool(command)
    text = wrapped(text) if style == "text" else text
    return text + (FRAMES[style][2].format(printable(command)) if command else "") + "\n"


def render(table: Table, style: str) -> str:
    """A table, its notes and its commands as text, Markdown, LaTeX (booktabs), or lines of CSV."""
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(csv_cell, [table.name, *line]) for line in table.lines())
        return text.getvalue()
    heading, mark, _ = FRAMES[style]
    title = escaped(table.heading, "text" if style == "latex" else style)
    title = heading.format(wrapped(title) if style == "text" else title)
    body = narrow(table, terminal_width()) if style == "text" else lay_out(*table.grid(bold), style)
    notes = [note_text(note, style, mark) for note in table.notes()]
    notes += [note_text(f"filled by\n{one}", style, mark.removeprefix("note: ")) for one in commands(table)]
    blank = "\n" if notes and style != "latex" else ""
    return f"{title}{body}\n{blank}{''.join(notes)}"


def commands(table: Table) -> list[str]:
    """Those of its runs: of reproduce.py, and for other shots and for tags of compare.py or launch.py."""

    def options(record: Record) -> tuple[str, ...] | None:
        tag, shots = record.data.get("tag"), record.shots  # with the backbone's, which is an experiment, too
        is_planned = shots == PLANNED_SHOTS or not table.needs_planned_shots
        if table.source or not (tag or record.method == record.plain_method) or (is_planned and not tag):
            return None
        pairs = [shlex.quote(str(word)) for pair in record.overrides.items() for word in pair]
        return (
            *(["--shots", shots.split()[0]] * (not is_planned)),
            *(["--tag", shlex.quote(record.tag)] if record.tag else ()),
            *(["--backbone", shlex.quote(record.data["backbone"])] if record.is_on_another else ()),
            *pairs,
        )

    imported = [*map(shlex.quote, IMPORTED)]
    found, protocol = [table.filled_by] if table.filled_by else [], PROTOCOL_OF[table.results.name]
    for some, records in grouped(table.records, options).items():
        keys = ((":".join(filter(None, one.identity)), one.dataset, one.seed) for one in records)
        methods, sets, seeds = ([*dict.fromkeys(map(str, values))] for values in zip(*keys))
        if some and protocol == "open_world":
            parts = (quoted(" ".join(values)) for values in (sets, seeds, methods))
            found.append(" ".join(["python scripts/compare.py", *parts, *imported, *some]))
        elif some:
            more = ["# and the others"] * (len(methods) * len(sets) * len(seeds) > 1)
            parts = protocol, *map(shlex.quote, (methods[0], sets[0], seeds[0]))
            found.append(" ".join(["python scripts/launch.py", *parts, *imported, *some, *more]))
    return found


def print_tables(
    results: Path,
    names: Sequence[str],
    style: str = "text",
    selection: Selection = EVERYTHING,
    explain: bool = False,
    against: str = "",
) -> int:
    """Print tables of a results folder; gives the exit status, 1 where there is none.

    Args:
        explain: whether each empty table is explained.
        against: a row that all others are compared with in the paired table; empty: each variant with its method.
    """
    found = collect(results, selection)
    compared = replace(PAIRED, kind=type(PairedTable.__name__, (PairedTable,), {"against": against}))
    by_name = {name: (compared if name == PAIRED.name else TABLES[name]).tables(found) for name in names}
    tables = [table for made in by_name.values() for table in made]
    if style == "csv":
        print(",".join(CSV_COLUMNS))
    for table in tables:
        print(render(table, style), end="" if style == "csv" else "\n")
    of_tables = [f"{table.name}: {note}" for table in tables for note in table.notes()] if style == "csv" else []
    empty = [name for name, made in by_name.items() if not made] if explain or not tables else []
    of_empty = [emptiness(name, found, explain) for name in empty[: len(names) if explain else 1]]
    for line in () if found.records else without_records(results, found):
        print(printable(line), file=sys.stderr)
    for note in (*of_tables, *dict.fromkeys(found.notes), *of_empty):
        print(note_text(note, "text", "note: "), end="", file=sys.stderr)
    print(wrapped(printable(found.summary)), file=sys.stderr)
    return 0 if tables else 1


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 where there is no table, or 2 for wrong input."""
    parser = make_parser(__doc__.format(tables=listed(TABLES)))
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--table", nargs="+", default=[], metavar="NAME")
    add_selection(parser)
    text = "paired: METHOD or METHOD:VARIANT that all rows are compared with; default: each variant with its method"
    parser.add_argument("--against", default="", metavar="METHOD", help=text)
    parser.add_argument("--format", choices=["text", "markdown", "latex", "csv"], default="text")
    return exit_status(tables_of, parser.parse_args(argv))


def tables_of(args: argparse.Namespace) -> int:
    """Raises InputError for names that there are not."""
    selection, of_protocols = selected(args)
    named = chosen_tables("--table", words(" ".join(args.table)), lambda table: {table})
    check_results(args.results)
    names = [name for name in of_protocols if name in named]
    if not names:
        raise InputError("--table and --protocols name no table in common; leave one of them out.")
    against = row_name(*parse(args.against)) if args.against else ""
    return print_tables(args.results, names, args.format, selection, bool(args.table), against)
