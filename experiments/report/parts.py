"""Pieces of the page: tables with BMIP set off, notes, folded commands, and figures in a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..tables.command import commands, in_parts
from ..tables.table import Table
from ..tables.text import MISSING, with_marks
from .looks import kin
from .scores import Best, Score
from .shown import Shown


@dataclass(frozen=True)
class Section:
    """A part of the page with its place in the contents; those of level 3 are below the last one of level 2."""

    anchor: str
    title: str
    body: str
    level: int = 2

    def html(self, shown: Shown) -> str:
        heading = f"<h{self.level} id={self.anchor}>{shown.html(self.title)}</h{self.level}>"
        return f"<section>{heading}\n{self.body}\n</section>"


def badge(row: str, shown: Shown) -> str:
    """The name of a method, with BMIP's colour where it is one of its kin."""
    return f'<span class="badge {kin(row)}">{shown.html(row)}</span>'


def row_head(name: str, shown: Shown) -> str:
    """A row's name, which wraps where it is long."""
    return f"<span class=row>{shown.html(name)}</span>"


def folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def code(text: str, shown: Shown) -> str:
    return f"<pre>{shown.html(text)}</pre>"


def notes(some: Sequence[str], shown: Shown) -> str:
    """Notes, whose second lines are commands, which are folded away."""
    items = []
    for note in some:
        text, _, command = note.partition("\n")
        items.append(f"<li>{shown.html(text)}{folded('command', code(command, shown)) if command else ''}</li>")
    return f"<ul class=note>{''.join(items)}</ul>" if items else ""


def number(cell: str, shown: Shown) -> str:
    """The content of a cell: its deviation in smaller type, its best mean bold."""
    mean, sign, rest = shown.html(cell).partition(" ± ")
    rest = f"<span class=dev> ± {rest}</span>" if sign else ""
    return with_marks(mean, "<b>", "</b>") + rest


def grid(
    headers: Sequence[str], lines: Iterable[str], label: str, shown: Shown, caption: str = "", texts: int = 1
) -> str:
    """A table of rows that are HTML; it scrolls in its own box where it is too wide.

    Args:
        label: for readers who do not see it.
        texts: how many columns hold text, before those with numbers.
    """
    kinds = ["text"] * texts + ["number"] * (len(headers) - texts)
    head = "".join(f"<th scope=col class={kind}>{shown.html(text)}</th>" for kind, text in zip(kinds, headers))
    rows = "\n".join(lines)
    caption = f"<caption>{shown.html(caption)}</caption>" if caption else ""
    table = f"<table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'<div class=wide tabindex=0 role=region aria-label="{shown.html(label)}">{table}</div>'


def table(of: Table, shown: Shown) -> str:
    """A table, one for each data set; best means are bold."""
    parts = []
    for name, headers, rows in in_parts(of):
        lines = []
        for row in rows:
            method = row[0].rpartition(" (n=")[0] or row[0]
            cells = "".join(f"<td>{number(cell, shown)}</td>" for cell in row[1:])
            lines.append(f'<tr class="{kin(method)}"><th scope=row>{row_head(row[0], shown)}</th>{cells}</tr>')
        parts.append(grid([of.first, *headers], lines, f"{of.heading} {name}", shown, name))
    count = len(of.seeds)
    of_seeds = f"n = {count}, mean ± standard deviation over seeds" if count > 1 else "n = 1, no deviation"
    filled = "\n".join(commands(of))
    command = folded("Commands of its runs", code(filled, shown)) if filled else ""
    return (
        f"<p class=note>{of_seeds}; bold: best.</p><div class=parts>{''.join(parts)}</div>"
        f"{notes(of.notes(), shown)}{command}"
    )


def summary(found: Sequence[Best], shown: Shown) -> str:
    """A line for each protocol, data set and measure."""

    def cell(score: Score | None) -> str:
        return number(score.text(), shown) if score else MISSING

    headers = ["protocol", "on", "measure", "best", "its value", "n", "BMIP", "zero-shot CLIP"]
    lines = []
    for best in found:
        names = ", ".join(badge(row, shown) for row in best.rows)
        words = [shown.html(word) for word in (best.protocol, best.group, best.measure)]
        texts = [row_head(best.protocol, shown), *words[1:], names]
        texts += [cell(best.best), str(best.best.n), cell(best.bmip), cell(best.plain)]
        kinds = ["text"] * 4 + ["number"] * 4
        # On a narrow page each line is a card, in which each cell has its header beside it.
        cells = (
            f'<td class={kind} data-label="{header}"><span>{text}</span></td>'
            for kind, header, text in zip(kinds, headers, texts)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    label = "best method of each protocol and data set"
    return f"<div class=cards>{grid(headers, lines, label, shown, texts=4)}</div>"


def figure(svg: str, title: str, caption: str, shown: Shown, level: int = 3) -> str:
    heading = f"<h{level}>{shown.html(title)}</h{level}>"
    return f"<figure>{heading}{svg}\n<figcaption>{shown.html(caption)}</figcaption></figure>"


def figures(some: Sequence[str]) -> str:
    return f"<div class=figures>{''.join(some)}</div>"
