"""Run CoOp's and MaPLe's own trainers in a process of its own: python upstream_baselines.py CHECKOUT INPUT OUTPUT.

INPUT is a torch file with `clip` (path of a state dict), `images`, `labels`, `classnames`, `casts` (one of CASTS) and
`cases`, each a dict of `trainer`, `module` (its file in the checkout), `dataset`, and `settings` of the `nodes` of the
configuration that the trainer reads. OUTPUT gets an answer to each case, in order: for trained methods the `name` that
the model is registered under, its `state_dict` as it would be saved (of most frozen tensors only the shapes), the
values that the trained tensors had at the `start`, and, with random ones instead, `logits`, which are all that the
model gives in evaluation, and `loss` and `gradients` of a training step; for zero-shot ones `text_features` and
`logits`. A case that fails gets the `error`.

The trainers build, freeze and step themselves; what is taken from Dassl is stubbed out.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
import types
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

# Casts to fp16 do nothing; those that the setting PREC fp32 leaves in the code; all, as PREC fp16 has them.
CASTS = ("none", "fp32", "fp16")
SPREAD = 0.3  # of the random values; the initial 0.02 would leave prompts without an effect to compare


def without_half_precision() -> None:
    """Make every cast to fp16 do nothing."""
    torch.Tensor.half = lambda tensor: tensor
    nn.Module.half = lambda module: module


class Trainer:
    """What the trainers take from Dassl's TrainerX, on the CPU and without an update of the parameters."""

    batch_idx, num_batches = 0, 2  # not the last batch, which would move the schedule on
    device = torch.device("cpu")

    def __init__(self, cfg: SimpleNamespace, classnames: list[str]):
        self.cfg = cfg
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=classnames))
        self.build_model()

    def register_model(self, name: str, model: nn.Module, optim: object, sched: object) -> None:
        self.registered = name, model

    def model_backward_and_update(self, loss: torch.Tensor) -> None:
        loss.backward()


def stub_dassl() -> None:
    registry = SimpleNamespace(register=lambda: lambda trainer: trainer)
    optimiser = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
    names = {
        "dassl": {},
        "dassl.engine": dict(TRAINER_REGISTRY=registry, TrainerX=Trainer),
        "dassl.metrics": dict(compute_accuracy=lambda output, label: torch.zeros(1)),
        "dassl.utils": dict(load_pretrained_weights=None, load_checkpoint=None),
        "dassl.optim": dict(build_optimizer=lambda *_: optimiser, build_lr_scheduler=lambda *_: None),
    }
    for name, members in names.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module


def only_shape(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape and type that takes no space in a file."""
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)


def state_of(saved: torch.nn.Module, trained) -> dict[str, torch.Tensor]:
    """A state dict with the values of the trained tensors, and of the first frozen ones, which tell one CLIP's."""
    return {
        key: value.clone() if key in trained or key.endswith("conv1.weight") else only_shape(value)
        for key, value in saved.state_dict().items()
    }


def make_cfg(case: dict, images: torch.Tensor, casts: str) -> SimpleNamespace:
    settings = SimpleNamespace(**case["settings"], PREC="fp16" if casts == "fp16" else "fp32")
    # ZeroshotCLIP loads CLIP by CoOp's function, and has no settings.
    return SimpleNamespace(
        TRAINER=SimpleNamespace(**dict.fromkeys(case["nodes"], settings)),
        DATASET=SimpleNamespace(NAME=case["dataset"]),
        INPUT=SimpleNamespace(SIZE=tuple(images.shape[-2:])),
        MODEL=SimpleNamespace(BACKBONE=SimpleNamespace(NAME="ViT-B/16"), INIT_WEIGHTS=""),
        OPTIM=None,
    )


def answer_zero_shot(trainer_class: type, cfg: SimpleNamespace, given: dict) -> dict:
    # The trainer appends to the list of its class, which would grow from case to case.
    templates = list(getattr(trainer_class, "templates", []))
    try:
        trainer = trainer_class(cfg, given["classnames"])
    finally:
        if templates:
            trainer_class.templates[:] = templates
    with torch.no_grad():
        return {"text_features": trainer.text_features.detach(), "logits": trainer.model_inference(given["images"])}


def answer(case: dict, given: dict) -> dict:
    cfg = make_cfg(case, given["images"], given["casts"])
    trainer_class = getattr(importlib.import_module(f"trainers.{case['module']}"), case["trainer"])
    torch.manual_seed(0)
    if not case["settings"]:
        return answer_zero_shot(trainer_class, cfg, given)
    trainer = trainer_class(cfg, given["classnames"])
    name, saved = trainer.registered
    if given["casts"] == "fp32" and case["trainer"] == "MaPLe":
        # This layer is in fp16 whatever the setting, so that PREC fp32 ends in an error without this.
        trainer.model.prompt_learner.proj.float()
    trained = {key: parameter for key, parameter in saved.named_parameters() if parameter.requires_grad}
    start = {key: parameter.detach().clone() for key, parameter in trained.items()}
    with torch.no_grad():
        for key, parameter in trained.items():
            # Rows of a projection that is as wide as a tower sum up some 500 prompt entries.
            parameter.normal_(std=0.05 if "proj" in key and parameter.dim() == 2 else SPREAD)
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(given["images"])
    saved.train()
    summary = trainer.forward_backward({"img": given["images"], "label": given["labels"]})
    return {
        "name": name,
        "state_dict": state_of(saved, trained),
        "start": start,
        "logits": logits,
        "loss": summary["loss"],
        "gradients": {key: parameter.grad for key, parameter in trained.items()},
    }


def main(checkout: str, source: str, target: str) -> None:
    sys.path.insert(0, checkout)
    torch.set_num_threads(1)
    given = torch.load(source, weights_only=True)
    if given["casts"] == "none":
        without_half_precision()
    torch.Tensor.cuda = lambda tensor: tensor
    nn.Module.cuda = lambda module: module
    stub_dassl()
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
