"""ProGrad: context tokens whose gradient keeps to the frozen CLIP's direction (ICCV 2023, arXiv 2205.14865)."""

from .base import PromptTrainer, register
from .prompting.objectives import projected_gradient


@register
class ProGrad(PromptTrainer):
    method = projected_gradient.METHOD
