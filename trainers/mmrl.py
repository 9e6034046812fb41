"""MMRL: tokens of a shared space in the upper layers, and a second image feature (CVPR 2025, arXiv 2503.08497)."""

from .base import PromptTrainer, register
from .prompting.learners import mmrl


@register
class MMRL(PromptTrainer):
    method = mmrl.METHOD
