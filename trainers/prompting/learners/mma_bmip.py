"""BMIP's prompts, and MMA's adapters beside the upper blocks of both towers: a stack of the two, not published."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from ..core.clip_weights import text_depth, vision_depth
from ..core.learner import check_depth
from ..declaration import Recipes, changed, declare
from . import bmip, mma


def _of_mma(name: str) -> int | float:
    """A field of MMA's settings, under its own key."""
    key = mma.MMAConfig.declared()[name].dotted(mma.METHOD.node)
    return changed(mma.MMAConfig, name, getattr(mma.MMAConfig, name), key=key, root=True)


@dataclass(frozen=True)
class MMABMIPConfig(bmip.BMIPConfig):
    """BMIP's settings, and those of MMA's adapters."""

    first_adapter: int = _of_mma("first")
    last_adapter: int = _of_mma("depth")
    hidden: int = _of_mma("hidden")
    scale: float = _of_mma("scale")

    def check(self) -> None:
        super().check()
        if self.first_adapter > self.last_adapter:
            raise self.error(
                "{first_adapter} is {} and {last_adapter} is {}; set {first_adapter} to {last_adapter} or less.",
                *(self.first_adapter, self.last_adapter),
            )


class MMABMIPLearner(bmip.BMIPLearner):
    """BMIP's learner with `block_adapters`.

    Raises:
        InputError: see `BMIPLearner`; a layer beyond the towers.
    """

    recordable = True

    def __init__(self, config: MMABMIPConfig, clip_model: nn.Module):
        super().__init__(config, clip_model)
        check_depth("last_adapter", config.last_adapter, min(text_depth(clip_model), vision_depth(clip_model)))
        layers = range(config.first_adapter - 1, config.last_adapter)
        self.block_adapters = mma.adapters_in(clip_model, layers, config.hidden, config.scale)


METHOD = declare(
    dataclasses.replace(
        bmip.METHOD,
        name="MMA_BMIP",
        trainer="MMA_BMIP",
        prompts="MMA_BMIP",
        summary="BMIP's prompts, and MMA's adapters beside the upper blocks of both towers",
        config=MMABMIPConfig,
        learner=MMABMIPLearner,
        recipes=Recipes("vit_b16_c2_ep10_batch4_2ctx"),
        layout=None,
    )
)
