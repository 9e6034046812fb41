"""Look into a trained model: its image features, and the attention that its prompts receive."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from minidassl.own.run_folder import CheckpointError

import torch
from torch import Tensor, nn
from tqdm import tqdm

import datasets.registry  # noqa: F401
import trainers
from trainers.base import TRAINER_REGISTRY, PromptTrainer
from trainers.config import default_cfg, merge
from trainers.prompting.core.learner import FixedSentence, PromptLearner, Readout, TowerPrompts
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.records import SETTINGS

from .runs import check_trained

MOST_IMAGES = 2000


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


def observe(learner: PromptLearner) -> dict[tuple[str, int], list[Tensor]]:
    """Let a learner note the attention that its prompts receive, in units of uniform attention.

    Gives {(tower, layer): readouts `[batch, b]`}, filled by each forward pass.
    """
    seen: dict[tuple[str, int], list[Tensor]] = defaultdict(list)

    def observed(tower: str, prompts_of: Callable[[], TowerPrompts | None]) -> Callable[[], TowerPrompts | None]:
        def prompts() -> TowerPrompts | None:
            plain = prompts_of()

            def at(layer: int, readout: Readout) -> Tensor | None:
                tokens = plain.at(layer, readout)
                seen[tower, layer].append(readout(tokens, relative=True).cpu())
                return tokens

            return plain and dataclasses.replace(plain, at=at)

        return prompts

    learner.text, learner.vision = observed("text", learner.text), observed("vision", learner.vision)
    return seen


@torch.no_grad()
def features(trainer: PromptTrainer) -> tuple[dict[str, Tensor], Tensor, dict[tuple[str, int], Tensor]]:
    """Normalised image features `[images, embed]` by model, labels, and the attention that prompts receive."""
    learner, names = trainer.learner, trainer.dm.dataset.classnames
    # Prompts that depend on the image, or do not stand right after SOS, have no readout.
    readable = not learner.conditional and set(learner.positions) == {"end"}
    seen = observe(learner) if readable else {}
    plain = PromptedCLIP(trainer.clip_model, FixedSentence("{}"), names, trainer.precision)
    # Without the text features that the trainer's model may have kept.
    prompted = PromptedCLIP(trainer.clip_model, learner, names, trainer.precision)
    found: dict[str, list[Tensor]] = defaultdict(list)
    labels: list[Tensor] = []
    for batch in tqdm(trainer.test_loader, desc="images"):
        images, label = trainer.parse_batch_test(batch)
        for name, model in (("plain CLIP", plain), (type(trainer).__name__, prompted)):
            found[name].append(nn.functional.normalize(model.encode_image(images).float(), dim=-1).cpu())
        labels.append(label.cpu())
        if sum(map(len, labels)) >= MOST_IMAGES:
            break
    if readable:
        prompted.encode_text()
    attention = {key: torch.cat(values) for key, values in seen.items()}
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.cat(labels), attention
