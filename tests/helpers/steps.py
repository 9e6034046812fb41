"""A training step, or a test, of any method and objective on tensors without data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from minidassl.own.optim import build_optimizer, optim_settings

import torch
from conftest import CLASSNAMES
from torch import Tensor, nn

from experiments.tools.launches import without_data
from helpers.objectives import EQUATIONS
from trainers.prompting.api.recipe import configure
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.methods import METHODS
from trainers.prompting.objectives.cross_entropy import CrossEntropy
from trainers.prompting.objectives.decomposition import Decomposition
from trainers.prompting.objectives.objective import Objective, RunFacts
from trainers.prompting.objectives.prompt_distribution import PromptDistribution
from trainers.prompting.objectives.training_step import TrainingStep

OBJECTIVES = {
    "cross_entropy": CrossEntropy,
    "prompt_distribution": PromptDistribution,
    **{name.replace("-", "_").replace(" ", "_"): make for name, (make, _) in EQUATIONS.items() if "by" not in name},
}
# Those of one method's prompts alone: its two stages.
OF_ONE = {
    "decomposition": lambda: Decomposition(run=RunFacts(epochs=3)),
    "decomposition of sub-classifiers": lambda: Decomposition(run=RunFacts(epochs=1)),
}


@dataclass
class Step:
    """Of a model and an objective; `forget_data` comes first, and `train` is for the CPU."""

    model: PromptedCLIP
    objective: Objective
    batch: int

    def forget_data(self, mode: torch._subclasses.FakeTensorMode, device: str) -> None:
        without_data(self.model, mode, device)
        without_data(self.objective, mode, device)
        side = self.model.clip_model.visual.input_resolution
        self.views = [torch.randn(self.batch, 3, side, side, device=device) for _ in range(self.objective.views)]
        self.labels = torch.zeros(self.batch, dtype=torch.long, device=device)
        self.parameters = list(self.model.learner.parameters())
        if self.parameters and device == "cpu":
            optimizer = build_optimizer(self.parameters, optim_settings(NAME="sgd"))
            self.step = TrainingStep(self.model.train(), self.objective, optimizer)

    def plan(self) -> None:
        """Make what is made once, before the first step."""
        for model in (part for part in self.model.modules() if isinstance(part, PromptedCLIP)):
            model._plans.clear()
            model._kept = None
            model._batches(self.batch if model.learner.conditional else 1)
        if isinstance(self.objective, PromptDistribution):
            self.model._batches(1, len(self.objective.drawn))
            self.objective.nameless._plans.clear()
            self.objective.nameless._batches(1)

    def loss(self) -> Tensor:
        self.objective.before_step()
        return self.objective.loss(self.model.train(), self.views, self.labels).total

    def train(self) -> None:
        """The trainer's step, without reading the loss."""
        self.step(self.views, self.labels)

    @torch.no_grad()
    def test(self) -> Tensor:
        return self.model.eval()(self.views[0])

    @torch.no_grad()
    def encode_images(self) -> Tensor:
        return self.model.encode_image(self.views[0])


def make_step(
    clip_model: nn.Module,
    method: str,
    settings: dict,
    objective: str | None = None,
    precision: str = "fp32",
    classnames: Sequence[str] = CLASSNAMES,
    chunk: int = 0,
    batch: int = 4,
    recipe: str = "tiny",
) -> Step:
    """A step of a method with the settings of a recipe but for `settings`, by its own objective if none is named."""
    clip_model = copy.deepcopy(clip_model)
    learner = METHODS[method].learner(configure(METHODS[method], settings, recipe), clip_model)
    trained_by = {**OBJECTIVES, **OF_ONE}[objective or METHODS[method].objective]()
    trained_by.extend(learner, clip_model)
    cast_matmul_weights(clip_model, PRECISIONS[precision].matmul)
    # What is left on the CPU from here on is left there on a GPU, too.
    model = PromptedCLIP(clip_model.to("meta"), learner.to("meta"), classnames, PRECISIONS[precision], chunk)
    model.to("meta")
    trained_by.prepare(model, classnames)
    return Step(model, trained_by, batch)
