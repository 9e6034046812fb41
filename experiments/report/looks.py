"""Colours, lines and sizes of the report: BMIP is the one bright thing on the page."""

from __future__ import annotations

from ..methods import BASELINE, names, row_name
from ..pictures import BMIP_COLOUR

# Stacks of BMIP with another method.
STACK_COLOUR = "#E59866"
# Of the others: muted, apart for colour-blind readers by line and marker too, legible on light and on dark ground.
MUTED = ("#5B7DB1", "#4F9D8F", "#93853A", "#8C6BB1", "#6F7B86", "#A8709A", "#6A93BD", "#6F9150")
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "s", "^", "D", "v", "P", "X", "p")
NEUTRAL = "#7B848D"
# Matplotlib's settings. Figures are narrow, so that a page hardly scales their text down.
WIDTH = 4.0
SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.axisbelow": True,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
}


def kin(row: str) -> str:
    """Of a row: "bmip", "stack" (BMIP's variants, and BMIP with others), "plain" (zero-shot CLIP), or ""."""
    name, _, rest = row.partition(", ")
    if name == "BMIP":
        return "stack" if rest else "bmip"
    return "stack" if name.endswith("_BMIP") else "plain" if name == row_name(BASELINE) else ""


def look(row: str) -> dict[str, str]:
    """Colour, line and marker of a row, the same beside any others."""
    known = [row_name(name) for name in names()]
    place = known.index(row) if row in known else len(known) + sum(map(ord, row))
    colour = {"bmip": BMIP_COLOUR, "stack": STACK_COLOUR}.get(kin(row), MUTED[place % len(MUTED)])
    line = "-" if kin(row) == "bmip" else LINES[place // len(MUTED) % len(LINES)]
    return {"color": colour, "linestyle": line, "marker": MARKERS[place % len(MARKERS)]}
