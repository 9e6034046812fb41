"""VPT: deep vision prompts, with a fixed sentence for each class.

Jia et al., *Visual Prompt Tuning* (ECCV 2022, arXiv 2203.12119), as MaPLe's authors adapt it to CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..declaration import Method, Recipes, changed, declare
from .ivlp import LAYOUT, IVLPConfig, IVLPLearner


@dataclass(frozen=True)
class VPTConfig(IVLPConfig):
    """IVLP's settings without text prompts; the context is the sentence."""

    text_length: int = 0
    text_depth: int = 0
    vision_length: int = changed(IVLPConfig, "vision_length", 2, least=1, help="prompt tokens per layer")
    vision_depth: int = changed(IVLPConfig, "vision_depth", 1, least=1, help="layers that prompts enter")
    context: str = changed(IVLPConfig, "context", "a photo of a", help='the sentence is "{context} {class}."')
    head_width: int = 0


METHOD = declare(
    Method(
        "VPT",
        summary="vision prompts in the first layers; the sentence is fixed (as MaPLe's authors adapt it)",
        node="VPT",
        config=VPTConfig,
        learner=IVLPLearner,
        recipes=Recipes("vit_b16_c2_ep5_batch4_4"),
        layout=LAYOUT,
        venue="ECCV 2022",
        arxiv="2203.12119",
    )
)
