"""Run the authors' own trainers in a process of its own: python run_trainers.py CHECKOUT INPUT OUTPUT.

INPUT is a torch file with `views` (two of a batch), `labels`, `classnames`, `casts` (see `comparison.py`) and `cases`,
each a dict of `trainer`, its `module`, the dotted `keys` of its configuration, `names` to set in the module, `clip`
(path of a state dict), the numbers of `views` and of `epochs`, `before_test`, a method of the model, and `engine`,
methods of their Dassl's trainer and the file that has them, from the checkout.

OUTPUT gets an answer to each case, in order. For trained methods it has the `name` that the model is registered under,
the values that the trained tensors had at the `start`, and, with random ones instead, its `state_dict` as it would be
saved (of most frozen tensors only the shapes), the `outputs` of the model in evaluation, logits first, and `loss` and
`gradients` of a training step; or, with epochs, the values at the `end`. For others, `text_features` and `outputs`. A
case that fails has the `error`.

The trainers build, freeze and step themselves; what they take from Dassl is stubbed out.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import random
import sys
import traceback
import types
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch import nn

LOSSES = ("loss", "xe_loss")  # names of the loss that a step returns
# Of layers that are as wide as a tower.
WIDE = ("proj", "single_layer", "exchange", "adapter", "linear_", "ffn")
SPREAD = 0.3  # of the random values; the initial 0.02 would leave prompts without an effect to compare
DRAWN = 1


def without_half_precision() -> None:
    """Make every cast to fp16 do nothing."""
    keep = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        args = [torch.float32 if arg is torch.float16 else arg for arg in args]
        return keep(tensor, *args, **{k: torch.float32 if v is torch.float16 else v for k, v in kwargs.items()})

    torch.Tensor.to = to
    torch.Tensor.half = lambda tensor: tensor
    nn.Module.half = lambda module: module


def stay_on_the_cpu() -> None:
    """Move nothing to a GPU, but part tensors that are views of one, as the move does."""
    keep = nn.Module.to

    def to(module, *args, **kwargs):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
        return keep(module, *args, **kwargs)

    nn.Module.to = to
    nn.Module.cuda = lambda module: module
    torch.Tensor.cuda = lambda tensor: tensor
    for name in ("tensor", "eye"):
        make = getattr(torch, name)
        setattr(torch, name, lambda *args, make=make, device=None, **kwargs: make(*args, **kwargs))
    # As a test draws ours.
    torch.randperm = lambda number, **_: torch.arange(number).flip(0)


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


class Trainer:
    """What the trainers take from Dassl's TrainerX, on the CPU."""

    batch_idx, num_batches = 0, 2  # not the last batch, which would move the schedule on
    device = torch.device("cpu")
    dm: SimpleNamespace  # the data, of which there are the names of the classes

    def __init__(self, cfg: SimpleNamespace):
        self.cfg = cfg
        self.build_model()

    def register_model(self, name: str, model: nn.Module, optim: object, sched: object) -> None:
        self.registered = name, model
        self._models, self._optims = {name: model}, {name: optim}

    def get_model_names(self, names: None) -> list[str]:
        return [*self._models]

    def model_zero_grad(self, names: None) -> None:
        self.optim.zero_grad()

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        assert torch.isfinite(loss).all()

    def model_backward_and_update(self, loss: torch.Tensor) -> None:
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()

    def update_lr(self) -> None:
        pass


def build_optimizer(model: nn.Module, optim: SimpleNamespace) -> torch.optim.Optimizer:
    return torch.optim.SGD([tensor for tensor in model.parameters() if tensor.requires_grad], lr=optim.LR)


def stub_dassl() -> None:
    registry = SimpleNamespace(register=lambda: lambda trainer: trainer)
    names = {
        "dassl": {},
        "dassl.engine": dict(TRAINER_REGISTRY=registry, TrainerX=Trainer),
        "dassl.metrics": dict(compute_accuracy=lambda output, label: torch.zeros(1)),
        "dassl.utils": dict(load_pretrained_weights=None, load_checkpoint=None),
        "dassl.optim": dict(build_optimizer=build_optimizer, build_lr_scheduler=lambda *_: None),
    }
    for name, members in names.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module


