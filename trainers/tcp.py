"""TCP: tokens out of each class's own features in an upper text layer (CVPR 2024, arXiv 2311.18231)."""

from .base import PromptTrainer, register
from .prompting.learners import tcp


@register
class TCP(PromptTrainer):
    method = tcp.METHOD
