"""MMRL++: MMRL with fewer trained tensors, and tokens that go on from layer to layer (IJCV 2026, arXiv 2505.10088)."""

from .base import PromptTrainer, register
from .prompting.objectives import alignment


@register
class MMRLpp(PromptTrainer):
    method = alignment.METHOD
