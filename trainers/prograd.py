"""ProGrad: context tokens whose gradient keeps to the frozen CLIP's direction (ICCV 2023, arXiv 2205.14865)."""

from __future__ import annotations

import dataclasses

from yacs.config import CfgNode

from .base import PromptTrainer, register
from .prompting.declaration import Settings
from .prompting.objectives import projected_gradient


@register
class ProGrad(PromptTrainer):
    method = projected_gradient.METHOD

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        return dataclasses.replace(super().settings(cfg), dataset=cfg.DATASET.NAME)