def take_engine(methods: dict[str, str]) -> None:
    """Give the trainers methods of the authors' own Dassl, which needs more than there is here to be imported."""
    for name, file in methods.items():
        tree = ast.parse(Path(sys.path[0], file).read_text())
        (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
        names = {"torch": torch}
        exec(compile(ast.Module([found], []), file, "exec"), names)
        setattr(Trainer, name, names[name])


def configuration(keys: dict[str, object], casts: str, images: torch.Tensor) -> SimpleNamespace:
    fixed = {
        "INPUT.SIZE": tuple(images.shape[-2:]),
        "MODEL.BACKBONE.NAME": "ViT-B/16",
        "MODEL.INIT_WEIGHTS": "",
        "TRAINER": SimpleNamespace(),
        "DEVICE": "cpu",
    }
    cfg = SimpleNamespace()
    for key, value in {**fixed, **keys}.items():
        *path, name = key.split(".")
        node = cfg
        for step in path:
            node = vars(node).setdefault(step, SimpleNamespace())
        setattr(node, name, value)
    for node in vars(cfg.TRAINER).values():
        if isinstance(node, SimpleNamespace):
            node.PREC = "fp16" if casts == "fp16" else "fp32"
    return cfg


def fill(trained: dict[str, nn.Parameter]) -> None:
    """Random values that matter."""
    with torch.no_grad():
        for key, parameter in trained.items():
            if "learnable_linear" in key:
                parameter.uniform_(1, 3)
            else:
                # A row sums up some 500 entries.
                wide = parameter.dim() == 2 and any(word in key for word in WIDE)
                parameter.normal_(std=0.05 if wide else SPREAD)


def state_of(saved: nn.Module, trained: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Values of the trained tensors, and of the first frozen ones, which tell one CLIP's; others take no space."""
    return {
        key: value.clone()
        if key in trained or key.endswith("conv1.weight")
        else torch.zeros((), dtype=value.dtype).expand(value.shape)
        for key, value in saved.state_dict().items()
    }


def make_trainer(case: dict, given: dict) -> Trainer:
    cfg = configuration(case["keys"], given["casts"], given["views"][0])
    module = importlib.import_module(f"trainers.{case['module']}")
    # TCP's has a package of its own in the place of the checkout's.
    module.clip._download = lambda url: case["clip"]
    trainer_class = getattr(module, case["trainer"])
    # Zero-shot CLIP's appends to the list of its class, which would grow from case to case.
    templates = list(getattr(trainer_class, "templates", []))
    own_templates = mock.patch.object(trainer_class, "templates", templates, create=True)
    torch.manual_seed(0)
    with mock.patch.dict(vars(module), case["names"]), own_templates:
        return trainer_class(cfg)


def answer(case: dict, given: dict) -> dict:
    trainer = make_trainer(case, given)
    views, labels = given["views"], given["labels"]
    if not hasattr(trainer, "registered"):
        with torch.no_grad():
            return {"text_features": trainer.text_features, "outputs": [trainer.model_inference(views[0])]}
    name, saved = trainer.registered
    if given["casts"] == "fp32":
        # A layer of MaPLe's is in fp16 whatever the setting, so that PREC fp32 ends in an error without this.
        trainer.model.float()
    without_dropout(saved)
    trained = {key: parameter for key, parameter in saved.named_parameters() if parameter.requires_grad}
    start = {key: parameter.detach().clone() for key, parameter in trained.items()}
    fill(trained)
    found = {"name": name, "start": start, "state_dict": state_of(saved, trained)}

    def step(rows: slice) -> dict:
        taken = [view[rows] for view in views[: case["views"]]]
        return trainer.forward_backward({"img": taken if len(taken) > 1 else taken[0], "label": labels[rows]})

    if case["epochs"]:
        saved.train()
        for _ in range(case["epochs"]):
            for batch in range(trainer.num_batches):
                trainer.batch_idx = batch
                step(slice(2 * batch, 2 * batch + 2))
        return {**found, "end": {key: value for key, value in saved.state_dict().items() if key in trained}}
    trainer.model.eval()
    if case["before_test"]:
        getattr(trainer.model, case["before_test"])()
    with torch.no_grad():
        outputs = trainer.model(views[0])
    saved.train()
    losses = step(slice(None))
    loss = next(losses[name] for name in LOSSES if name in losses)
    gradients = {key: parameter.grad for key, parameter in trained.items() if parameter.grad is not None}
    return {
        **found,
        "outputs": outputs if isinstance(outputs, tuple) else [outputs],
        "loss": loss,
        "gradients": gradients,
    }


def main(checkout: str, source: str, target: str) -> None:
    sys.path.insert(0, checkout)
    torch.set_num_threads(1)
    given = torch.load(source, weights_only=True)
    if given["casts"] == "none":
        without_half_precision()
    stay_on_the_cpu()
    stub_dassl()
    Trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=given["classnames"]))
    random.randint = lambda low, high: DRAWN
    from clip import clip

    assert Path(clip.__file__).is_relative_to(Path(checkout)), "another package answers to the name clip"
    answers = []
    for case in given["cases"]:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                take_engine(case["engine"])
                answers.append(answer(case, given))
        except Exception:
            answers.append({"error": traceback.format_exc()})
    torch.save(answers, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
