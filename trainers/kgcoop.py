"""KgCoOp: context words guided by hand-written sentences (CVPR 2023, arXiv 2303.13283)."""

from .base import PromptTrainer, register
from .prompting.objectives import knowledge_guidance


@register
class KgCoOp(PromptTrainer):
    method = knowledge_guidance.METHOD
