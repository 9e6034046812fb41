"""VPT: deep vision prompts, with a fixed sentence for each class (arXiv 2203.12119, as MaPLe's authors adapt it)."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.errors import InputError
from .prompting.learners.ivlp import RELEASED, IVLPConfig, IVLPLearner


@TRAINER_REGISTRY.register()
class VPT(PromptTrainer):
    """Trains vision prompts; see `prompting/learners/ivlp.py` for the method."""

    node = "VPT"
    released = RELEASED
    size_keys = {"N_CTX_VISION": "vision_length", "PROMPT_DEPTH_VISION": "vision_depth"}
    defaults = {
        "TRAINER": {
            "VPT": {
                "N_CTX_VISION": 2,  # prompt tokens per layer
                "CTX_INIT": "a photo of a",  # the sentence is "{CTX_INIT} {class}."
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH_VISION": 1,  # layers that prompts enter
            }
        }
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> IVLPLearner:
        node = cfg.TRAINER.VPT
        for key in ("N_CTX_VISION", "PROMPT_DEPTH_VISION"):
            if node[key] < 1:
                raise InputError(f"TRAINER.VPT.{key} is {node[key]}; set it to 1 or more.")
        config = IVLPConfig(
            text_length=0,
            text_depth=0,
            vision_length=node.N_CTX_VISION,
            vision_depth=node.PROMPT_DEPTH_VISION,
            context=node.CTX_INIT,
            node="TRAINER.VPT",
        )
        return IVLPLearner(config, clip_model)
