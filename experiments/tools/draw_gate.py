"""Draw the gates of one layer of a trained BMIP, with their values in that run, docs/gate.svg.

    python scripts/launch.py base2new_train BMIP icons 1
    python scripts/tools/draw_gate.py output/base2new/train_base/icons/shots_16/BMIP/tiny_icons/seed1

The first command makes the run. The distributions are of the gates of all classes and test images; the images and
classes are those with the highest and the lowest gates.
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from .. import ROOT
from ..commands import exit_status, make_parser
from ..pictures import BMIP_COLOUR

if TYPE_CHECKING:
    import numpy as np

    from ..models import Sight

WIDTH, HEIGHT = 900, 580
TEXT, VISION = "text", "vision"
# Line and ground of each tower; the ground of gates; ink, quiet ink, and lines of the card.
LINE = {TEXT: "#0072B2", VISION: "#00795A"}
GROUND = {TEXT: "#e1eff8", VISION: "#ddf2ea"}
GATE_GROUND, INK, QUIET, BORDER = "#fdeadf", "#1f2328", "#59636e", "#d0d7de"
# The paper's letters.
LETTER, OTHER = {TEXT: "l", VISION: "v"}, {TEXT: VISION, VISION: TEXT}
BINS, ENDS, MOST_PROMPTS = 40, 2, 2


def text(
    x: float, y: float, content: str, size: int = 18, anchor: str = "middle", colour: str = INK, **more: str
) -> str:
    """A line of text; its content is SVG, in which names are escaped."""
    others = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{others}>{content}</text>'
    )


def symbol(letter: str, below: str = "", prime: bool = False) -> str:
    """A letter with a subscript."""
    found = f'<tspan font-style="italic">{letter}</tspan>{"′" if prime else ""}'
    return f'{found}<tspan font-size="70%" dy="5">{below}</tspan><tspan dy="-5">\u200b</tspan>' if below else found


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="6" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'


def arrow(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False) -> str:
    path = " ".join(f"{'L' if number else 'M'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    end = f'marker-end="url(#to-{colour[1:]})"'
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"{dashes} {end}/>'


def marker(colour: str) -> str:
    """The head of the arrows of a colour."""
    size = 'viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse"'
    return f'<marker id="to-{colour[1:]}" {size} orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'


def lane(tower: str, layer: int, length: int, down: bool) -> list[str]:
    """The prompts of a tower, their gate, and the tokens that enter the layer; `down`: these are at the bottom."""

    def y(place: float, height: float = 0) -> float:
        return HEIGHT - place - height if down else place

    line, ground, own, other = LINE[tower], GROUND[tower], LETTER[tower], LETTER[OTHER[tower]]
    prompts = ["P"] * length
    cells = ["SOS", *prompts, "words of the class", "EOT"] if tower == TEXT else ["CLS", "patches", *prompts]
    widths = [{"P": 52, "words of the class": 200, "patches": 300}.get(cell, 62) for cell in cells]
    parts = [text(24, y(32, -12), f"{tower} encoder, layer {layer}", 20, "start", line, font_weight="bold")]
    left, slots = 24, []
    for cell, width in zip(cells, widths):
        is_prompt = cell == "P"
        colours = (GATE_GROUND, BMIP_COLOUR) if is_prompt else (ground, line)
        parts.append(box(left, y(48, 40), width, 40, *colours))
        parts.append(text(left + width / 2, y(68) + 6, symbol("P", own, prime=True) if is_prompt else cell))
        slots += [left + width / 2] * is_prompt
        left += width + 4
    enter, mean = y(88), sum(slots) / len(slots)
    parts += [box(24, y(150, 50), 176, 50, ground, line), text(112, y(175) + 6, f"{tower} prompts {symbol('P', own)}")]
    parts.append(box(236, y(138, 74), 330, 74, GATE_GROUND, BMIP_COLOUR))
    projected = symbol("P", f"{other}→{own}")
    weight = symbol("w", own)
    mixed = f"{symbol('P', own, prime=True)} = {weight} {symbol('P', own)} + (1 − {weight}) {projected}"
    parts.append(text(401, y(175) - 9, mixed, 20))
    parts.append(text(401, y(175) + 22, f"{weight} = σ(scale · {symbol('a', own)} + bias)", 18, colour=BMIP_COLOUR))
    parts.append(arrow([(200, y(175)), (235, y(175))], line))
    # The readers' attention goes into the gate on one side of the prompts' way out.
    out, reader, into = (262, 302, 430) if tower == TEXT else (mean, 240, 300)
    parts.append(arrow([(out, y(138)), (out, y(113)), (mean, y(113)), (mean, enter)], BMIP_COLOUR))
    parts.append(arrow([(reader, enter), (reader, y(113)), (into, y(113)), (into, y(138))], QUIET, dashed=True))
    place = dict(x=440, anchor="start") if tower == TEXT else dict(x=230, anchor="end")
    parts.append(text(y=y(113) + 6, content=f"attention {symbol('a', own)}", colour=QUIET, **place))
    return parts


def heads() -> list[str]:
    """The projections, each from the prompts of a tower to the other tower's gate."""
    parts, middle = [], HEIGHT / 2
    for source, start, y, end in ((VISION, 150, middle - 32, 212), (TEXT, 80, middle + 32, HEIGHT - 212)):
        target = OTHER[source]
        origin = 200 if source == TEXT else HEIGHT - 200
        projected = symbol("P", f"{LETTER[source]}→{LETTER[target]}")
        parts.append(arrow([(start, origin), (start, y), (235, y)], LINE[source]))
        parts += [box(236, y - 20, 170, 40, GROUND[source], LINE[source]), text(321, y + 6, f"{source}_to_{target}")]
        parts.append(arrow([(406, y), (486, y), (486, end)], LINE[source]))
        parts.append(text(496, y + 6, projected, anchor="start"))
    return parts


