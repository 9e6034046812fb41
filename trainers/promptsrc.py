"""PromptSRC: independent prompts, self-regulated by the frozen CLIP (ICCV 2023, arXiv 2307.06948)."""

from __future__ import annotations

from .base import TRAINER_REGISTRY
from .ivlp import IVLP


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """Trains IVLP's prompts by self-regulation; see `prompting/objectives/self_regulation.py` for the objective."""

    node = "PROMPTSRC"
    objective_name = "self_regulation"
    defaults = {
        "TRAINER": {
            "PROMPTSRC": {
                "N_CTX_VISION": 4,  # prompt tokens per layer of the vision tower
                "N_CTX_TEXT": 4,  # prompt tokens per layer of the text tower
                "CTX_INIT": "a photo of a",  # initial words of the text prompts; empty: random ones
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH_VISION": 9,  # layers of the vision tower that prompts enter
                "PROMPT_DEPTH_TEXT": 9,  # layers of the text tower that prompts enter
            }
        }
    }
