"""BMIP stacked with CoPrompt: its prompts, and adapters, consistent with the frozen CLIP."""

from __future__ import annotations

from .base import TRAINER_REGISTRY
from .bmip import BMIP


@TRAINER_REGISTRY.register()
class CoPrompt_BMIP(BMIP):
    """Trains BMIP's prompts, and adapters, for consistency (`prompting/objectives/consistency.py`)."""

    objective_name = "consistency"
    defaults = {}  # BMIP's
