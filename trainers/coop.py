"""CoOp: learned context words (IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.learners.coop import RELEASED, CoOpConfig, CoOpLearner


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Trains context tokens of the text tower; see `prompting/learners/coop.py` for the method."""

    node = "COOP"
    needs_vit = False
    released = RELEASED
    size_keys = {"N_CTX": "text_length"}
    defaults = {
        "TRAINER": {
            "COOP": {
                "N_CTX": 16,  # context tokens, unless CTX_INIT has words
                "CSC": False,  # a context for every class
                "CTX_INIT": "",  # initial words, one token each; empty: random prompts
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "CLASS_TOKEN_POSITION": "end",  # of the class name: end, middle or front
            }
        }
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> CoOpLearner:
        node = cfg.TRAINER.COOP
        config = CoOpConfig(node.N_CTX, node.CTX_INIT, node.CSC, node.CLASS_TOKEN_POSITION)
        return CoOpLearner(config, clip_model)
