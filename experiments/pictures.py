"""Pictures of one trained model: its image features beside plain CLIP's, and the attention that its prompts receive.

    python scripts/look_inside.py output/base2new/train_base/digits/shots_16/BMIP/tiny/seed1

Reads the run's settings and checkpoint, and the test images of all classes. Features are laid out by t-SNE
(scikit-learn, fixed seed); distances between groups in such a picture mean little.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
import yaml
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

import datasets  # noqa: F401  (registers the data sets)
import trainers
from trainers.base import TRAINER_REGISTRY, PromptTrainer
from trainers.config import default_cfg
from trainers.prompting.core.learner import FixedSentence, PromptLearner, Readout, TowerPrompts
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.records import SETTINGS

from .commands import exit_status, make_parser
from .methods import import_modules

MOST_IMAGES = 2000
# Classes from which on colours tell base from new only.
MANY_CLASSES = 20


def load(run: Path, data: str | None) -> PromptTrainer:
    """The trainer of a run with its weights, on all classes.

    Raises:
        InputError: the folder holds no training run.
    """
    if not (run / SETTINGS).is_file():
        raise InputError(f"{run} has no {SETTINGS}; name the output folder of a training run.")
    trainers.register_all()
    cfg = default_cfg()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load((run / SETTINGS).read_text())))
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.OUTPUT_DIR = str(run)
    if data:
        cfg.DATASET.ROOT = data
    cfg.freeze()
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
    trainer.load_model(str(run))
    trainer.set_model_mode("eval")
    return trainer


class Observed(PromptLearner):
    """A learner whose prompts go the same way, while the attention that they receive is read.

    Attributes:
        seen: {(tower, layer): readouts `[batch, b]`}, in units of uniform attention.
    """

    def __init__(self, learner: PromptLearner):
        super().__init__()
        self.learner, self.template, self.text_slots = learner, learner.template, learner.text_slots
        self.seen: dict[tuple[str, int], list[Tensor]] = defaultdict(list)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts | None:
        return self._observed("text", self.learner.text())

    def vision(self) -> TowerPrompts | None:
        return self._observed("vision", self.learner.vision())

    def _observed(self, tower: str, prompts: TowerPrompts | None) -> TowerPrompts | None:
        if prompts is None:
            return None

        def at(layer: int, readout: Readout) -> Tensor | None:
            tokens = prompts.at(layer, readout)
            self.seen[tower, layer].append(readout(tokens, relative=True).cpu())
            return tokens

        return TowerPrompts(prompts.length, prompts.depth, at)


@torch.no_grad()
def features(trainer: PromptTrainer) -> tuple[dict[str, Tensor], Tensor, dict[tuple[str, int], Tensor]]:
    """Normalised image features `[images, embed]` by model, labels, and the attention that prompts receive."""
    learner, clip_model = trainer.learner, trainer.clip_model
    names = trainer.dm.dataset.classnames
    # Prompts that depend on the image, or do not stand right after SOS, have no readout.
    readable = not learner.conditional and learner.position == "end"
    observed = Observed(learner).eval() if readable else learner
    models: dict[str, nn.Module] = {
        "plain CLIP": PromptedCLIP(clip_model, FixedSentence("{}"), names, trainer.precision),
        type(trainer).__name__: PromptedCLIP(clip_model, observed, names, trainer.precision),
    }
    found: dict[str, list[Tensor]] = defaultdict(list)
    labels: list[Tensor] = []
    for batch in tqdm(trainer.test_loader, desc="images"):
        images, label = trainer.parse_batch_test(batch)
        for name, model in models.items():
            found[name].append(nn.functional.normalize(model.encode_image(images).float(), dim=-1).cpu())
        labels.append(label.cpu())
        if sum(map(len, labels)) >= MOST_IMAGES:
            break
    if readable:
        models[type(trainer).__name__].encode_text()
    seen = {key: torch.cat(values) for key, values in observed.seen.items()} if readable else {}
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.cat(labels), seen


def draw_features(found: dict[str, Tensor], labels: Tensor, classnames: list[str], title: str) -> Figure:
    """One t-SNE for each model; new classes as crosses."""
    from sklearn.manifold import TSNE

    base = (len(classnames) + 1) // 2
    figure, both = plt.subplots(1, len(found), figsize=(5 * len(found), 5), layout="constrained")
    for axes, (name, values) in zip(both, found.items()):
        perplexity = min(30, (len(values) - 1) / 3)
        places = torch.from_numpy(
            TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(values.numpy())
        )
        colours = plt.get_cmap("tab20" if len(classnames) > 10 else "tab10")
        for label, classname in enumerate(classnames):
            chosen = places[labels == label]
            colour = colours(label % colours.N) if len(classnames) < MANY_CLASSES else colours(int(label >= base))
            marker = "o" if label < base else "x"
            text = f"{classname}{'' if label < base else ' (new)'}" if len(classnames) < MANY_CLASSES else None
            axes.scatter(*chosen.t(), s=9, linewidths=0.8, marker=marker, color=colour, label=text)
        axes.set_title(name)
        axes.set_xticks([])
        axes.set_yticks([])
    if len(classnames) < MANY_CLASSES:
        both[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    figure.suptitle(title)
    return figure


def draw_attention(seen: dict[tuple[str, int], Tensor], title: str) -> Figure:
    """Attention to each prompt token by layer, in units of uniform attention."""
    towers = [tower for tower in ("text", "vision") if any(key[0] == tower for key in seen)]
    figure, several = plt.subplots(
        1, len(towers), figsize=(4.2 * len(towers), 3.5), layout="constrained", squeeze=False
    )
    for axes, tower in zip(several[0], towers):
        layers = sorted(layer for name, layer in seen if name == tower)
        for token in range(seen[tower, layers[0]].shape[-1]):
            means, spreads = (
                [getattr(seen[tower, layer][:, token], what)().item() for layer in layers] for what in ("mean", "std")
            )
            places = [layer + 0.1 * token for layer in layers]
            axes.errorbar(
                places, means, spreads, fmt="o-", markersize=4, capsize=2, linewidth=1, label=f"token {token}"
            )
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(bottom=0)
        axes.set_xticks(layers)
        axes.set_xlabel("layer")
        axes.set_title(f"{tower}, over {'classes' if tower == 'text' else 'images'}")
        axes.grid(alpha=0.3)
    several[0, 0].set_ylabel("attention (1: uniform)")
    several[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.suptitle(title)
    return figure


def draw(run: Path, data: str | None = None) -> dict[str, Figure]:
    """The pictures of a training run by name: "features", and "attention" where prompts have a readout.

    Raises:
        InputError: the folder holds no training run.
    """
    trainer = load(run, data)
    title = f"{type(trainer).__name__} on {trainer.cfg.DATASET.NAME}"
    found, labels, seen = features(trainer)
    drawn = {"features": draw_features(found, labels, trainer.dm.dataset.classnames, title)}
    if seen:
        drawn["attention"] = draw_attention(seen, title)
    return drawn


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("run", type=Path, help="output folder of a training run")
    parser.add_argument("--data", help="folder of the data sets; default: that of the run")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the pictures")
    args = parser.parse_args(argv)

    def work() -> int:
        import_modules(args.modules)
        drawn = draw(args.run, args.data)
        args.output.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            for kind in ("png", "svg"):
                figure.savefig(args.output / f"{name}.{kind}", dpi=120)
                print(args.output / f"{name}.{kind}")
        return 0

    return exit_status(work)
