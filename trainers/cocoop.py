"""CoCoOp: context words that depend on the image (CVPR 2022, arXiv 2203.05557)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.learners import cocoop


@register
class CoCoOp(PromptTrainer):
    """Trains context tokens and the network that shifts them."""

    method = cocoop.METHOD
