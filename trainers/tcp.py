"""TCP: tokens out of each class's own features in an upper text layer (CVPR 2024, arXiv 2311.18231)."""

from __future__ import annotations

import dataclasses

from yacs.config import CfgNode

from .base import PromptTrainer, register
from .prompting.declaration import Settings
from .prompting.learners import tcp


@register
class TCP(PromptTrainer):
    method = tcp.METHOD

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        return dataclasses.replace(super().settings(cfg), **tcp.TCPConfig.sentences(cfg.DATASET.NAME))
