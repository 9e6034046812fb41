"""Our methods beside their authors' code: the same weights and the same batch, for a training step of each.

**An adapter** is a file of `adapters/`, found by itself: a function that makes a `Case` out of a method's settings,
and CASES, the settings to compare. Of a trainer of CoOp's kind a case says where it is, and the configuration keys of
both sides; the other fields are for methods that need them. `adapters/kgcoop.py` is an example. The tests of
`test_methods_match_upstream.py` run every case:

* `theirs(case)` is the answer of the authors' code, by `run_trainers.py`, which builds, freezes and steps as their own
  trainer does, with random values in the trained tensors;
* `build(case)` is our model with our objective, which those values are loaded into by the method's `PublishedLayout`.

Their code rounds to half precision in ways that this project does not, so each case says which of their `casts` act:

* `none`: no cast, so that results agree as fp32 lets them;
* `fp32`: those that PREC fp32 leaves in their code, with the same roundings put into our prompts;
* `fp16`: their setting and ours, where only rough agreement can be asked for.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import math
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import CLASSNAMES, make_clip
from helpers.upstream import root
from torch import Tensor, nn

import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import default_cfg
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import PromptLearner, Readout, TowerPrompts
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.declaration import Method
from trainers.prompting.objectives.objective import Objective

trainers.register_all()
RUNNER = Path(__file__).with_name("run_trainers.py")
ADAPTERS = Path(__file__).with_name("adapters")

WORDS = "a photo of a"
LABELS = torch.tensor([0, 1, 2, 3])
RATE = 0.1
# MaPLe's deep text prompts are 512 wide and its vision prompts 768, whatever the checkpoint.
SIZES = dict(transformer_width=512, transformer_heads=8, vision_width=768, embed_dim=128)
# Largest difference in proportion to the largest value, of logits, loss and terms, and of each gradient; and mean
# difference of each gradient in proportion to its mean. Where a gradient is rounded to fp16 at the same place in both,
# a difference of 1e-7 before it can become one of 2^-10 after it, but does so for few values, which the mean shows.
LIMITS = {"none": (1e-5, 1e-5, 1e-5), "fp32": (1e-5, 2e-3, 5e-5), "fp16": (1e-2, 2e-2, 1e-2)}


@dataclass(frozen=True)
class Case:
    """Settings of a method, in which its authors' code and ours are compared.

    Attributes:
        trainer: name of our trainer, and class of the authors' unless `theirs_name` is that.
        module: its file in `trainers` of their repository.
        checkout: name of the repository; the environment variable <CHECKOUT>_ROOT names its folder.
        keys: dotted configuration keys of both; none for a method without training.
        ours, theirs: further keys that one of them has.
        dataset: registered name.
        casts: as above.
        sizes: of CLIP, where others than SIZES.
        views: number of views that their trainer takes of an image.
        epochs: whole epochs of two steps each, in place of a single step.
        from_words: the first text prompts start as words.
        regularised: the loss has more than cross-entropy.
        tests_apart: a test gives other logits than a training step, which comes after it: a forward pass changes the
            prompts, or a step has some of them.
        before_test: name of a method of their model that prepares it for a test, where no code of theirs calls it.
        faint: some gradients are near 0, where half precision says nothing.
        logits: place of the logits that ours has in training among what their model returns.
        scale: of their logits, where it is a number in their code; CLIP has it then.
        terms: names of ours for what their model returns beside logits, with the weights in the loss.
        names: values of names in their module.
        engine: methods that they added to Dassl's trainer, and the file that has them, from the checkout.
        files: content of files in the folder that their code runs in, by path.
        patches: values of dotted names in our code, where it differs from theirs on purpose.
        limits: in place of LIMITS.
    """

    trainer: str
    module: str
    checkout: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "EuroSAT"
    casts: str = "none"
    sizes: Mapping[str, int] = field(default_factory=dict)
    views: int = 1
    epochs: int = 0
    from_words: bool = False
    regularised: bool = False
    tests_apart: bool = False
    before_test: str = ""
    faint: bool = False
    logits: int = 0
    scale: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[float, float, float] | None = None
    theirs_name: str = ""

    def __str__(self) -> str:
        settings = {**self.keys, **self.ours, **self.theirs}.items()
        words = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in settings]
        return " ".join([f"{self.checkout}-{self.casts}-{self.trainer}", self.dataset, *words])

    @property
    def clip_model(self) -> nn.Module:
        return _clip_of(self.scale, **self.sizes)

    @property
    def method(self) -> Method:
        return TRAINER_REGISTRY.get(self.trainer).method

    def translate(self, tensors: Mapping[str, Tensor], learner: PromptLearner) -> dict[str, Tensor]:
        """Tensors under our names."""
        return self.method.layout.translate_for(tensors, learner)[0]


def under(node: str, **keys: Any) -> dict[str, Any]:
    """Keys of a configuration node."""
    return {f"{node}.{key}": value for key, value in keys.items()}


@functools.cache
def all_cases() -> list[Case]:
    names = [module.name for module in pkgutil.iter_modules([str(ADAPTERS)])]
    return [case for name in names for case in importlib.import_module(f"adapters.{name}").CASES]


@functools.cache
def _clip_of(scale: float | None, **sizes: int) -> nn.Module:
    """Its weights are such that fp16 represents: upstream rounds them on loading, as OpenAI's files are rounded."""
    model = make_clip(**{**SIZES, **sizes})
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    if scale is not None:
        model.logit_scale.fill_(math.log(scale))
    return model


