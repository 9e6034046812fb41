"""Zero-shot CLIP: one sentence per class or the average of several, nothing trained."""

from __future__ import annotations

from yacs.config import CfgNode

from .base import PromptTrainer, register
from .prompting.core.templates import SELECTED, template_of
from .prompting.declaration import Settings
from .prompting.learners import zeroshot


@register
class ZeroshotCLIP(PromptTrainer):
    """Zero-shot CLIP with the data set's sentence (Radford et al., arXiv 2103.00020)."""

    method = zeroshot.METHOD

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        return cls.method.config(templates=(template_of(cfg.DATASET.NAME),))


@register
class ZeroshotCLIP2(ZeroshotCLIP):
    """Zero-shot CLIP with the average of several sentences, among them the data set's own, except for ImageNet."""

    method = zeroshot.ENSEMBLE

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        own = () if cfg.DATASET.NAME == "ImageNet" else (template_of(cfg.DATASET.NAME),)
        return cls.method.config(templates=(*SELECTED, *own))
