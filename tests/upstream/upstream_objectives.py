"""Run PromptSRC's, CoPrompt's or BMIP's own trainers in a process of its own: as `upstream_baselines.py` is run.

INPUT has `clip` (path of a state dict), `views` (two), `labels`, `classnames`, `casts` (none or fp16) and `cases`,
each a dict of `trainer`, `module`, `settings` of the node of prompts, `weight` and `distance` of CoPrompt, `epochs`
and `rate`, and `templates`, the number of the teacher's sentences, the first in their order (0: all of them).
OUTPUT gets for each case the `name` of the registered model, its `state_dict`, `logits` in evaluation, and `loss` and
`gradients` of a training step; with epochs, that many epochs of two steps each are made instead, and there is the
`end` of the trained tensors.

CoPrompt's descriptions lie in the working directory, and of each class the one with number DRAWN is drawn.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import torch
from authors_bmip import without_half_precision
from torch import nn
from upstream_baselines import Trainer, state_of, stub_dassl

DRAWN = 1
SPREAD = 0.3


def stub() -> None:
    stub_dassl()
    sys.modules["dassl.optim"].build_optimizer = lambda model, rate: torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=rate
    )
    Trainer.update_lr = lambda trainer: None
    torch.Tensor.cuda = lambda tensor: tensor
    nn.Module.cuda = lambda module: module
    random.randint = lambda low, high: DRAWN


def make_cfg(case: dict, images: torch.Tensor, casts: str) -> SimpleNamespace:
    node = SimpleNamespace(**case["settings"], PREC="fp16" if casts == "fp16" else "fp32")
    trainers = SimpleNamespace(
        PROMPTSRC=node,
        CoPrompt=node,
        BMIP=SimpleNamespace(WEIGHT_THRESHOLD=0.0025),
        W=case["weight"],
        DISTILL=case["distance"],
    )
    share = case["settings"].get("share", True)
    return SimpleNamespace(
        TRAINER=trainers,
        DATASET=SimpleNamespace(NAME="EuroSAT"),
        INPUT=SimpleNamespace(SIZE=tuple(images.shape[-2:])),
        MODEL=SimpleNamespace(BACKBONE=SimpleNamespace(NAME="ViT-B/16"), INIT_WEIGHTS=""),
        SHARE=SimpleNamespace(SHARE_PARAMETER_VISUAL=share, SHARE_PARAMETER_TEXT=share),
        OPTIM=SimpleNamespace(MAX_EPOCH=case["epochs"] or 20, LR=case["rate"]),
        DEVICE="cpu",
    )


def fill(trained: dict[str, nn.Parameter]) -> None:
    """Random values that matter."""
    with torch.no_grad():
        for key, parameter in trained.items():
            if "learnable_linear" in key:
                parameter.uniform_(1, 3)
            else:
                wide = parameter.dim() == 2 and any(word in key for word in ("proj", "single_layer", "adapter"))
                parameter.normal_(std=0.05 if wide else SPREAD)


def make_trainer(case: dict, given: dict):
    module = importlib.import_module(f"trainers.{case['module']}")
    # Their optimisers are made of the configuration; here, of its rate.
    build = module.build_optimizer
    module.build_optimizer = lambda model, optim: build(model, optim.LR)
    if case["templates"]:
        keep = module.IMAGENET_TEMPLATES
        module.IMAGENET_TEMPLATES = sorted(keep)[: case["templates"]]
    torch.manual_seed(0)
    try:
        trainer = getattr(module, case["trainer"])(
            make_cfg(case, given["views"][0], given["casts"]), given["classnames"]
        )
    finally:
        module.build_optimizer = build
        if case["templates"]:
            module.IMAGENET_TEMPLATES = keep
    learner = trainer.model.prompt_learner
    if case["trainer"] == "PromptSRC_BMIP" and case["settings"].get("share", True):
        # Views of one tensor until the model moves to a GPU, which parts them; so do we.
        learner.compound_prompts_visual = nn.ParameterList(
            [nn.Parameter(prompt.detach().clone()) for prompt in learner.compound_prompts_visual]
        )
        trainer.optim = torch.optim.SGD(
            [parameter for parameter in trainer.model.parameters() if parameter.requires_grad], lr=case["rate"]
        )
    return trainer


def batch(case: dict, views: list[torch.Tensor], labels: torch.Tensor) -> dict:
    return {"img": views if case["trainer"] == "CoPrompt" else views[0], "label": labels}


def answer(case: dict, given: dict) -> dict:
    trainer = make_trainer(case, given)
    name, saved = trainer.registered
    trained = {key: parameter for key, parameter in saved.named_parameters() if parameter.requires_grad}
    start = {key: parameter.detach().clone() for key, parameter in trained.items()}
    fill(trained)
    found = {"name": name, "start": start, "state_dict": state_of(saved, trained)}
    views, labels = given["views"], given["labels"]
    if case["epochs"]:
        saved.train()
        trainer.num_batches = 2
        for _ in range(case["epochs"]):
            for trainer.batch_idx in range(2):
                # Another half of the batch.
                rows = slice(2 * trainer.batch_idx, 2 * trainer.batch_idx + 2)
                trainer.forward_backward(batch(case, [view[rows] for view in views], labels[rows]))
        end = saved.state_dict()

        return {**found, "end": {k: v for k, v in end.items() if k in trained}}
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(views[0])
    saved.train()
    loss = trainer.forward_backward(batch(case, views, labels))["loss"]
    gradients = {key: parameter.grad for key, parameter in trained.items() if parameter.grad is not None}
    return {**found, "logits": logits, "loss": loss, "gradients": gradients}


def main(checkout: str, source: str, target: str) -> None:
    sys.path.insert(0, checkout)
    torch.set_num_threads(1)
    given = torch.load(source, weights_only=True)
    if given["casts"] == "none":
        without_half_precision()
    stub()
    from clip import clip

    assert Path(clip.__file__).is_relative_to(Path(checkout)), "another package answers to the name clip"
    clip._download = lambda url: given["clip"]
    answers = []
    for case in given["cases"]:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                answers.append(answer(case, given))
        except Exception:
            answers.append({"error": traceback.format_exc()})
    torch.save(answers, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
