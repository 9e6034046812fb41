"""UPT: prompts of both towers out of unified ones (arXiv 2210.07225, as BMIP's authors adapt it)."""

from .base import PromptTrainer, register
from .prompting.learners import upt


@register
class UPT(PromptTrainer):
    method = upt.METHOD
