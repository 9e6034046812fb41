"""CoCoOp: context words that depend on the image (CVPR 2022, arXiv 2203.05557)."""

from .base import PromptTrainer, register
from .prompting.learners import cocoop


@register
class CoCoOp(PromptTrainer):
    method = cocoop.METHOD
