"""HiCroPL: prompts that flow from text to vision and back (ICCV 2025, arXiv 2507.14976)."""

from .base import PromptTrainer, register
from .prompting.learners import hicropl


@register
class HiCroPL(PromptTrainer):
    method = hicropl.METHOD
