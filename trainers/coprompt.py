"""CoPrompt: multi-modal prompts with adapters, consistent with the frozen CLIP (ICLR 2024, arXiv 2306.01195)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.objectives import consistency


@register
class CoPrompt(PromptTrainer):
    """Trains MaPLe's prompts, and adapters, for consistency."""

    method = consistency.METHOD
