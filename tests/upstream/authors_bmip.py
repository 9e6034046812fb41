"""Run the authors' own BMIP code in a process of its own: python authors_bmip.py CHECKOUT INPUT OUTPUT.

INPUT is a torch file with `clip` (a state dict), `images`, `classnames`, and the settings `length`, `depth`,
`context`, `share`. OUTPUT gets `state_dict`, as the authors' trainer saves it, `logits`, and `gradients` of the
cross-entropy against `labels`. Their code casts to fp16 in many places; here the casts do nothing, so that the
arithmetic can be compared in fp32. `authors_speed.py` runs it as it is.
"""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import torch
from torch import nn

LENGTH_INDEPENDENT = dict(vision_depth=0, language_depth=0, vision_ctx=0, language_ctx=0)


def without_half_precision() -> None:
    """Make every cast to fp16 do nothing."""
    keep = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        args = [torch.float32 if arg is torch.float16 else arg for arg in args]
        return keep(tensor, *args, **{k: torch.float32 if v is torch.float16 else v for k, v in kwargs.items()})

    torch.Tensor.to = to
    torch.Tensor.half = lambda tensor: tensor
    nn.Module.half = lambda module: module


def stub_dassl() -> None:
    """Their trainer module imports Dassl, which its model does not use."""
    registry = SimpleNamespace(register=lambda: lambda trainer: trainer)
    names = {
        "dassl": {},
        "dassl.engine": dict(TRAINER_REGISTRY=registry, TrainerX=object),
        "dassl.metrics": dict(compute_accuracy=None),
        "dassl.utils": dict(load_pretrained_weights=None, load_checkpoint=None),
        "dassl.optim": dict(build_optimizer=None, build_lr_scheduler=None),
    }
    for name, members in names.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module


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


def main(checkout: str, source: str, target: str) -> None:
    sys.path.insert(0, checkout)
    without_half_precision()
    stub_dassl()
    from clip.model import build_model

    given = torch.load(source, weights_only=True)
    clip_model = build_model(given["clip"], design(given["length"])).float()
    model = build(given, clip_model, given["images"].shape[-1])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ctx" in name or "compound_prompts" in name:
                parameter.normal_(std=0.3)
            elif "learnable_linear" in name:
                parameter.uniform_(1, 3)
    model.eval()
    logits = model(given["images"])
    nn.functional.cross_entropy(logits, given["labels"]).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.save({"state_dict": model.state_dict(), "logits": logits.detach(), "gradients": gradients}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
