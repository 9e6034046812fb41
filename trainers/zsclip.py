"""Zero-shot CLIP: one sentence per class or the average of several, nothing trained."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.core.learner import FixedSentence, PromptLearner
from .prompting.core.templates import SELECTED, template_of


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """CLIP as it is, with the data set's sentence (Radford et al., arXiv 2103.00020)."""

    node = "ZEROSHOTCLIP"
    needs_vit = False
    defaults = {"TRAINER": {"ZEROSHOTCLIP": {"PREC": "fp32"}}}

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> PromptLearner:
        return FixedSentence(template_of(cfg.DATASET.NAME))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """CLIP as it is, with the average of several sentences; on all data sets but ImageNet its own one among them."""

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> PromptLearner:
        own = [] if cfg.DATASET.NAME == "ImageNet" else [template_of(cfg.DATASET.NAME)]
        return FixedSentence(*SELECTED, *own)
