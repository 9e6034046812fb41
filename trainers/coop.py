"""CoOp: learned context words (IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.learners import coop


@register
class CoOp(PromptTrainer):
    """Trains context tokens of the text tower."""

    method = coop.METHOD
