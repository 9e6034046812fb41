"""MMRL: tokens of a shared space in the upper layers, and a second image feature (CVPR 2025, arXiv 2503.08497)."""

from __future__ import annotations

import dataclasses

from yacs.config import CfgNode

from .base import PromptTrainer, register
from .prompting.declaration import Settings
from .prompting.learners import mmrl


@register
class MMRL(PromptTrainer):
    method = mmrl.METHOD

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        return dataclasses.replace(super().settings(cfg), **mmrl.MMRLConfig.sentences(cfg.DATASET.NAME))
