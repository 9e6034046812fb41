"""A run goes on after a stop to the same bits, with the objective and settings that it began with and no others."""

from __future__ import annotations

import pytest
import torch
from helpers.runs import assert_same_state, interrupt_in, saved

SRC = "TRAINER.PROMPTSRC."
OWN = ["OPTIM.MAX_EPOCH", "3"]
THREE = [*OWN, f"{SRC}GPA_MEAN", "2"]


# Trainer, options of a run of four epochs, the epoch in which it is stopped.
AVERAGED = [f"{SRC}GPA_MEAN", "3", f"{SRC}GPA_STD", "1.5"]
RUNS = [
    ("BMIP", [], 2),
    ("BMIP", ["TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST_EARLY", "False"], 2),
    ("CoCoOp", ["OPTIM.LR", "0.01"], 1),
    ("CoOp", ["TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "4"], 1),
    ("KgCoOp", ["TRAINER.COOP.CTX_INIT", ""], 1),
    *[("DeCoOp", ["TRAINER.DECOOP.DETECTOR_EPOCHS", "2"], epoch) for epoch in (1, 2, 3)],
    ("CoPrompt", [], 1),
    ("CoPrompt_BMIP", [], 1),
    ("IVLP", ["TRAINER.OBJECTIVE", "consistency"], 1),
    *[("PromptSRC", AVERAGED, epoch) for epoch in (1, 3)],
    ("PromptSRC_BMIP", AVERAGED, 2),
    ("MaPLe", ["TRAINER.OBJECTIVE", "self_regulation", *AVERAGED], 2),
]


@pytest.mark.parametrize("trainer, options, epoch", RUNS, ids=str)
def test_an_interrupted_run_ends_as_the_uninterrupted_one_to_the_bit(
    run_train, tmp_path, monkeypatch, trainer, options, epoch
):
    options = [*options, "OPTIM.MAX_EPOCH", "4"]
    whole = run_train(trainer=trainer, folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch)
    stopped = run_train(trainer=trainer, folder=tmp_path / "stopped", options=options)
    assert stopped.status == 130 and "goes on from the last finished epoch" in stopped.errors
    resumed = run_train(trainer=trainer, folder=tmp_path / "stopped", options=options)
    assert resumed.status == 0, resumed.errors
    assert f"epoch [{epoch + 1}/4]" in resumed.output and f"epoch [{epoch}/4]" not in resumed.output
    assert resumed.losses() and resumed.losses() == whole.losses()[-len(resumed.losses()) :]
    assert_same_state(saved(resumed, 4), saved(whole, 4))
    assert_same_state(resumed.result, whole.result)


def assert_refused_at_last(run, words) -> None:
    """Behind the bar that shows how far the teachers are."""
    assert run.status == 2 and "Traceback" not in run.errors and "epoch [" not in run.output
    message = run.errors[run.errors.index("error: ") :]
    assert not [word for word in words if word not in message]


CHANGED = [
    ("PromptSRC", THREE, [f"{SRC}GPA_MEAN", "3"], "2.0"),
    ("PromptSRC", THREE, ["OPTIM.MAX_EPOCH", "4"], "3"),
    ("CoPrompt", OWN, ["TRAINER.W", "3"], "1.0"),
    ("CoPrompt", OWN, ["TRAINER.DISTILL", "mse"], "'cosine'"),
    ("KgCoOp", OWN, ["TRAINER.COOP.W", "1"], "8.0"),
    ("IVLP", THREE, ["TRAINER.OBJECTIVE", "self_regulation"], "'cross_entropy'"),
    ("IVLP", [*THREE, "TRAINER.OBJECTIVE", "self_regulation"], ["TRAINER.OBJECTIVE", ""], "'self_regulation'"),
]


@pytest.mark.parametrize("trainer, options, change, before", CHANGED, ids=str)
def test_the_checkpoint_itself_tells_its_objective_and_settings(
    run_train, monkeypatch, trainer, options, change, before
):
    interrupt_in(monkeypatch, epoch=1)
    run = run_train(trainer=trainer, options=options)
    (run.folder / "settings.yaml").unlink()  # as in a folder that was copied by hand
    other = run_train(trainer=trainer, options=[*options, *change])
    assert_refused_at_last(other, [f"{change[0]} was {before}", "Set the keys", "train from scratch", "--force"])


@pytest.mark.parametrize("trainer", ["PromptSRC", "CoPrompt", "BMIP"])
def test_a_checkpoint_that_does_not_tell_is_tested_and_resumed_by_cross_entropy_alone(
    run_train, tmp_path, monkeypatch, trainer
):
    interrupt_in(monkeypatch, epoch=1)
    run = run_train(trainer=trainer, options=THREE)
    # As older versions left a run.
    (run.folder / "settings.yaml").unlink()
    for file in run.folder.glob("*/model.pth.tar-*"):
        content = torch.load(file, weights_only=True)
        del content["trainer_state"]["objective_settings"]
        torch.save(content, file)
    flags = "--eval-only", "--model-dir", str(run.folder)
    assert run_train(*flags, trainer=trainer, folder=tmp_path / "eval", options=THREE).status == 0
    resumed = run_train(trainer=trainer, options=THREE)
    if trainer == "BMIP":
        assert resumed.status == 0 and "epoch [2/3]" in resumed.output
    else:
        assert_refused_at_last(resumed, ["does not tell", "TRAINER.OBJECTIVE", "--force"])
