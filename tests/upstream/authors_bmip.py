"""The authors' own BMIP model, without their trainer, for `authors_speed.py`."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

LENGTH_INDEPENDENT = dict(vision_depth=0, language_depth=0, vision_ctx=0, language_ctx=0)


def build(given: dict, clip_model: nn.Module, resolution: int) -> nn.Module:
    """Their model, on the CPU, around a CLIP of theirs."""
    from trainers.bmip import CustomCLIP

    bmip = SimpleNamespace(
        N_CTX=given["length"],
        CTX_INIT=given["context"],
        PROMPT_DEPTH=given["depth"],
        CONNECT_METHOD="None",
        WEIGHT_THRESHOLD=0,
    )
    cfg = SimpleNamespace(
        TRAINER=SimpleNamespace(BMIP=bmip),
        INPUT=SimpleNamespace(SIZE=(resolution, resolution)),
        SHARE=SimpleNamespace(SHARE_PARAMETER_VISUAL=given["share"], SHARE_PARAMETER_TEXT=given["share"]),
    )
    torch.manual_seed(0)
    model = CustomCLIP(cfg, given["classnames"], clip_model)
    learner = model.prompt_learner
    # Shared vision prompts are views of one tensor until the model moves to a GPU; separate them in the same way.
    learner.compound_prompts_visual = nn.ParameterList(
        [nn.Parameter(prompt.detach().clone()) for prompt in learner.compound_prompts_visual]
    )
    return model


def design(length: int) -> dict:
    """What their copy of `clip` is built with."""
    return dict(trainer="BMIP", bitp_length=length, connect_method="other", weight_threshold=0, **LENGTH_INDEPENDENT)
