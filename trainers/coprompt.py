"""CoPrompt: multi-modal prompts with adapters, consistent with the frozen CLIP (ICLR 2024, arXiv 2306.01195)."""

from __future__ import annotations

from .base import TRAINER_REGISTRY
from .maple import MaPLe


@TRAINER_REGISTRY.register()
class CoPrompt(MaPLe):
    """Trains MaPLe's prompts, and adapters, for consistency (`prompting/objectives/consistency.py`)."""

    node = "CoPrompt"
    objective_name = "consistency"
    defaults = {
        "TRAINER": {
            "CoPrompt": {
                "N_CTX": 2,  # prompt tokens per layer
                "CTX_INIT": "a photo of a",  # initial words; empty: random prompts
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH": 9,  # layers that prompts enter
            }
        }
    }
