"""Look into trained models: in one pass over test images, their answers, features, gates, and attention to prompts."""

from __future__ import annotations

import dataclasses
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minidassl.own.run_folder import CheckpointError

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm
from yacs.config import CfgNode

import datasets.registry  # noqa: F401
import trainers
from trainers.base import TRAINER_REGISTRY, PromptTrainer
from trainers.config import default_cfg, merge, settings_of
from trainers.prompting.core.class_tokens import words_of
from trainers.prompting.core.cuda_graph import OFF
from trainers.prompting.core.design import design_of
from trainers.prompting.core.learner import FixedSentence, PromptLearner, Readout, TowerPrompts
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.methods import METHODS
from trainers.records import SETTINGS

from .methods import BASELINE, identify, row_name
from .runs import check_trained

MOST_IMAGES = 2000
# Of an example in pixels, and its colours, so that a page of many photographs stays small.
SIDE, COLOURS = 128, 64


def load(run: Path, data: str | None) -> PromptTrainer:
    """The trainer of a run with its weights, on all classes."""
    settings = check_trained(run, data)
    trainers.register_all()
    cfg = default_cfg()
    merge(cfg, settings, str(run / SETTINGS))
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.OUTPUT_DIR = str(run)
    if data:
        cfg.DATASET.ROOT = data
    cfg.freeze()
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
    try:
        trainer.load_model(str(run))
    except CheckpointError as error:
        raise InputError(str(error)) from error
    trainer.set_model_mode("eval")
    return trainer


@dataclasses.dataclass
class Noted:
    """What a learner's prompts did in the forward passes since `observe`.

    Attributes:
        attention: {(tower, layer): readouts `[batch, b]`} in units of uniform attention.
        entering: the tokens that took the words' places in the text tower's first layer, `[b, width]`, or
            `[batch, b, width]` where they differ.
    """

    attention: dict[tuple[str, int], list[Tensor]]
    entering: list[Tensor]


def observe(learner: PromptLearner) -> Noted:
    """Let a learner note what its prompts do in each forward pass; features stay the same."""
    noted = Noted(defaultdict(list), [])
    # Prompts that depend on the image, or do not stand right after SOS, have no readout.
    readable = not learner.conditional and set(learner.positions) == {"end"}

    def observed(tower: str, prompts_of: Callable[..., TowerPrompts | None]) -> Callable[..., TowerPrompts | None]:
        def prompts(*image_features: Tensor) -> TowerPrompts | None:
            plain = prompts_of(*image_features)

            def at(layer: int, readout: Readout) -> Tensor | None:
                tokens = plain.at(layer, readout)
                if readable:
                    noted.attention[tower, layer].append(readout(tokens, relative=True).cpu())
                if tower == "text" and layer == plain.first == 0:
                    noted.entering.append(tokens.float().cpu())
                return tokens

            return plain and dataclasses.replace(plain, at=at)

        return prompts

    learner.text, learner.vision = observed("text", learner.text), observed("vision", learner.vision)
    return noted


