"""MaPLe: multi-modal prompts, text projected into vision (CVPR 2023, arXiv 2210.03117)."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.learners.maple import RELEASED, MaPLeConfig, MaPLeLearner


@TRAINER_REGISTRY.register()
class MaPLe(PromptTrainer):
    """Trains text prompts and the heads that project them; see `prompting/learners/maple.py` for the method."""

    node = "MAPLE"
    registered_name = "MultiModalPromptLearner"
    released = RELEASED
    size_keys = {"N_CTX": "text_length", "PROMPT_DEPTH": "text_depth"}
    defaults = {
        "TRAINER": {
            "MAPLE": {
                "N_CTX": 2,  # prompt tokens per layer
                "CTX_INIT": "a photo of a",  # initial words; empty: random prompts
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH": 9,  # layers that prompts enter
            }
        }
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> MaPLeLearner:
        node = cfg.TRAINER[cls.node]
        config = MaPLeConfig(node.N_CTX, node.PROMPT_DEPTH, node.CTX_INIT, f"TRAINER.{cls.node}")
        return MaPLeLearner(config, clip_model)
