"""Tables of a method's trainable tensors, and their share of CLIP. Needs sizes only, no weights and no data."""

from __future__ import annotations

import torch
from tabulate import tabulate
from torch import nn

from . import from_open_clip
from .clip_weights import assembled, load_clip, new_clip
from .learner import PromptLearner

# Arguments of OpenAI's `CLIP`: embed, resolution, vision layers, width and patch, context, vocabulary, text width,
# heads and layers.
SIZES = {
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
    "RN101": (512, 224, (3, 4, 23, 3), 64, None, 77, 49408, 512, 8, 12),
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "ViT-L/14": (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12),
}


def clip_of_size(name: str) -> nn.Module:
    """A CLIP of a backbone's sizes; with random weights for those of `SIZES` and open_clip, without a download."""
    if name.startswith(from_open_clip.PREFIX):
        from_open_clip.check(name, needs_vit=False)
        return assembled(name, from_open_clip.read(name, needs_vit=False, weights=False)).requires_grad_(False)
    if name not in SIZES:
        return load_clip(name)
    with torch.random.fork_rng(devices=[]):
        return new_clip(*SIZES[name]).eval().requires_grad_(False)


def trained_numbers(learner: PromptLearner, clip_model: nn.Module) -> tuple[int, float]:
    """The number of trainable parameters, and their share of CLIP's in per cent."""
    trained = sum(parameter.numel() for parameter in learner.parameters() if parameter.requires_grad)
    return trained, 100 * trained / sum(parameter.numel() for parameter in clip_model.parameters())


def summarize(learner: PromptLearner, clip_model: nn.Module) -> str:
    """A table of the trainable tensors, and their sum; class-specific tensors are shown for one class."""
    learner.set_class_count(1)
    rows = [
        [name, list(parameter.shape), f"{parameter.numel():,}"]
        for name, parameter in learner.named_parameters()
        if parameter.requires_grad
    ]
    number, share = trained_numbers(learner, clip_model)
    if not rows:
        return "nothing to train"
    columns = dict(headers=["tensor", "shape", "numbers"], colalign=["left", "left", "right"])
    table = tabulate(rows, disable_numparse=True, **columns)
    note = " for one class" if learner.class_specific else ""
    inference = f"\n{learner.inference}" if learner.inference else ""
    return f"{table}\n{number:,} trainable numbers{note}, {share:.4f} % of CLIP's{inference}"
