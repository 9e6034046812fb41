"""MMA: adapters beside the upper blocks of both towers, with shared middles (CVPR 2024)."""

from .base import PromptTrainer, register
from .prompting.learners import mma


@register
class MMA(PromptTrainer):
    method = mma.METHOD