class Watched(PromptedCLIP):
    """Keeps the image features of its last forward pass."""

    image: Tensor

    def all_features(self, images: Tensor, frozen: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        several, class_features = super().all_features(images, frozen)
        self.image = self.fused(several)
        return several, class_features


@dataclasses.dataclass(frozen=True)
class Seen:
    """A model on the test images.

    Attributes:
        features: of the images, `[images, embed]`.
        answers: the predicted labels, `[images]`.
        attention: {(tower, layer): the attention that its prompts receive, in units of uniform attention, `[images or
            classes, b]`}; empty where prompts have no readout.
        gates: {(tower, layer): `[images or classes, b]`}; empty without gates.
        prompts: its text prompts that enter in the place of words, `[b, width]`; or the reason why there are none.
        pieces: distances in the space of CLIP's words; see `nearest`.
    """

    features: Tensor
    answers: Tensor
    attention: Mapping[tuple[str, int], Tensor]
    gates: Mapping[tuple[str, int], Tensor]
    prompts: Tensor | str


@dataclasses.dataclass(frozen=True)
class Sight:
    """One pass of some models over test images.

    Attributes:
        dataset: its registered name.
        classnames: in label order.
        is_base: `[classes]` bool, whether the first model learned a class.
        labels: of the images, `[images]`.
        total: number of all test images, of which those seen may be a part.
        models: by row name; zero-shot CLIP first.
        picture: gives the image of a number, small, as the models get it but for the normalisation.
        nearest: the pieces of words nearest to tokens `[b, width]`, some for each, with their distances.
    """

    dataset: str
    classnames: list[str]
    is_base: Tensor
    labels: Tensor
    total: int
    models: dict[str, Seen]
    picture: Callable[[int], Image.Image]
    nearest: Callable[[Tensor, int], list[list[tuple[str, float]]]]


def look_at(runs: Sequence[Path], data: str | None = None) -> Sight:
    """The models of some training runs of one data set and CLIP, and zero-shot CLIP, on at most `MOST_IMAGES` images.

    Raises:
        InputError: no run, or runs of several data sets or CLIPs.
    """
    if not runs:
        raise InputError("There is no run to look into; name the output folder of a training run.")
    first, noted, watched, facts = None, [], [], []
    for run in runs:
        trainer = load(run, data)
        first = first or trainer
        _check_same(first, trainer, run)
        facts.append((trainer.method.trainer, trainer.cfg))
        noted.append(observe(trainer.learner))
        watched.append(_watched(first, trainer))
    names = _names(facts)
    notes, models = dict(zip(names, noted)), dict(zip(names, watched))
    zero_shot = FixedSentence(*settings_of(first.cfg, METHODS[BASELINE]).templates)
    notes = {BASELINE: observe(zero_shot), **notes}
    models = {BASELINE: _watched(first, first, zero_shot), **models}
    loader = first.test_loader
    total = len(loader.dataset)
    # Spread over the test, whose images often come class by class.
    chosen = [place * total // MOST_IMAGES for place in range(MOST_IMAGES)] if total > MOST_IMAGES else range(total)
    labels, found = _pass(first, loader, chosen, models)
    normalisation = first.cfg.INPUT.PIXEL_MEAN, first.cfg.INPUT.PIXEL_STD
    return Sight(
        dataset=first.cfg.DATASET.NAME,
        classnames=list(first.dm.dataset.classnames),
        is_base=first.evaluator.is_base.clone(),
        labels=labels,
        total=total,
        models={
            name: Seen(
                features=torch.cat(found[name, "features"]),
                answers=torch.cat(found[name, "answers"]),
                attention={key: torch.cat(values) for key, values in notes[name].attention.items()},
                gates=_gates(found, name),
                prompts=_prompts(model.learner, notes[name].entering),
            )
            for name, model in models.items()
        },
        picture=lambda number: picture_of(loader.dataset[chosen[number]]["img"], *normalisation),
        nearest=lambda tokens, most: nearest(tokens, first.clip_model, most),
    )


def _names(facts: Sequence[tuple[str, CfgNode]]) -> list[str]:
    """Row names of models, given by trainer and configuration; with seeds, then numbers, where several share one."""
    names = [row_name(*identify(trainer, cfg.TRAINER.RECIPE), cfg.TRAINER.TAG) for trainer, cfg in facts]
    for kind, marks in (("seed", [cfg.SEED for _, cfg in facts]), ("run", range(1, len(facts) + 1))):
        names = [f"{name}, {kind} {mark}" if names.count(name) > 1 else name for name, mark in zip(names, marks)]
    return names


def _check_same(first: PromptTrainer, other: PromptTrainer, run: Path) -> None:
    for key, value_of in (
        ("DATASET.NAME", lambda cfg: cfg.DATASET.NAME),
        ("MODEL.BACKBONE.NAME", lambda cfg: cfg.MODEL.BACKBONE.NAME),
        ("INPUT.SIZE", lambda cfg: tuple(cfg.INPUT.SIZE)),
    ):
        one, another = value_of(first.cfg), value_of(other.cfg)
        if one != another:
            raise InputError(
                f"{key} is {one!r} in one run and {another!r} in {run}; name runs that share it, and look into the "
                "others by a command of their own."
            )


def _watched(first: PromptTrainer, trainer: PromptTrainer, learner: PromptLearner | None = None) -> Watched:
    """Its model in the CLIP of the first trainer, if both compute alike. Without recorded passes, which would not
    note what they do."""
    clip_model = first.clip_model if trainer.precision == first.precision else trainer.clip_model
    names, chunk = trainer.dm.dataset.classnames, trainer.cfg.MODEL.CLASS_CHUNK
    model = Watched(clip_model, learner or trainer.learner, names, trainer.precision, chunk, OFF)
    if learner is None:
        model.learned = trainer.model.learned
    return model.to(first.device).eval()


@torch.no_grad()
def _pass(
    trainer: PromptTrainer, loader: DataLoader, chosen: Sequence[int], models: Mapping[str, Watched]
) -> tuple[Tensor, dict[tuple, list[Tensor]]]:
    """The labels, and of each model by name and kind what the batches gave; kinds of gates are tower and layer."""
    workers = dict(num_workers=loader.num_workers, pin_memory=loader.pin_memory)
    batches = DataLoader(Subset(loader.dataset, chosen), loader.batch_size, **workers)
    labels, found = [], defaultdict(list)
    for batch in tqdm(batches, desc="images"):
        images, label = trainer.parse_batch_test(batch)
        labels.append(label.cpu())
        for name, model in models.items():
            found[name, "answers"].append(model(images).argmax(dim=-1).cpu())
            found[name, "features"].append(model.image.float().cpu())
            for tower, layers in model.learner.observed.items():
                for layer, weights in layers.items():
                    # Those of classes come once, with their features.
                    if tower == "vision" or not found[name, tower, layer]:
                        rows = len(images) if tower == "vision" else len(model.classnames)
                        # Common gates of all are those of each.
                        found[name, tower, layer].append(weights.float().cpu().expand(rows, -1).clone())
    return torch.cat(labels), found


def _gates(found: Mapping[tuple, list[Tensor]], name: str) -> dict[tuple[str, int], Tensor]:
    kinds = sorted(key[1:] for key in found if key[0] == name and len(key) == 3)
    return {kind: torch.cat(found[(name, *kind)]) for kind in kinds}


def _prompts(learner: PromptLearner, entering: Sequence[Tensor]) -> Tensor | str:
    if learner.conditional:
        return "its text prompts depend on the image"
    if learner.class_specific:
        return "each class has text prompts of its own"
    if len(learner.templates) > 1 and entering:
        return f"it has {len(learner.templates)} contexts"
    if learner.text_slots == 0:
        return "no prompt of its stands in the place of a word"
    if not entering:
        return "it has several sets of text prompts"
    first = entering[0]
    return first if first.dim() == 2 else torch.cat(entering).mean(dim=0)


def nearest(tokens: Tensor, clip_model: Any, most: int) -> list[list[tuple[str, float]]]:
    """The pieces of words whose embeddings are nearest to each token, by Euclidean distance, as in CoOp.

    Args:
        tokens: `[b, width]`.

    Returns:
        For each token at most `most` pieces with their distances, nearest first.
    """
    words = words_of(design_of(clip_model))
    embeddings = clip_model.token_embedding.weight[: words.size].float().cpu()
    # In the exact mode, since that of matrix products loses digits where norms exceed distances.
    distances = torch.cdist(tokens.float(), embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    found = distances.topk(min(most, len(embeddings)), largest=False)
    return [
        [(words.piece(number), distance) for number, distance in zip(numbers, values)]
        for numbers, values in zip(found.indices.tolist(), found.values.tolist())
    ]


def picture_of(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Image.Image:
    """A normalised image `[3, height, width]` in at most `SIDE` pixels a side."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    pixels = ((image * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    grey = bool((pixels == pixels[..., :1]).all())
    return picture.convert("L") if grey else picture


def png(picture: Image.Image) -> bytes:
    """A small file of a picture: a photograph in few colours."""
    file = io.BytesIO()
    few = picture if picture.mode == "L" else picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, "png", optimize=True)
    return file.getvalue()
