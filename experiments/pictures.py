"""Pictures of one trained model: its image features beside plain CLIP's, and the attention that its prompts receive.

    python scripts/look_inside.py output/base2new/train_base/digits/shots_16/BMIP/tiny/seed1

Reads the run's settings and checkpoint, and the test images of all classes. Features are laid out by t-SNE
(scikit-learn, fixed seed); distances between groups in such a picture mean little. The pictures go to `pictures/` in
the run's folder, or to --output.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidassl.own.files import write_whole

from trainers.prompting.errors import InputError, disk_error

from .commands import exit_status, make_parser
from .runs import check_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from trainers.base import PromptTrainer

# BMIP's in all pictures.
BMIP_COLOUR = "#D55E00"
# Classes from which on colours tell base from new only.
MANY_CLASSES = 20


@functools.cache
def pyplot() -> Any:
    """Matplotlib's, without a screen; imported on the first call, because it takes long."""
    import matplotlib

    matplotlib.use("Agg")
    # Names of classes and runs are text, in which "$" is no mathematics.
    matplotlib.rcParams["text.parse_math"] = False
    import matplotlib.pyplot

    return matplotlib.pyplot


def by_tower(
    title: str, ylabel: str, towers: Sequence[str] = ("text", "vision"), sharey: bool = True
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a picture of each tower."""
    size = (4 * len(towers), 3.5)
    figure, axes = pyplot().subplots(1, len(towers), figsize=size, sharey=sharey, layout="constrained", squeeze=False)
    axes[0, 0].set_ylabel(ylabel)
    figure.suptitle(title)
    return figure, dict(zip(towers, axes[0]))


def tower_title(tower: str, mark: str) -> str:
    """With what its numbers are means over."""
    return f"{tower}{mark} over {'classes' if tower == 'text' else 'images'}"


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a PNG and an SVG; gives their paths."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        write_whole(path, lambda file, kind=path.suffix[1:]: figure.savefig(file, format=kind, dpi=120))
    return paths


def draw_features(found: dict[str, Tensor], labels: Tensor, classnames: list[str], title: str) -> Figure:
    """One t-SNE for each model; new classes as crosses."""
    from sklearn.manifold import TSNE

    plt, base, few = pyplot(), (len(classnames) + 1) // 2, len(classnames) < MANY_CLASSES
    colours = plt.get_cmap("tab20" if len(classnames) > 10 else "tab10")
    figure, both = plt.subplots(1, len(found), figsize=(5 * len(found), 5), layout="constrained")
    for axes, (name, values) in zip(both, found.items()):
        layout = TSNE(init="pca", perplexity=min(30, (len(values) - 1) / 3), random_state=0)
        places = layout.fit_transform(values.numpy())
        for label, classname in enumerate(classnames):
            is_new = label >= base
            colour, marker = colours(label % colours.N if few else int(is_new)), "x" if is_new else "o"
            text = f"{classname}{' (new)' if is_new else ''}" if few else None
            chosen = places[(labels == label).numpy()].T
            axes.scatter(*chosen, s=9, linewidths=0.8, marker=marker, color=colour, label=text)
        axes.set(title=name, xticks=[], yticks=[])
    if few:
        both[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    figure.suptitle(title)
    return figure


def draw_attention(seen: dict[tuple[str, int], Tensor], title: str) -> Figure:
    """Attention to each prompt token by layer, in units of uniform attention."""
    towers = sorted({tower for tower, _ in seen})
    figure, by_name = by_tower(title, "attention (1: uniform)", towers, sharey=False)
    for tower, axes in by_name.items():
        layers = sorted(layer for name, layer in seen if name == tower)
        for token in range(seen[tower, layers[0]].shape[-1]):
            values = [seen[tower, layer][:, token] for layer in layers]
            means, spreads = [value.mean().item() for value in values], [value.std().item() for value in values]
            line = dict(fmt="o-", markersize=4, capsize=2, linewidth=1, label=f"token {token}")
            axes.errorbar([layer + 0.1 * token for layer in layers], means, spreads, **line)
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.set(title=tower_title(tower, ","), xlabel="layer", xticks=layers)
        axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def draw(run: Path, data: str | None = None) -> dict[str, Figure]:
    """The pictures of a training run; see `draw_model`."""
    from .models import load  # here, because torch comes with it

    return draw_model(load(run, data))


def draw_model(trainer: PromptTrainer) -> dict[str, Figure]:
    """The pictures of a model by name: "features", and "attention" where prompts have a readout."""
    from .models import features

    title = f"{type(trainer).__name__} on {trainer.cfg.DATASET.NAME}"
    found, labels, seen = features(trainer)
    drawn = {"features": draw_features(found, labels, trainer.dm.dataset.classnames, title)}
    return {**drawn, "attention": draw_attention(seen, title)} if seen else drawn


def look_inside(args: argparse.Namespace) -> int:
    from .models import load  # here, because torch comes with it

    folder = args.output or args.run / "pictures"
    check_folder(folder)
    trainer = load(args.run, args.data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in draw_model(trainer).items():
            save(figure, folder, name)
    except OSError as error:
        raise InputError(disk_error(error, str(folder))) from error
    print(f"The pictures are in {folder}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path, help="output folder of a training run")
    parser.add_argument("--data", help="folder of the data sets; default: that of the run")
    parser.add_argument("--output", type=Path, help="folder of the pictures; default: pictures/ in that of the run")
    return exit_status(look_inside, parser.parse_args(argv))
