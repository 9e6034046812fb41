"""BMIP stacked with PromptSRC: its prompts, self-regulated by the frozen CLIP."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY
from .bmip import BMIP
from .prompting.bmip import BMIPLearner
from .prompting.errors import InputError
from .promptsrc import PromptSRC


@TRAINER_REGISTRY.register()
class PromptSRC_BMIP(BMIP):
    """Trains BMIP's prompts by self-regulation; the authors' trainer is this with TRAINER.BMIP.VARIANT released."""

    registered_name = "VLPromptLearner"  # the authors' name, hence the checkpoint folder
    objective_name = "self_regulation"
    defaults = {}  # BMIP's

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> BMIPLearner:
        """BMIP's learner. The authors' files size its prompts by PromptSRC's keys, which would have no effect here."""
        node, others = cfg.TRAINER.PROMPTSRC, PromptSRC.defaults["TRAINER"]["PROMPTSRC"]
        for key, default in others.items():
            if node.get(key, default) != default:
                raise InputError(
                    f"TRAINER.PROMPTSRC.{key} is {node[key]!r}, but the prompts of {cfg.TRAINER.NAME} are BMIP's; "
                    "remove it, and set TRAINER.BMIP.N_CTX, PROMPT_DEPTH, CTX_INIT and PREC."
                )
        return super().build_learner(cfg, clip_model)
