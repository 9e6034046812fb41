"""MaPLe: multi-modal prompts, text projected into vision (CVPR 2023, arXiv 2210.03117)."""

from .base import PromptTrainer, register
from .prompting.learners import maple


@register
class MaPLe(PromptTrainer):
    method = maple.METHOD
