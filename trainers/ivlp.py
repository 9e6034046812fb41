"""IVLP: independent deep prompts in both towers, or in the text tower alone (a baseline of MaPLe's authors)."""

from .base import PromptTrainer, register
from .prompting.learners import ivlp


@register
class IVLP(PromptTrainer):
    method = ivlp.METHOD
