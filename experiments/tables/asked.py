"""What a command for tables is asked for, and what it says where there is nothing to show."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from minidassl.own.text import words

from trainers.prompting.errors import InputError, nearest

from ..data import DOMAINS, file_name
from ..protocols import PLANS, PROTOCOL_OF, TABLES
from ..runs import parse_seeds
from ..store import Collection, Selection
from .table import reproduce_command


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The flags of `selected`: lists with blanks or commas."""
    add = parser.add_argument
    add("--methods", default="", help="rows: METHOD or METHOD:VARIANT, with their tags and settings")
    add("--datasets", default="", help="such as eurosat, or EuroSAT")
    add("--seeds", default="")
    add("--protocols", default="", help="of launch.py, such as open_world, or names of tables")


def selected(args: argparse.Namespace) -> tuple[Selection, list[str]]:
    """The records, and the names of the tables. Raises InputError for protocols and seeds that are none."""
    selection = Selection(
        tuple(words(args.methods)), tuple(words(args.datasets)), tuple(parse_seeds(args.seeds) if args.seeds else ())
    )
    protocols = chosen_tables("--protocols", words(args.protocols), lambda table: {table, PROTOCOL_OF[table]})
    return selection, protocols


def chosen_tables(flag: str, asked: Sequence[str], names_of: Callable[[str], set[str]]) -> list[str]:
    """The tables of which a name is asked for, with "-" or "_"; all of them where none are."""
    names = {table: {name.replace("_", "-") for name in names_of(table)} for table in TABLES}
    known = sorted(set().union(*names.values()))
    for name in asked:
        if name.replace("_", "-") not in known and os.path.isdir(name):
            raise InputError(f"{flag} has {name!r}, which is a folder; put it first: tables.py {name} {flag} ...")
        if name.replace("_", "-") not in known:
            raise InputError(f"{flag} has {name!r}. {nearest(name, known, 'tables.py --help')}")
    chosen = {name.replace("_", "-") for name in asked}
    return [table for table, some in names.items() if not chosen or not chosen.isdisjoint(some)]


def without_records(results: Path, found: Collection) -> list[str]:
    """Why no record can be shown, and what is there."""
    if not found.read:
        return [f"There is no record of a test below {results}."]
    there = {
        "methods": (":".join(filter(None, record.identity)) for record in found.read),
        "datasets": (record.dataset for record in found.read),
        "seeds": map(str, sorted(record.seed for record in found.read)),
    }
    lines = (f'    --{name} "{" ".join(dict.fromkeys(some))}"' for name, some in there.items())
    return [f"None of the {len(found.read)} records below {results} is asked for; there are", *lines]


def emptiness(table: str, found: Collection, is_asked: bool) -> str:
    """Why a table is empty, with a line of the command that fills it; without records, of one that is asked for."""
    asked, planned, why = found.selection, table, f"none of {len(found.records)} records is about {TABLES[table].help}"
    if table not in PLANS:
        planned = next(name for name, plan in PLANS.items() if plan.paired)
        why = "no variant has two seeds in common with its method"
    sets = [file_name(name) for name in asked.datasets]
    if "{source}" in TABLES[table].title:
        sets = [name for name in sets if name in DOMAINS]
    aim = f"the table {table} is empty{f': {why}' if found.records else ''}; to fill it"
    aim = aim if is_asked or found.records else f"to fill a table, such as {table}"
    built_in = "" if sets else f"""; --datasets "{" ".join(PLANS[planned].embedded)}" needs no data"""
    command = reproduce_command(planned, asked.methods, sets, asked.seeds)
    return f"{aim} (--dry-run lists the runs{built_in})\n{command}"


def check_results(results: Path) -> None:
    if not results.is_dir():
        first = "python scripts/launch.py base2new BMIP digits 1"
        raise InputError(f"There is no folder {results}; name that of the results, or fill output/ by a run: {first}")
