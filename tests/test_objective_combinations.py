"""Any learner trains by any objective, also by those that users add; what cannot be is refused."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pytest
import torch
from helpers.runs import assert_refused, saved
from torch.nn import functional as F

from trainers.prompting import recipes
from trainers.prompting.declaration import Settings, setting
from trainers.prompting.errors import InputError
from trainers.prompting.methods import METHODS, OBJECTIVES
from trainers.prompting.objectives.objective import Loss, Objective, register_objective

LEARNERS = ["CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe", "BMIP", "HiCroPL", "UPT", "MMRL", "MMRLpp", "BITP", "ProDA"]
OF_ONE = [name for name, objective in OBJECTIVES.items() if objective.only_for]
ANY = [name for name in OBJECTIVES if name not in OF_ONE]
OTHERS = [name for name in ANY if name != "cross_entropy"]
# Trainers with another objective than cross-entropy; of these, the ones that are named after it, as another's prompts
# trained by it, and the ones whose prompts are that other's as they are.
HAVE = {name: method.objective for name, method in METHODS.items() if method.objective != "cross_entropy"}
NAMED = {name: objective for name, objective in HAVE.items() if not METHODS[name].any_objective}
SAME_PROMPTS = [
    name
    for name, method in METHODS.items()
    if name in NAMED and method.prompts != name and method.config is METHODS[method.prompts].config
]
SHORT = ["TRAINER.PROMPTSRC.GPA_MEAN", "1", "TEST.NO_TEST", "True"]


def by(objective: str) -> list[str]:
    return [*SHORT, "TRAINER.OBJECTIVE", objective]


COMBINED = [(t, o) for t in LEARNERS for o in ANY]


@pytest.mark.parametrize("trainer, objective", COMBINED)
def test_every_learner_trains_by_every_objective(run_train, trainer, objective):
    run = run_train(trainer=trainer, options=by(objective))
    assert run.status == 0, run.errors
    lines = [line for line in run.output.splitlines() if line.startswith("epoch [")]
    assert len(lines) >= 4 and len(run.losses()) == len(lines)
    assert all(math.isfinite(float(loss.split()[0])) for loss in run.losses())
    for line in lines:
        words = line.split()
        names = [word for word in words if word.startswith("loss_")]
        assert names[:1] == (["loss_ce"] if objective in OTHERS else [])
        total, *terms = (float(words[words.index(name) + 1]) for name in ("loss", *names))
        if objective == "projected_gradient":  # the other term gives a direction alone
            terms = terms[:1]
        assert not terms or total == pytest.approx(sum(terms), abs=1e-3)
    state = saved(run, 2)["state_dict"]
    assert any(name.startswith("adapters.") for name in state) is (objective == "consistency")
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("trainer", HAVE)
def test_a_trainer_with_an_objective_may_be_told_so(run_train, tmp_path, trainer):
    own = run_train(trainer=trainer, folder=tmp_path / "own", options=SHORT)
    told = run_train(trainer=trainer, folder=tmp_path / "told", options=by(HAVE[trainer]))
    assert own.status == told.status == 0, told.errors
    assert own.losses() == told.losses() and re.search("loss_(text|kl|orthogonality)", own.output)


@pytest.mark.parametrize("trainer", SAME_PROMPTS)
def test_a_trainer_named_after_an_objective_is_its_prompts_trained_by_it(run_train, tmp_path, trainer):
    named = run_train(trainer=trainer, folder=tmp_path / "named", options=SHORT)
    options = [*by(NAMED[trainer]), "TRAINER.W", "1.0", "MODEL.INIT_SEED", "-1"]
    combined = run_train(trainer=METHODS[trainer].prompts, folder=tmp_path / "combined", options=options)
    assert named.losses() == combined.losses()
    first, second = saved(named, 2)["state_dict"], saved(combined, 2)["state_dict"]
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("trainer", HAVE)
def test_a_run_whose_epochs_are_all_done_is_tested_without_its_teachers(run_train, monkeypatch, trainer):
    run = run_train(trainer=trainer, options=SHORT)
    (run.folder / "result.json").unlink()

    def prepare(*_):
        raise AssertionError("the teachers were asked")

    monkeypatch.setattr(OBJECTIVES[HAVE[trainer]], "prepare", prepare)
    again = run_train(trainer=trainer, options=SHORT)
    assert again.status == 0 and again.result["trained"] and "epoch [" not in again.output


@pytest.mark.parametrize("objective", OTHERS)
@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_clip_has_nothing_that_an_objective_could_train(run_train, trainer, objective):
    run = run_train(trainer=trainer, options=by(objective))
    assert_refused(run, ["TRAINER.OBJECTIVE", objective, trainer, "no prompts to train", "choose another trainer"])


def test_zero_shot_clip_may_be_told_the_objective_that_it_has_anyway(run_train):
    options = ["TRAINER.OBJECTIVE", "cross_entropy"]
    assert run_train(trainer="ZeroshotCLIP", options=options).status == 0


@pytest.mark.parametrize(
    "trainer, objective", [(trainer, other) for trainer, own in NAMED.items() for other in ANY if other != own]
)
def test_a_trainer_named_after_an_objective_refuses_another(run_train, trainer, objective):
    words = ["TRAINER.OBJECTIVE", objective, trainer, NAMED[trainer], "leave the key empty", "IVLP", "MaPLe", "BMIP"]
    assert_refused(run_train(trainer=trainer, options=by(objective)), words)


@pytest.mark.parametrize("trainer", ["BMIP", "PromptSRC", "ZeroshotCLIP"])
def test_an_unknown_objective_is_refused_with_the_nearest_one(run_train, trainer):
    run = run_train(trainer=trainer, options=by("self-regulation"))
    assert_refused(run, ["TRAINER.OBJECTIVE", "'self-regulation'", "Do you mean self_regulation?", "docs/METHODS.md"])


# ------------------------------------------------------------------------------------------------ a user's own


@dataclass(frozen=True)
class SmoothedConfig(Settings):
    amount: float = setting(0.1, key="TRAINER.SMOOTHING.AMOUNT", root=True, least=0.0, help="share of all classes")


class Smoothed(Objective):
    name, Config = "smoothed", SmoothedConfig

    def loss(self, model, views, labels):
        logits = model(views[0])
        return Loss(F.cross_entropy(logits, labels, label_smoothing=self.config.amount), logits, {})


@pytest.fixture
def smoothed():
    """An objective as a user adds it, until the end of the test."""
    yield register_objective(Smoothed)
    del OBJECTIVES["smoothed"]
    recipes.OWN_OBJECTIVES.remove("smoothed")


def test_a_users_objective_of_ten_lines_trains_bmip_and_reads_its_own_key(run_train, tmp_path, smoothed):
    plain = run_train(folder=tmp_path / "plain", options=SHORT)
    runs = {
        amount: run_train(
            folder=tmp_path / amount, options=[*by("smoothed"), "TRAINER.SMOOTHING.AMOUNT", amount]
        ).losses()
        for amount in ("0.0", "0.5")
    }
    assert run_train(folder=tmp_path / "default", options=by("smoothed")).status == 0
    assert runs["0.0"] == plain.losses() != runs["0.5"]


def test_a_name_of_an_objective_is_taken_once(smoothed):
    for name in ("smoothed", "consistency"):
        with pytest.raises(InputError, match=f"objective '{name}' already.*cross_entropy"):
            register_objective(type("Another", (Objective,), {"name": name}))