@functools.cache
def views() -> list[Tensor]:
    """Two of a batch."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 32, 32, generator=generator).half().float() for _ in range(2)]


# ---------------------------------------------------------------------------------------------------------- theirs


def theirs(case: Case) -> dict[str, Any]:
    """The authors' answer to a case, as `run_trainers.py` describes it; without their code the test is skipped."""
    root(case.checkout)
    answer = _answers(case.checkout, case.casts)[_together(case.checkout, case.casts).index(case)]
    assert "error" not in answer, answer["error"]
    return answer


def _together(checkout: str, casts: str) -> list[Case]:
    return [case for case in all_cases() if (case.checkout, case.casts) == (checkout, casts)]


@functools.cache
def _answers(checkout: str, casts: str) -> list[dict[str, Any]]:
    """One process answers all cases of a checkout and its casts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [_question(case, folder) for case in _together(checkout, casts)]
        given = dict(views=views(), labels=LABELS, classnames=CLASSNAMES, casts=casts, cases=cases)
        torch.save(given, folder / "input")
        # Without -B, Python would write into the checkout.
        command = [sys.executable, "-B", RUNNER, root(checkout).resolve(), folder / "input", folder / "output"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr[-4000:]
        return torch.load(folder / "output", weights_only=True)


def _question(case: Case, folder: Path) -> dict[str, Any]:
    clip = folder / f"clip {case.scale} {dict(case.sizes)}"
    torch.save(case.clip_model.state_dict(), clip)
    for path, content in case.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content)
    keys = {**_common(case), "OPTIM.LR": RATE, **case.keys, **case.theirs}
    question = dict(trainer=case.theirs_name or case.trainer, module=case.module, views=case.views, epochs=case.epochs)
    question["before_test"] = case.before_test
    return {**question, "clip": str(clip), "keys": keys, "names": dict(case.names), "engine": dict(case.engine)}


def _common(case: Case) -> dict[str, Any]:
    return {"DATASET.NAME": case.dataset, "OPTIM.MAX_EPOCH": case.epochs or 20}


# ------------------------------------------------------------------------------------------------------------ ours


def build(case: Case) -> tuple[PromptedCLIP, Objective]:
    """Our model and objective, as our trainer builds them out of the same settings."""
    clip_model = case.clip_model
    cfg = default_cfg()
    cfg.TRAINER.NAME = case.trainer
    settings = {**_common(case), **case.keys, **case.ours}
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    precision = PRECISIONS["fp16" if case.casts == "fp16" else "fp32"]
    if case.casts == "fp16":
        clip_model = copy.deepcopy(clip_model)
        cast_matmul_weights(clip_model, precision.matmul)
    torch.manual_seed(0)
    learner, objective = TRAINER_REGISTRY.get(case.trainer).build_parts(cfg, clip_model)
    if case.casts == "fp32":
        _round_as_upstream(learner)
    return PromptedCLIP(clip_model, learner, CLASSNAMES, precision).train(), objective


def _round_as_upstream(learner: PromptLearner) -> None:
    """Round to fp16, on the way in and its gradient on the way back, what upstream casts even in PREC fp32.

    That is all prompts that enter inside the towers, for each class or image apart; the first text prompts are part
    of the sentence's embedding, which stays in fp32.
    """

    def rounded(prompts: TowerPrompts | None, first: int) -> TowerPrompts | None:
        def at(layer: int, readout: Readout) -> Tensor:
            tokens = prompts.at(layer, readout)
            if layer < first:
                return tokens
            rows = readout.total if readout.samples is None else len(readout.samples)
            return tokens.expand(rows, -1, -1).half().float()

        return None if prompts is None else dataclasses.replace(prompts, at=at)

    text, vision = learner.text, learner.vision
    learner.text = lambda image_features=None: rounded(
        text() if image_features is None else text(image_features), first=1
    )
    learner.vision = lambda: rounded(vision(), first=0)


# --------------------------------------------------------------------------------------------------------- compared


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Largest difference: absolute, and in proportion to their largest value."""
    assert ours.shape == theirs.shape
    found = (ours.detach() - theirs.float()).abs().max().item()
    return found, found / theirs.float().abs().max().item()


def mean_difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().mean() / theirs.abs().mean()).item()
