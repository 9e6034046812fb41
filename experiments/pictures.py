"""The inside of one trained model in pictures, and the words nearest to its text prompts.

    python scripts/look_inside.py output/base2new/train_base/digits/shots_16/BMIP/tiny/seed1

Reads the run's settings and checkpoint, and the test images of all classes. The pictures go to `pictures/` in the
run's folder, or to --output: image features beside zero-shot CLIP's, laid out by t-SNE (distances between groups in
such a picture mean little), the attention that prompts receive, BMIP's gates, and images that only one of the model
and zero-shot CLIP gets right. As in CoOp, the words are those of CLIP's whose embeddings are nearest to a prompt of
the first layer; they need not tell what it does.
"""

from __future__ import annotations

import argparse
import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidassl.own.files import write_whole
from minidassl.own.text import printable

from trainers.prompting.errors import InputError, disk_error

from .commands import exit_status, make_parser
from .runs import check_folder

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image
    from torch import Tensor

# BMIP's in all pictures, and that of low gates beside it.
BMIP_COLOUR, LOW_COLOUR = "#D55E00", "#0072B2"
# Base and new classes, and prompt tokens, which are no methods.
PARTS = ("#0072B2", "#CC79A7")
TOKENS = ("#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#E69F00")
# In inches, so that text stays legible on a narrow page.
WIDTH = 4
# Classes from which on colours tell base from new only.
MANY_CLASSES = 20
# Images of a t-SNE, which takes most of the time.
MOST_POINTS = 600
# Layers whose means and deviations find room above a map of gates, and classes or images at each of its ends.
MOST_COLUMNS, SHOWN = 5, 4
# Of a difference that is none.
SMALLEST = 1e-9


@functools.cache
def pyplot() -> Any:
    """Matplotlib's, without a screen; imported on the first call, because it takes long."""
    import matplotlib

    matplotlib.use("Agg")
    # Names of classes and runs are text, in which "$" is no mathematics.
    matplotlib.rcParams["text.parse_math"] = False
    # In an SVG, text stays text.
    matplotlib.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a PNG and an SVG; gives their paths."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        write_whole(path, lambda file, kind=path.suffix[1:]: figure.savefig(file, format=kind, dpi=120))
    return paths


def narrow(height: float) -> Figure:
    """A figure of a height in inches. Nothing else holds it, so many may wait to be saved."""
    pyplot()  # sets up matplotlib
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def stacked(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """A narrow figure of some pictures one above the other, each of a height in inches."""
    figure = narrow(rows * height)
    return figure, [*figure.subplots(rows, 1, squeeze=False)[:, 0]]


def draw_features(found: dict[str, Tensor], labels: Tensor, classnames: list[str], is_base: Tensor) -> Figure:
    """One t-SNE for each model; classes that were not learned as crosses."""
    from sklearn.manifold import TSNE

    few, mixed = len(classnames) < MANY_CLASSES, bool(is_base.any() and not is_base.all())
    colours = pyplot().get_cmap("tab20" if len(classnames) > 10 else "tab10")
    parts = {"base classes": is_base, "new classes": ~is_base} if mixed else {"all classes": is_base == is_base}
    groups = {text: (part[labels].numpy(), colour) for (text, part), colour in zip(parts.items(), PARTS)}
    if few:
        groups = {
            f"{name}{' (new)' if mixed and not is_base[label] else ''}": ((labels == label).numpy(), colours(label))
            for label, name in enumerate(classnames)
        }
    figure, rows = stacked(len(found), 3)
    for axes, (name, values) in zip(rows, found.items()):
        layout = TSNE(init="pca", perplexity=min(30, (len(values) - 1) / 3), random_state=0)
        places = layout.fit_transform(values.numpy())
        for text, (chosen, colour) in groups.items():
            marker = "x" if mixed and not is_base[labels[chosen]].any() else "o"
            axes.scatter(*places[chosen].T, s=9, linewidths=0.8, marker=marker, color=colour, label=text)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, loc="left", fontsize="medium")
    handles, texts = rows[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False, markerscale=2)
    return figure


def draw_attention(seen: Mapping[tuple[str, int], Tensor]) -> Figure:
    """Attention to each prompt token by layer, in units of uniform attention."""
    import numpy as np  # here, because help needs none

    towers = sorted({tower for tower, _ in seen})
    figure, rows = stacked(len(towers), 2.2)
    for tower, axes in zip(towers, rows):
        by_layer = {layer: values.numpy() for (name, layer), values in sorted(seen.items()) if name == tower}
        for token in range(max(values.shape[-1] for values in by_layer.values())):
            columns = {layer: values[:, token] for layer, values in by_layer.items() if token < values.shape[-1]}
            means, spreads = ([kind(column) for column in columns.values()] for kind in (np.mean, np.std))
            line = dict(fmt="o-", markersize=4, capsize=2, linewidth=1, color=TOKENS[token % len(TOKENS)])
            line["label"] = f"token {token}"
            axes.errorbar([layer + 0.1 * token for layer in columns], means, spreads, **line)
        axes.axhline(1, color=pyplot().rcParams["axes.edgecolor"], linewidth=0.8, linestyle=":")
        axes.set(ylabel=f"attention, {tower}", xticks=[*by_layer])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("layer")
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


