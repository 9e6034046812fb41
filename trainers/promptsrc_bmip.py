"""BMIP stacked with PromptSRC: its prompts, self-regulated by the frozen CLIP."""

from .base import register
from .bmip import BMIP
from .prompting.objectives import self_regulation


@register
class PromptSRC_BMIP(BMIP):
    method = self_regulation.STACKED
