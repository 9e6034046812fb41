"""The inside of models on the page: a gallery of images and answers, figures, and the nearest words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .figures import Picture
from .parts import figures, folded, grid
from .shown import Shown

if TYPE_CHECKING:
    from ..inside import Example, Inside, Words

TITLES = {"features": "Image features", "gates": "Gates by class and image", "attention": "Attention to prompts"}
OF_WORDS = (
    "Words whose embeddings in CLIP are nearest to a learned text prompt of the first layer, with their Euclidean "
    "distances, as in CoOp. They need not tell what a prompt does: read them with care."
)


def example(one: Example, shown: Shown) -> str:
    """An image with its class and each method's answer, a sign telling the right ones."""
    image = base64.b64encode(one.png).decode()
    answers = []
    for method, answer in one.answers.items():
        is_right = answer == one.label
        sign, name = ("✓", "right") if is_right else ("✗", "wrong")
        text = shown.html(method if is_right else f"{method}: {answer}")
        answers.append(f"<span class={name}><i role=img aria-label={name}>{sign}</i> {text}</span>")
    return (
        f'<figure><img alt="{shown.html(one.label)}" width=128 height=128 src="data:image/png;base64,{image}">'
        f"<figcaption><b>{shown.html(one.label)}</b>{''.join(answers)}</figcaption></figure>"
    )


def gallery(some: Sequence[Example], shown: Shown) -> str:
    return f"<div class=gallery>{''.join(example(one, shown) for one in some)}</div>"


def words(some: Sequence[Words], method: str, shown: Shown) -> str:
    lines = []
    for one in some:
        near = "".join(
            f"<td class=text>{shown.html(word)} <span class=dev>{distance:.2f}</span></td>"
            for word, distance in one.nearest
        )
        lines.append(f"<tr><th scope=row>layer {one.layer}, token {one.token}</th>{near}</tr>")
    most = max(len(one.nearest) for one in some)
    headers = ["prompt", *(f"{place + 1}." for place in range(most))]
    return grid(headers, lines, f"nearest words of {method}", shown, method, len(headers))


def heading(name: str) -> str:
    """Of a figure, by its kind and method."""
    kind, _, method = name.partition("_")
    return f"{TITLES.get(kind, kind)}, {method}" if method else TITLES.get(kind, kind)


def inside_html(inside: Inside, place: Callable[[Picture], str], shown: Shown) -> str:
    """Everything of one data set.

    Args:
        place: draws a figure into the page.
    """
    parts = [
        f"<h4>The data</h4><p class=note>Test images, and each method's answer among all classes: ✓ right, ✗ wrong "
        f"with the class that it names. The models saw {inside.images:,} images.</p>",
        gallery(inside.samples, shown),
    ]
    for (right, wrong), some in inside.differences.items():
        count = inside.counts[right, wrong]
        if some:
            title = shown.html(f"{right} right, {wrong} wrong: {len(some)} of {count} images")
            parts.append(f"<h4>{title}</h4>{gallery(some, shown)}")
    drawn = [
        place(Picture(drawing, heading(name), caption, (name, inside.dataset)))
        for name, (drawing, caption) in inside.figures.items()
    ]
    parts += ["<h4>Features, attention and gates</h4>", figures(drawn)] if drawn else []
    found = {method: some for method, some in inside.words.items() if some}
    if found or inside.wordless:
        tables = "".join(words(some, method, shown) for method, some in found.items())
        reasons = "".join(f"<li>{shown.html(f'{name}: {why}')}</li>" for name, why in inside.wordless.items())
        reasons = folded("Methods without such words", f"<ul class=note>{reasons}</ul>") if reasons else ""
        parts.append(f"<h4>Nearest words</h4><p class=note>{OF_WORDS}</p><div class=parts>{tables}</div>{reasons}")
    return "\n".join(parts)
