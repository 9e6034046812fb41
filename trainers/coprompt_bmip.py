"""BMIP stacked with CoPrompt: its prompts, and adapters, consistent with the frozen CLIP."""

from __future__ import annotations

from .base import register
from .bmip import BMIP
from .prompting.objectives import consistency


@register
class CoPrompt_BMIP(BMIP):
    """Trains BMIP's prompts, and adapters, for consistency."""

    method = consistency.STACKED
