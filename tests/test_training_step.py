"""One training step for trainers and classifier, and what a run without a GPU makes of MODEL.CUDA_GRAPH."""

from __future__ import annotations

from pathlib import Path

from minidassl.own.optim import build_optimizer, optim_settings

import pytest
import torch
from helpers.learners import SETTINGS, make

from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import SettingError
from trainers.prompting.learners.bmip import BMIPLearner
from trainers.prompting.objectives.cross_entropy import CrossEntropy
from trainers.prompting.objectives.objective import OBJECTIVES, Loss
from trainers.prompting.objectives.training_step import TrainingStep

TINY = Path(__file__).parents[1] / "configs" / "trainers" / "BMIP" / "tiny.yaml"
LABELS = torch.tensor([3, 0, 1, 1])


class Counting(CrossEntropy):
    """Draws a factor of the loss before each step."""

    drawn = torch.zeros(())

    def before_step(self):
        self.drawn += 1

    def loss(self, model, views, labels):
        total, logits, _ = super().loss(model, views, labels)
        return Loss(self.drawn * total, logits, {"plain": total})


def step_of(clip_model, classnames, objective=None, **options) -> TrainingStep:
    torch.manual_seed(3)
    model = PromptedCLIP(clip_model, make(clip_model, "BMIP", depth=3), classnames).train()
    optimiser = build_optimizer(model.learner, optim_settings(NAME="sgd", LR=0.05))
    return TrainingStep(model, objective or CrossEntropy(), optimiser, **options)


def test_a_step_returns_loss_accuracy_and_terms_of_the_prompts_before_it(small_clip, images, classnames):
    step = step_of(small_clip, classnames)
    before = [parameter.clone() for parameter in step.parameters]
    logits = step.model(images).detach()
    values = step([images], LABELS)
    torch.testing.assert_close(values["loss"], torch.nn.functional.cross_entropy(logits, LABELS))
    assert values["acc"] == 100 * (logits.argmax(dim=1) == LABELS).float().mean()
    assert any(not torch.equal(*pair) for pair in zip(before, step.parameters))


def test_what_changes_from_step_to_step_is_drawn_before_each(small_clip, images, classnames):
    step = step_of(small_clip, classnames, Counting())
    for number in (1, 2, 3):
        values = step([images], LABELS)
        torch.testing.assert_close(values["loss"], number * values["plain"])


def test_a_test_after_a_step_encodes_its_classes_with_the_new_prompts(small_clip, images, classnames):
    step = step_of(small_clip, classnames)
    with torch.no_grad():
        before = step.model.class_features()
    # The step of a recording: the prompts change, and no forward pass runs.
    step._computed = lambda labels, *views: torch.zeros(2)
    for parameter in step.parameters:
        parameter.grad = torch.ones_like(parameter)
    step.optimizer = torch.optim.Adam(step.parameters, lr=0.5, fused=True)  # raises no version counter
    step([images], LABELS)
    with torch.no_grad():
        after = step.model.class_features()
    assert not torch.allclose(before, after)


def test_recordings_are_for_a_cuda_device(small_clip, images, classnames, run_train):
    assert step_of(small_clip, classnames, graph="auto").records is False
    with pytest.raises(SettingError, match="cuda_graph is on, but the model is not on a CUDA device"):
        step_of(small_clip, classnames, graph="on")
    run = run_train(options=["MODEL.CUDA_GRAPH", "on"])
    assert run.status == 2 and "MODEL.CUDA_GRAPH is on, but" in run.errors and not run.losses()
    run = run_train(options=["MODEL.CUDA_GRAPH", "sometimes"])
    assert run.status == 2 and "auto, on, off" in run.errors


def test_a_test_needs_no_recording_and_yaml_may_say_off(run_train, tmp_path):
    (tmp_path / "off.yaml").write_text(f"_BASE_: {TINY}\nMODEL:\n  CUDA_GRAPH: off\n")
    trained = run_train("--config-file", str(tmp_path / "off.yaml"))
    assert trained.status == 0, trained.errors
    evaluated = run_train(
        *("--eval-only", "--model-dir", str(trained.folder)),
        folder=tmp_path / "tested",
        options=["MODEL.CUDA_GRAPH", "on"],
    )
    assert evaluated.status == 0, evaluated.errors


def test_a_class_says_of_its_own_work_alone_that_it_is_recordable(small_clip):
    class Mine(CrossEntropy):
        pass

    class Learner(BMIPLearner):
        pass

    assert CrossEntropy.recordable and BMIPLearner.recordable
    assert not Mine.recordable and not Learner.recordable
    learners = {name: make(small_clip, name, **SETTINGS.get(name, {})) for name in SETTINGS}
    # UPT draws its dropout.
    assert [name for name, learner in learners.items() if not learner.recordable] == ["UPT"]
    assert all(
        objective.recordable for objective in OBJECTIVES.values() if objective.__module__.startswith("trainers.")
    )
