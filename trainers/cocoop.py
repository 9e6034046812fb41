"""CoCoOp: context words that depend on the image (CVPR 2022, arXiv 2203.05557)."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.learners.cocoop import RELEASED, CoCoOpLearner
from .prompting.learners.coop import CoOpConfig


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Trains context tokens and the network that shifts them; see `prompting/learners/cocoop.py` for the method."""

    node = "COCOOP"
    needs_vit = False
    released = RELEASED
    size_keys = {"N_CTX": "text_length"}
    defaults = {
        "TRAINER": {
            "COCOOP": {
                "N_CTX": 16,  # context tokens, unless CTX_INIT has words
                "CTX_INIT": "",  # initial words, one token each; empty: random prompts
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
            }
        }
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> CoCoOpLearner:
        node = cfg.TRAINER.COCOOP
        return CoCoOpLearner(CoOpConfig(node.N_CTX, node.CTX_INIT, node="TRAINER.COCOOP"), clip_model)
