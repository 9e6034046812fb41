"""ProDA: a distribution of class features, of which several contexts make samples (CVPR 2022, arXiv 2205.03340)."""

from .base import PromptTrainer, register
from .prompting.learners import proda


@register
class ProDA(PromptTrainer):
    method = proda.METHOD
