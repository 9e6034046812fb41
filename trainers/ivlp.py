"""IVLP: independent deep prompts in both towers, or in the text tower alone (a baseline of MaPLe's authors)."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.errors import InputError
from .prompting.learners.ivlp import RELEASED, IVLPConfig, IVLPLearner


@TRAINER_REGISTRY.register()
class IVLP(PromptTrainer):
    """Trains text and vision prompts without interaction; see `prompting/learners/ivlp.py` for the method."""

    node = "IVLP"
    needs_vit = False  # language prompting does without; the learner refuses vision prompts in a ResNet
    registered_name = "VLPromptLearner"
    released = RELEASED
    size_keys = {
        "N_CTX_TEXT": "text_length",
        "PROMPT_DEPTH_TEXT": "text_depth",
        "N_CTX_VISION": "vision_length",
        "PROMPT_DEPTH_VISION": "vision_depth",
    }
    defaults = {
        "TRAINER": {
            "IVLP": {
                "N_CTX_VISION": 2,  # prompt tokens per layer of the vision tower; 0, with depth 0: language only
                "N_CTX_TEXT": 2,  # prompt tokens per layer of the text tower
                "CTX_INIT": "a photo of a",  # initial words of the text prompts; empty: random ones
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH_VISION": 9,  # layers of the vision tower that prompts enter
                "PROMPT_DEPTH_TEXT": 9,  # layers of the text tower that prompts enter
                "HEAD_WIDTH": 0,  # hidden width of residual heads that prompts pass through; 0: none, as published
            }
        }
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> IVLPLearner:
        node = cfg.TRAINER[cls.node]
        if node.PROMPT_DEPTH_TEXT < 1:
            raise InputError(
                f"TRAINER.{cls.node}.PROMPT_DEPTH_TEXT is {node.PROMPT_DEPTH_TEXT}; set it to 1 or more, or choose "
                "--trainer VPT for vision prompts alone."
            )
        config = IVLPConfig(
            text_length=node.N_CTX_TEXT,
            text_depth=node.PROMPT_DEPTH_TEXT,
            vision_length=node.N_CTX_VISION,
            vision_depth=node.PROMPT_DEPTH_VISION,
            context=node.CTX_INIT,
            head_width=node.get("HEAD_WIDTH", 0),
            node=f"TRAINER.{cls.node}",
        )
        return IVLPLearner(config, clip_model)
