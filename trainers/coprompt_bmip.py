"""BMIP stacked with CoPrompt: its prompts, and adapters, consistent with the frozen CLIP."""

from .base import register
from .bmip import BMIP
from .prompting.objectives import consistency


@register
class CoPrompt_BMIP(BMIP):
    method = consistency.STACKED
