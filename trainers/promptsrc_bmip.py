"""BMIP stacked with PromptSRC: its prompts, self-regulated by the frozen CLIP."""

from __future__ import annotations

from .base import TRAINER_REGISTRY
from .bmip import BMIP


@TRAINER_REGISTRY.register()
class PromptSRC_BMIP(BMIP):
    """Trains BMIP's prompts by self-regulation; the authors' trainer is this with TRAINER.BMIP.VARIANT released."""

    registered_name = "VLPromptLearner"  # the authors' name, hence the checkpoint folder
    objective_name = "self_regulation"
    defaults = {}  # BMIP's
