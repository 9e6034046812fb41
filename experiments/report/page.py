"""The whole page: title, contents, summary, tables, figures, models, and the origin of it all."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

from minidassl.own.text import printable

from ..methods import names as methods_in_order
from ..methods import row_name
from ..pictures import BMIP_COLOUR
from ..protocols import TABLES
from ..store import Collection, Record
from ..tables.table import Table, list_flags
from .looks import STACK_COLOUR
from .origin import origins, versions
from .parts import Section, code, folded, notes, summary, table
from .scores import bests
from .shown import Shown

MOST_NAMES = 4  # in a title


def listed(names: Sequence[str], kind: str) -> str:
    """Names as a part of a sentence; of many their number."""
    if len(names) > MOST_NAMES:
        return f"{len(names)} {kind}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def distinct(values: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(values)]


def written(records: Sequence[Record]) -> str:
    """The days on which records were written."""
    days = sorted(datetime.date.fromtimestamp(record.path.stat().st_mtime) for record in records)
    first, last = days[0].isoformat(), days[-1].isoformat()
    return first if first == last else f"{first} to {last}"


def head(found: Collection, shown: Shown) -> tuple[str, str]:
    """The page's title, and what, which backbone, which data, which seeds, and when."""
    records = found.records
    there = {record.method for record in records}
    known = [row for row in map(row_name, methods_in_order()) if row in there]
    methods = known + sorted(there - {*known})
    datasets = sorted({record.data["dataset"] for record in records})
    title = f"{listed(methods, 'methods')} on {listed(datasets, 'data sets')}"
    seeds = sorted({record.seed for record in records})
    facts = {
        "Methods": ", ".join(methods),
        "Backbone": ", ".join(sorted({record.backbone for record in records})),
        "Data": ", ".join(datasets),
        "Training": ", ".join(distinct(record.shots for record in records)) + " per class",
        "Seeds": f"{', '.join(map(str, seeds))} (n = {len(seeds)})",
        "Recorded": written(records),
        "Records": f"{found.summary}, from {shown.results}/",
    }
    lines = "".join(f"<dt>{key}</dt><dd>{shown.html(value)}</dd>" for key, value in facts.items())
    kicker = "<p class=kicker>Prompt learning for CLIP</p>"
    return title, f"<header>{kicker}<h1>{shown.html(title)}</h1><dl class=facts>{lines}</dl></header>"


def contents(sections: Sequence[Section], shown: Shown) -> str:
    items, inner = [], []
    for section in [*sections, None]:
        if section is not None and section.level > 2:
            inner.append(f'<li><a href="#{section.anchor}">{shown.html(section.title)}</a></li>')
            continue
        if items and inner:
            items[-1] = items[-1].replace("</li>", f"<ul>{''.join(inner)}</ul></li>")
            inner = []
        if section is not None:
            items.append(f'<li><a href="#{section.anchor}"><strong>{shown.html(section.title)}</strong></a></li>')
    return f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'


def opening(found: Collection, tables: Sequence[Table], shown: Shown) -> str:
    """The summary: the best methods, and how to read them."""
    lines = bests(tables)
    seeds = {record.seed for record in found.records}
    told = (
        "Mean ± standard deviation over n seeds, in per cent; HM is the harmonic mean of base and new accuracy, with "
        "the deviation of the seeds' own. The best mean is among methods with the same seeds."
    )
    single = "With one seed there is no deviation (n = 1): small differences may be chance."
    text = told if len(seeds) > 1 else f"{told} {single}"
    body = summary(lines, shown) if lines else "<p>No table compares methods.</p>"
    return f"{body}<p class=note>{text}</p>{notes(distinct(found.notes), shown)}"


def compose(
    found: Collection,
    tables: Sequence[Table],
    figures: str,
    insides: Sequence[tuple[str, str]],
    shown: Shown,
    names: Sequence[str],
    page: str,
) -> str:
    """The page's text.

    Args:
        figures: those from records.
        insides: those of models, with the names of their data sets.
        names: of the tables that are asked for.
        page: the name of the page's file, where it is not the usual one.
    """
    title, header = head(found, shown)
    sections = [Section("summary", "Summary", opening(found, tables, shown))]
    sections.append(Section("tables", "Tables", "<p class=note>Accuracies in per cent.</p>"))
    sections += [Section(f"table{number}", one.heading, table(one, shown), 3) for number, one in enumerate(tables)]
    if figures:
        sections.append(Section("figures", "Figures", figures))
    if insides:
        sections.append(Section("models", "Inside the models", ""))
        sections += [Section(f"models{n}", name, body, 3) for n, (name, body) in enumerate(insides)]
    selection = found.selection
    lists = dict(methods=selection.methods, datasets=selection.datasets, seeds=map(str, selection.seeds))
    asked = [shown.results, *list_flags(**lists, protocols=() if {*names} == {*TABLES} else names)]
    output = ["--output", page] if page else []
    commands = [["tables.py", *asked], ["report.py", *asked, *output]]
    command = code("\n".join(" ".join(["python", f"scripts/{words[0]}", *words[1:]]) for words in commands), shown)
    origin = [versions(found.records, shown), folded("Commands of this page", command), origins(found.records, shown)]
    sections.append(Section("origin", "Versions, commands, configurations", "\n".join(origin)))
    colours = f":root {{ --bmip: {BMIP_COLOUR}; --stack: {STACK_COLOUR} }}"
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        "<html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{shown.html(title)}</title>",
        f"<style>{colours}\n{style}</style></head><body>",
        header,
        contents(sections, shown),
        f"<main>{''.join(section.html(shown) for section in sections)}</main></body></html>",
    ]
    return printable("\n".join(parts), keep="\n")
