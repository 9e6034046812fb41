"""VPT: deep vision prompts and a fixed sentence for each class (arXiv 2203.12119, as MaPLe's authors adapt it)."""

from .base import PromptTrainer, register
from .prompting.learners import vpt


@register
class VPT(PromptTrainer):
    method = vpt.METHOD
