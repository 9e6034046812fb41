"""BMIP stacked with PromptSRC: its prompts, self-regulated by the frozen CLIP."""

from __future__ import annotations

from .base import register
from .bmip import BMIP
from .prompting.objectives import self_regulation


@register
class PromptSRC_BMIP(BMIP):
    """Trains BMIP's prompts by self-regulation."""

    method = self_regulation.STACKED