def histogram(values: np.ndarray, left: float, top: float, width: float, height: float) -> list[str]:
    """The distribution of some values over their range, whose ends are below it, with the mean."""
    import numpy as np

    low, high, mean = values.min(), values.max(), values.mean()
    span = max(high - low, 1e-9)
    counts, _ = np.histogram(values, BINS, (low, low + span))
    step = width / BINS
    tall = [(place, height * count / counts.max()) for place, count in enumerate(counts.tolist()) if count]
    foot = top + height
    bars = "".join(f"M{left + place * step:.1f} {foot:g}v{-up:.1f}h{step - 1:.1f}v{up:.1f}z" for place, up in tall)
    at = left + width * (mean - low) / span
    ends = ((left, f"lowest {low:.3f}", "start"), (left + width, f"highest {high:.3f}", "end"))
    return [
        f'<path d="{bars}" fill="{BMIP_COLOUR}"/>',
        f'<path d="M{left:g} {foot:g}h{width:g}" stroke="{QUIET}" stroke-width="1.5"/>',
        f'<path d="M{at:.1f} {top - 3:g}V{foot + 5:g}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="3 3"/>',
        text(at, top - 8, f"mean {mean:.3f}", 17),
        *(text(x, foot + 21, end, 17, anchor, QUIET) for x, end, anchor in ends),
    ]


def short(name: str) -> str:
    name = name.replace("_", " ")
    return escape(name if len(name) <= 14 else f"{name[:13]}…")


def measured(sight: Sight, name: str, layer: int) -> list[str]:
    """The gates of one layer over the classes and images of a run, with the extreme ones."""
    from experiments.models import png

    left, width = 604, 270
    parts = [text(left, 32, f"in a model trained on {escape(sight.dataset)}:", 18, "start", QUIET)]
    for tower, top in ((TEXT, 68), (VISION, 318)):
        values = sight.models[name].gates[tower, layer].double().mean(dim=-1).numpy()
        order = values.argsort(kind="stable").tolist()
        unit = "classes" if tower == TEXT else "images"
        title = f"gate {symbol('w', LETTER[tower])} of {len(values):,} {unit}"
        parts.append(text(left, top, title, 20, "start", BMIP_COLOUR, font_weight="bold"))
        parts += histogram(values, left, top + 38, width, 70)
        below = top + 38 + 70 + 21
        for side, anchor, chosen in ((left, "start", order[:ENDS]), (left + width, "end", order[: -ENDS - 1 : -1])):
            for place, number in enumerate(chosen):
                if tower == TEXT:
                    parts.append(text(side, below + 26 + 24 * place, short(sight.classnames[number]), 17, anchor))
                    continue
                size, data = 60, base64.b64encode(png(sight.picture(number))).decode()
                x = side + place * (size + 4) if anchor == "start" else side - size - place * (size + 4)
                where = f'x="{x:g}" y="{below + 12:g}" width="{size}" height="{size}"'
                parts.append(f'<image {where} href="data:image/png;base64,{data}"/>')
    meaning = f"1: {symbol('P′')} is the own prompt;", "0: it is the other encoder’s."
    parts += [text(left, HEIGHT - 36 + 20 * line, content, 16, "start", QUIET) for line, content in enumerate(meaning)]
    return parts


def picture(sight: Sight, name: str, layer: int) -> str:
    """The whole SVG."""
    length = min(sight.models[name].gates[TEXT, layer].shape[-1], MOST_PROMPTS)
    label = (
        f"A layer of {name}: the prompts of each encoder are mixed with the projected prompts of the other one, by a "
        "gate that reads the attention to the prompts; beside it the gates' values in a trained model."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(label)}" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(label)}</title>",
        f"<defs>{''.join(map(marker, (BMIP_COLOUR, QUIET, *LINE.values())))}</defs>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="#ffffff" stroke="{BORDER}"/>',
        f'<path d="M585 20V{HEIGHT - 20}" stroke="{BORDER}" stroke-width="1.5"/>',
        *heads(),
        *lane(TEXT, layer, length, down=False),
        *lane(VISION, layer, length, down=True),
        *measured(sight, name, layer),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def draw(args: argparse.Namespace) -> int:
    """Raises InputError for a model without gates in both towers of the layer."""
    from minidassl.own.files import write_whole

    from trainers.prompting.errors import InputError

    from ..methods import BASELINE
    from ..models import look_at

    sight = look_at([args.run], args.data)
    (name,) = (name for name in sight.models if name != BASELINE)
    gates = sight.models[name].gates
    layers = [layer for tower, layer in gates if tower == TEXT and (VISION, layer) in gates]
    if not layers:
        raise InputError(f"{args.run} is of {name}, which has no layer with gates in both towers; name a run of BMIP.")
    layer = max(layers) if args.layer is None else args.layer
    if layer not in layers:
        raise InputError(f"--layer is {layer}; this model has gates in both towers of the layers {layers}.")
    write_whole(args.output, picture(sight, name, layer))
    print(f"{args.output} shows layer {layer} of {name} on {sight.dataset}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path, help="output folder of a training run of BMIP")
    parser.add_argument("--layer", type=int, help="from 0; default: the last one with gates")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/gate.svg", help="the picture (docs/gate.svg)")
    parser.add_argument("--data", help="folder of the data sets; default: that of the run")
    return exit_status(draw, parser.parse_args(argv))
