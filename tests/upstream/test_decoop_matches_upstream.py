"""DeCoOp trains, finds its threshold and routes as its authors' code does, over both stages.

DECOOP_ROOT names their checkout; they use no Dassl. Both start from the same contexts and see the same batches.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import CLASSNAMES, SMALL, make_clip
from helpers.upstream import root
from torch import Tensor

from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.decoop import DeCoOpConfig, DeCoOpLearner, membership
from trainers.prompting.objectives.decomposition import Decomposition, DecompositionConfig
from trainers.prompting.objectives.objective import RunFacts
from trainers.prompting.objectives.training_step import TrainingStep

RUNNER = Path(__file__).with_name("run_decoop.py")
BASE = [*CLASSNAMES, "river", "oak tree"]
NEW = ["moon", "a_city at night", "bridge", "hut"]
EPOCHS = (3, 10)  # the rate of no epoch's last step is 0
RATE = 0.05
MARGIN = 0.4
AFTER_STEPS = 5e-5  # of tensors at the end of up to 39 steps
CASES = [(7, 3), (5, 3), (6, 3), (4, 2)]  # numbers of base classes, and of detectors


@functools.cache
def clip_model() -> torch.nn.Module:
    model = make_clip()
    model.logit_scale.fill_(4.0)
    return model


def batches(classes: int, number: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of two images of each class: images of a class are alike."""
    generator = torch.Generator().manual_seed(seed)
    of_classes = torch.randn(classes, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(classes).repeat(2)
    found = []
    for _ in range(number):
        noise = torch.randn(2 * classes, 3, 32, 32, generator=generator)
        found.append((of_classes[labels] + noise, labels))
    return found


class Both:
    """Their answer and our run to one case."""

    def __init__(self, base: int, number: int):
        names = BASE[:base]
        self.everything = [*names, *NEW]
        self.training, self.test = batches(base, 3, 1), batches(len(self.everything), 2, 2)
        torch.manual_seed(5)
        self.learner = DeCoOpLearner(DeCoOpConfig(length=4, number=number), clip_model())
        with torch.no_grad():
            for parameter in self.learner.parameters():
                parameter.normal_(std=0.3)
        self.theirs = self._theirs(names, number)
        self._ours(names)

    def contexts(self, kind: str) -> list[Tensor]:
        return [one.text_prompts["0"].detach().clone() for one in getattr(self.learner, kind)]

    def _theirs(self, names: list[str], number: int) -> dict:
        given = dict(
            sizes=SMALL,
            clip=clip_model().state_dict(),
            classnames=self.everything,
            base=names,
            training=self.training,
            test=self.test,
            contexts={kind: self.contexts(kind) for kind in ("detectors", "classifiers")},
            settings={"K": number, "n_ctx": 4, "lr": RATE, "ood_margin": MARGIN},
            epochs=EPOCHS,
        )
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("input", "output")]
            torch.save(given, files[0])
            command = [sys.executable, "-B", RUNNER, root("DeCoOp").resolve(), *files]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            assert done.returncode == 0, done.stderr[-4000:]
            return torch.load(files[1], weights_only=True)

    def _ours(self, names: list[str]) -> None:
        model = PromptedCLIP(clip_model(), self.learner, names).train()
        config = DecompositionConfig(margin=MARGIN, detector_epochs=EPOCHS[0])
        objective = Decomposition(config, RunFacts(epochs=sum(EPOCHS)))
        objective.training_images = lambda: (images for images, _ in self.training)
        objective.prepare(model, names)
        step = TrainingStep(model, objective, torch.optim.SGD(self.learner.parameters(), lr=RATE))
        self.losses, self.gradients = [], []
        for epoch in range(1, sum(EPOCHS) + 1):
            kind = "classifiers" if objective.stage else "detectors"
            terms = [step([images], labels) for images, labels in self.training]
            self.losses.append({name: sum(one[name].item() for one in terms) / len(terms) for name in terms[0]})
            # Theirs are those before the rate, ours after it.
            gradients = (one.text_prompts["0"].grad for one in getattr(self.learner, kind))
            self.gradients.append([gradient / objective.rate for gradient in gradients])
            objective.end_epoch(self.learner, epoch)
            if epoch == EPOCHS[0]:
                self.detectors = self.contexts("detectors")
                self.scores = torch.cat([objective._scores(model.frozen_features(x)) for x, _ in self.training])
        self.classifiers = self.contexts("classifiers")
        model.eval().set_classes(self.everything)
        with torch.no_grad():
            images = torch.cat([images for images, _ in self.test])
            features, scale = model.frozen_features(images), model.clip_model.logit_scale.exp()
            self.probabilities = model(images).softmax(dim=1)
            logits = scale * torch.einsum("be,kce->bkc", features, model.router.detector_features())
            self.test_scores = membership(logits, model.router.own_number)
            model.set_classes(NEW)
            self.among_new = model(images)


both = functools.cache(Both)


def stacked(values) -> Tensor:
    return torch.stack([stacked(one) for one in values]) if isinstance(values, list) else torch.as_tensor(values)


def close(ours, theirs, tolerance: float = 1e-5) -> float:
    """The largest difference in proportion to the largest value of theirs, which is within a tolerance."""
    ours, theirs = stacked(ours).double(), stacked(theirs).double()
    found = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert ours.shape == theirs.shape and found < tolerance
    return found


@pytest.mark.parametrize("base, number", CASES)
def test_both_stages_the_threshold_and_the_routing_are_theirs(base, number):
    case = both(base, number)
    theirs, first = case.theirs, EPOCHS[0]
    detecting, classifying = case.losses[:first], case.losses[first:]
    found = {
        "detectors' loss": close([[x["loss_ce"], x["loss_margin"]] for x in detecting], theirs["detector_losses"]),
        "their gradients": close(case.gradients[:first], theirs["detector_gradients"], AFTER_STEPS),
        "their contexts": close(case.detectors, theirs["detectors"]),
        "scores": close(case.scores, theirs["scores"], AFTER_STEPS),
        # Of 256 bins, so that scores at the edge of one may move it.
        "threshold": close(case.learner.threshold.item(), theirs["threshold"]),
        "sub-classifiers' loss": close([x["loss"] for x in classifying], theirs["classifier_losses"]),
        "gradients": close(case.gradients[first:], theirs["classifier_gradients"], AFTER_STEPS),
        "contexts": close(case.classifiers, theirs["classifiers"]),
        "probabilities": close(case.probabilities, theirs["probabilities"]),
        "test scores": close(case.test_scores, theirs["test_scores"], AFTER_STEPS),
    }
    print(f"\n{base} base classes, K = {number}:", ", ".join(f"{name} {value:.1e}" for name, value in found.items()))
    # What makes them comparable: both terms act in both stages, and images go both ways.
    assert all(x["loss_margin"] > 0.01 for x in detecting) and all(x["loss_kl"] > 1e-4 for x in classifying)
    accepted = (case.test_scores >= theirs["threshold"]).sum(dim=1)
    assert 0 in accepted and accepted.any()
    moved = [(one - other).abs().max() for one, other in zip(case.detectors, case.contexts("classifiers"))]
    assert min(moved) > 1e-3


@pytest.mark.parametrize("base, number", CASES)
def test_new_classes_alone_are_told_apart_as_theirs_are_among_all(base, number):
    case = both(base, number)
    new = case.theirs["probabilities"][:, base:].argmax(dim=1)
    assert torch.equal(case.among_new.argmax(dim=1), new) and len(new.unique()) > 1
