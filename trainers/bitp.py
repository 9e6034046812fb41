"""BITP: prompts of both towers, connected without gates, of BMIP's authors (their repository)."""

from .base import PromptTrainer, register
from .prompting.learners import bitp


@register
class BITP(PromptTrainer):
    method = bitp.METHOD
