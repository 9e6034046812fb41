"""DeKg: context words guided by hand-written sentences, and independent of them (ICLR 2025)."""

from .base import PromptTrainer, register
from .prompting.objectives import knowledge_independence


@register
class DeKg(PromptTrainer):
    method = knowledge_independence.METHOD
