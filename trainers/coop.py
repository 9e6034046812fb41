"""CoOp: learned context words (IJCV 2022, arXiv 2109.01134)."""

from .base import PromptTrainer, register
from .prompting.learners import coop


@register
class CoOp(PromptTrainer):
    method = coop.METHOD
