"""The one maker of tables of text, and how a mean is written."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Sequence

from minidassl.own.text import printable

from tabulate import tabulate

MISSING = "–"
# The format of tabulate, and what stands around bold text.
STYLES = {"text": ("plain", "", "*"), "markdown": ("github", "**", "**"), "latex": ("latex_raw", r"\textbf{", "}")}
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}
LATEX |= {character: rf"\{character}" for character in "&%$#_{}"} | {"<": r"$<$"}
ESCAPES = {"text": {}, "markdown": {"|": r"\|", "<": "&lt;"}, "latex": LATEX}
# Mark bold text until cells are escaped; characters of the private use area, which no cell holds.
BOLD = ("\ue000", "\ue001")
RULE: tuple[str, ...] = ()  # a row of a table as text that is drawn as a line
LONGEST_NAME = 30  # of a row in a narrow table, before it is wrapped


def bold(text: str) -> str:
    return f"{BOLD[0]}{text}{BOLD[1]}"


def with_marks(cell: str, before: str, after: str) -> str:
    """A cell with these in place of the marks of `bold`."""
    return cell.replace(BOLD[0], before).replace(BOLD[1], after)


def escaped(text: str, style: str) -> str:
    """Text in one line, in which nothing has a meaning in the style; marks of `bold` stay."""
    return printable(text, keep="".join(BOLD)).translate(str.maketrans(ESCAPES[style]))


def lay_out(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    style: str = "text",
    right: bool = False,
    first: int | None = None,
) -> str:
    """A table as text, Markdown or LaTeX (booktabs), bold where marked; as text, with a line for a row that is `RULE`.

    Args:
        right: aligns numbers at their ends.
        first: the width in which longer names of rows are wrapped.
    """
    kind, before, after = STYLES[style]
    lines = [[with_marks(escaped(str(cell), style), before, after) for cell in row] for row in (headers, *rows)]
    options = dict(colalign=["left", *["right"] * (len(headers) - 1)] if right else None, disable_numparse=True)
    if style == "text":
        # A rule by hand: tabulate makes columns wider than their headers.
        rule = ["-" * max(map(len, column)) for column in zip(*filter(None, lines))]
        rule[0] = rule[0][:first]
        lines = [line or rule for line in (lines[0], [], *lines[1:])]
        return tabulate(lines, tablefmt=kind, maxcolwidths=first and [first], **options)
    body = tabulate(lines[1:], headers=lines[0], tablefmt=kind, **options)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule") if style == "latex" else ():
        body = body.replace(r"\hline", rule, 1)
    return body


def terminal_width() -> int:
    """In columns; 80 where the output is no terminal."""
    return shutil.get_terminal_size().columns


def is_within(text: str, width: int) -> bool:
    return all(len(line) <= width for line in text.splitlines())


def fitted(headers: Sequence[str], rows: Sequence[Sequence[object]], width: int, right: bool = False) -> str:
    """A table as text with less space in its cells; where it is still too wide in several, each with the names."""
    rows = [[str(cell).replace(" ± ", "±") for cell in row] for row in rows]

    def parts(most: int) -> list[str]:
        texts, start = [], 1
        while start < len(headers):
            # One column, at least.
            for end in range(min(start + most, len(headers)), start, -1):
                part = [[*line[:1], *line[start:end]] for line in (headers, *rows)]
                text = lay_out(part[0], part[1:], right=right, first=LONGEST_NAME)
                if is_within(text, width):
                    break
            texts.append(text)
            start = end
        return texts

    columns = len(headers) - 1
    # As many columns in each.
    return "\n\n".join(parts(math.ceil(columns / len(parts(columns)))))


def mean_and_spread(values: Sequence[float], sign: str = "±") -> str:
    """Mean ± population standard deviation, as the field reports it; without the latter for a single value."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} {sign} {statistics.pstdev(values):.2f}"
