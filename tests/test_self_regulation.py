"""Self-regulation: its teacher, and the prompts that are the Gaussian average over the epochs."""

from __future__ import annotations

import copy
import hashlib

import naive_objectives as naive
import pytest
import torch
from helpers.learners import SETTINGS, make
from helpers.runs import assert_same_state, saved

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import EIGHTY, SIXTY
from trainers.prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig, gaussian_weights

# ------------------------------------------------------------------------------------------------ the teacher


@pytest.mark.parametrize("sentences, digest", [(SIXTY, "8f771e15e049b36e"), (EIGHTY, "a8a4822f2921936e")])
def test_the_teachers_sentences_are_letter_by_letter_those_of_the_authors_files(sentences, digest):
    # Of PromptSRC's and of BMIP's imagenet_templates.py; they are averaged, so that their order is free.
    assert hashlib.sha256("\n".join(sorted(sentences)).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("precision", ["bf16", "fp16", "amp"])
def test_the_text_teacher_computes_in_fp32_whatever_the_towers_do(small_clip, classnames, precision):
    towers, precision = copy.deepcopy(small_clip), PRECISIONS[precision]
    cast_matmul_weights(towers, precision.matmul)
    objective = SelfRegulation(SelfRegulationConfig())
    objective.prepare(
        PromptedCLIP(towers, make(towers, "IVLP", **SETTINGS["IVLP"]), classnames, precision), classnames
    )
    # Of the weights as the towers store them, which bf16 has rounded before.
    expected = [naive.averaged_sentences(copy.deepcopy(towers).float(), name, SIXTY) for name in classnames]
    torch.testing.assert_close(objective.teacher_text, torch.stack(expected), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ the Gaussian


def test_three_epochs_around_the_second_have_the_weights_worked_out_by_hand():
    # exp(-1/2) = 0.606531 on both sides of 1, in all 2.213061.
    assert gaussian_weights(3, mean=2, std=1) == pytest.approx([0.2740686, 0.4518628, 0.2740686], abs=1e-7)


def test_the_mean_may_lie_at_the_edge_or_between_two_epochs():
    # 1, exp(-1/8) = 0.882497 and exp(-1/2) = 0.606531, in all 2.489028.
    assert gaussian_weights(3, mean=1, std=2) == pytest.approx([0.4017633, 0.3545550, 0.2436818], abs=1e-6)
    assert gaussian_weights(2, mean=1.5, std=1) == [0.5, 0.5]


@pytest.mark.parametrize("mean", [1, 3.4, 7, 20])
@pytest.mark.parametrize("std", [0.01, 1e-6, 1, 100])
def test_the_weights_sum_to_one_and_are_largest_at_the_mean_however_narrow_the_gaussian_is(mean, std):
    weights = gaussian_weights(20, mean, std)
    assert len(weights) == 20 and sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert weights.index(max(weights)) + 1 == round(mean)


# ------------------------------------------------------------------------------------------------ whole runs

RUNS = {
    "PromptSRC": ("PromptSRC", []),
    "MaPLe": ("MaPLe", ["TRAINER.OBJECTIVE", "self_regulation"]),
}
FOUR_EPOCHS = ["OPTIM.MAX_EPOCH", "4", "TRAINER.PROMPTSRC.GPA_MEAN", "3", "TRAINER.PROMPTSRC.GPA_STD", "1.5"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_in_the_weighted_sum_of_its_epochs_which_are_those_of_plain_training(
    run_train, tmp_path, monkeypatch, name
):
    trainer, options = RUNS[name]
    options = [*options, *FOUR_EPOCHS, "TRAIN.CHECKPOINT_FREQ", "1"]
    run = run_train(trainer=trainer, folder=tmp_path / "run", options=options)
    assert run.status == 0, run.errors
    with monkeypatch.context() as patch:
        patch.setattr(SelfRegulation, "end_epoch", lambda *_: None)
        plain = run_train(trainer=trainer, folder=tmp_path / "plain", options=options)
    assert run.losses() == plain.losses()
    states = [saved(plain, epoch)["state_dict"] for epoch in (1, 2, 3, 4)]
    for epoch in (1, 2, 3):
        assert_same_state(saved(run, epoch)["state_dict"], states[epoch - 1])
    average = saved(run, 4)["state_dict"]
    expected = naive.weighted_sum(states, mean=3, std=1.5)
    assert average.keys() == expected.keys()
    moved = 0
    for key, value in average.items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-6, atol=1e-7)
        moved += not torch.allclose(value, states[-1][key], rtol=1e-6, atol=1e-7)
    assert moved == len(average), "the average of some tensors is their last value"


def test_the_test_after_training_is_that_of_the_average(run_train, tmp_path):
    options = ["TRAINER.PROMPTSRC.GPA_MEAN", "1", "OPTIM.LR", "0.05"]
    run = run_train(trainer="PromptSRC", options=options)
    again = run_train(
        *("--eval-only", "--model-dir", str(run.folder)),
        trainer="PromptSRC",
        folder=tmp_path / "eval",
        options=options,
    )
    assert again.result["weights_hash"] == run.result["weights_hash"]
    assert again.result["accuracy"] == run.result["accuracy"]
