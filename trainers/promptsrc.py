"""PromptSRC: independent prompts, self-regulated by the frozen CLIP (ICCV 2023, arXiv 2307.06948)."""

from .base import PromptTrainer, register
from .prompting.objectives import self_regulation


@register
class PromptSRC(PromptTrainer):
    method = self_regulation.METHOD
