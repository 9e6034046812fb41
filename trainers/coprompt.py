"""CoPrompt: multi-modal prompts with adapters, consistent with the frozen CLIP (ICLR 2024, arXiv 2306.01195)."""

from .base import PromptTrainer, register
from .prompting.objectives import consistency


@register
class CoPrompt(PromptTrainer):
    method = consistency.METHOD
