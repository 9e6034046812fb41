"""The work of `scripts/tools/summarize_methods.py`: the size and the operations of each method."""

from __future__ import annotations

import contextlib
import sys

import torch
from tqdm import tqdm

import train
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import build_cfg
from trainers.prompting.core.clip_weights import image_resolution
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.summary import SIZES, clip_of_size, trained_numbers
from trainers.prompting.declaration import prompt_sizes
from trainers.prompting.methods import in_order
from trainers.prompting.objectives.objective import Objective

from .. import ROOT
from .benchmark import class_names, count_flop
from .describe import table

BATCH, CLASSES = 4, 50


def step_flop(model: PromptedCLIP, objective: Objective, images: torch.Tensor) -> int:
    """Floating-point operations of a training step, without what teachers compute once before training."""
    with contextlib.redirect_stdout(sys.stderr):
        objective.prepare(model, class_names(CLASSES))
    with count_flop() as counter:
        loss = objective.loss(model, [images] * objective.views, torch.zeros(len(images), dtype=torch.long))
        if loss.total.requires_grad:
            objective.backward(loss, list(model.learner.parameters()), lambda loss: loss)
    return counter.get_total_flops()


def summarize(backbone: str) -> str:
    """The table of all methods on a backbone."""
    if backbone not in (known := (*SIZES, "tiny")):
        sys.exit(f"error: BACKBONE is {backbone!r}; choose one of {', '.join(known)}")
    trainers.register_all()
    clip_model = clip_of_size(backbone)
    images = torch.zeros(BATCH, 3, *[image_resolution(clip_model)] * 2)
    rows = []
    for method in tqdm(in_order(), leave=False):
        cfg = method.recipes.tiny if backbone == "tiny" else method.recipes.default
        args = ["--trainer", method.trainer, "--backbone", backbone]
        args += ["--config-file", str(ROOT / f"configs/trainers/{method.trainer}/{cfg}.yaml")]
        args += ["--dataset-config-file", str(ROOT / "configs/datasets/imagenet.yaml")]
        build_parts = TRAINER_REGISTRY.get(method.trainer).build_parts
        learner, objective = build_parts(build_cfg(train.parse_args(args)), clip_model)
        sizes = prompt_sizes(learner.state_dict())
        prompts = [
            f"{sizes[f'{tower}_length']} in {sizes[f'{tower}_depth']}" if f"{tower}_depth" in sizes else ""
            for tower in ("text", "vision")
        ]
        number, share = trained_numbers(learner, clip_model)
        flop = step_flop(PromptedCLIP(clip_model, learner, class_names(CLASSES)), objective, images)
        rows.append([method.name, cfg, *prompts, f"{number:,}", f"{share:.4f} %", f"{flop / 1e9:.0f}"])
    headers = ["method", "configuration", "text prompts", "vision prompts", "trained numbers", "of CLIP", "GFLOP"]
    return table(headers, rows, colalign=["left"] * 4 + ["right"] * 3)
