"""IVLP: independent deep prompts in both towers, or in the text tower alone (a baseline of MaPLe's authors)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.learners import ivlp


@register
class IVLP(PromptTrainer):
    """Trains text and vision prompts without interaction."""

    method = ivlp.METHOD
