"""KgCoOp: context words guided by hand-written sentences (CVPR 2023, arXiv 2303.13283)."""

from __future__ import annotations

from .base import PromptTrainer, register
from .prompting.objectives import knowledge_guidance


@register
class KgCoOp(PromptTrainer):
    """Trains CoOp's context tokens by knowledge guidance."""

    method = knowledge_guidance.METHOD
