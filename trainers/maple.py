"""MaPLe: multi-modal prompts, text projected into vision (CVPR 2023, arXiv 2210.03117)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.learners import maple


@register
class MaPLe(PromptTrainer):
    """Trains text prompts and the heads that project them."""

    method = maple.METHOD
