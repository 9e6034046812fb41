"""BMIP stacked with CoPrompt: its prompts, and adapters, consistent with the frozen CLIP."""

from __future__ import annotations

from .base import TRAINER_REGISTRY
from .bmip import BMIP


@TRAINER_REGISTRY.register()
class CoPrompt_BMIP(BMIP):
    """Trains BMIP's prompts, and adapters, for consistency; see `prompting/consistency.py` for the objective."""

    objective_name = "consistency"
    defaults = {}  # BMIP's