@dataclass(frozen=True)
class GateMap:
    """The gates of a tower as a map.

    Attributes:
        layers: those with gates.
        means, spreads: of the gates of each layer, `[layers]`.
        differences: from the layer's mean, `[images or classes, layers]`, highest gates first.
        order: the images or classes in this order.
    """

    layers: list[int]
    means: np.ndarray
    spreads: np.ndarray
    differences: np.ndarray
    order: np.ndarray


def gate_map(gates: Mapping[tuple[str, int], Tensor], tower: str) -> GateMap:
    """Means of the tokens' gates, ordered by the sum of their differences in units of the layer's deviation."""
    import numpy as np  # here, because help needs none

    layers = sorted(layer for name, layer in gates if name == tower)
    values = np.stack([gates[tower, layer].numpy().astype(float).mean(axis=-1) for layer in layers], axis=1)
    means, spreads = values.mean(axis=0), values.std(axis=0)
    differences = values - means
    order = np.argsort(-(differences / np.maximum(spreads, SMALLEST)).sum(axis=1), kind="stable")
    return GateMap(layers, means, spreads, differences[order], order)


def draw_gates(
    gates: Mapping[tuple[str, int], Tensor], classnames: Sequence[str], picture: Callable[[int], Image.Image]
) -> Figure:
    """A `gate_map` of each tower, with the classes and images at both of its ends.

    Args:
        picture: gives the image of a number.
    """
    import numpy as np  # here, because help needs none
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("gates", [LOW_COLOUR, "#f0f0f0", BMIP_COLOUR])
    towers = sorted({tower for tower, _ in gates})
    figure = narrow(3.1 * len(towers))
    for part, tower in zip(figure.subfigures(len(towers), 1, squeeze=False)[:, 0], towers):
        found = gate_map(gates, tower)
        axes, ends = part.subplots(1, 2, width_ratios=(3, 1.2))
        # Outliers would leave no colour to the others.
        most = max(np.quantile(np.abs(found.differences), 0.98), SMALLEST)
        shades = dict(cmap=colours, vmin=-most, vmax=most, interpolation="nearest", aspect="auto")
        image = axes.imshow(found.differences, **shades)
        columns = range(len(found.layers))
        axes.set_xticks(columns, map(str, found.layers))
        axes.set(xlabel="layer", yticks=[], ylabel={"text": "classes", "vision": "images"}.get(tower, tower))
        few = len(columns) <= MOST_COLUMNS
        for column, mean, spread in zip(columns, found.means, found.spreads):
            text = f"{mean:.2f}\n± {spread:.4f}" if few else f"{mean:.2f}".lstrip("0")
            place = dict(transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
            axes.text(column, 1.02, text, **place)
        bar = part.colorbar(image, ax=axes, location="bottom", shrink=0.9, aspect=30, ticks=[-most, 0, most])
        bar.ax.set_xticklabels([f"−{most:.2g}", "mean", f"+{most:.2g}"], fontsize=8)
        bar.outline.set_visible(False)
        ends.set(xlim=(0, 1), ylim=(0, 1))
        ends.axis("off")
        for items, top in ((found.order[:SHOWN], True), (found.order[-SHOWN:], False)):
            _draw_end(ends, [int(item) for item in items], top, tower, classnames, picture)
    return figure


def _draw_end(
    axes: Axes,
    items: Sequence[int],
    top: bool,
    tower: str,
    classnames: Sequence[str],
    picture: Callable[[int], Image.Image],
) -> None:
    """The names of the classes, or the images, with the highest (top) or lowest gates."""
    label = "highest" if top else "lowest"
    axes.text(0, 1 if top else 0.38, label, fontsize=8, va="top", weight="bold")
    for place, item in enumerate(items):
        if tower == "text":
            name = textwrap.shorten(classnames[item].replace("_", " "), 20, placeholder="…")
            axes.text(0, (0.92 if top else 0.30) - 0.08 * place, name, fontsize=8, va="top")
        else:
            column, row = place % 2, place // 2
            box = axes.inset_axes((0.5 * column, (0.72 if top else 0.1) - 0.21 * row, 0.46, 0.2))
            shown = picture(item)
            box.imshow(shown, cmap="gray", vmin=0, vmax=255)
            box.set(xticks=[], yticks=[])


def look_inside(args: argparse.Namespace) -> int:
    from .inside import look

    folder = args.output or args.run / "pictures"
    check_folder(folder)
    inside = look([args.run], args.data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (figure, _) in inside.figures.items():
            save(figure, folder, name)
        for name, example in inside.files().items():
            write_whole(folder / f"{name}.png", example.png)
    except OSError as error:
        raise InputError(disk_error(error, str(folder))) from error
    print(*map(printable, inside.lines()), sep="\n")
    print(f"The pictures are in {folder}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path, help="output folder of a training run")
    parser.add_argument("--data", help="folder of the data sets; default: that of the run")
    parser.add_argument("--output", type=Path, help="folder of the pictures; default: pictures/ in that of the run")
    return exit_status(look_inside, parser.parse_args(argv))
