"""Infinite and undefined numbers end a run with their place; none is saved, resumed, tested or recorded in silence."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.runs import interrupt_in

from trainers.base import PromptTrainer
from trainers.records import write_result


def spoil(path, value: float = math.nan) -> None:
    """Put a number that is none into a checkpoint's weights."""
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] = value
    torch.save(content, path)


def file_of(run, epoch: int):
    (file,) = run.folder.glob(f"*/model.pth.tar-{epoch}")
    return file


def test_weights_that_the_last_step_spoilt_are_not_saved_tested_or_recorded(run_train, monkeypatch):
    step = PromptTrainer.forward_backward

    def spoilt(trainer, batch):
        shown = step(trainer, batch)
        if (trainer.epoch, trainer.batch_idx) == (1, trainer.num_batches - 1):
            next(trainer.learner.parameters()).data.view(-1)[0] = math.nan
        return shown

    monkeypatch.setattr(PromptTrainer, "forward_backward", spoilt)
    run = run_train()
    assert run.status == 2 and "Traceback" not in run.errors
    assert "not finite after epoch 2" in run.errors and "OPTIM.LR" in run.errors
    assert not list(run.folder.glob("*/model.pth.tar-2")) and not (run.folder / "result.json").exists()
    # The same command, with the fault gone, goes on from the first epoch.
    monkeypatch.setattr(PromptTrainer, "forward_backward", step)
    again = run_train()
    assert again.status == 0 and "epoch [2/2]" in again.output and "epoch [1/2]" not in again.output


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_restart_takes_the_newest_finite_checkpoint(run_train, monkeypatch, value):
    options = ["OPTIM.MAX_EPOCH", "4", "TRAIN.CHECKPOINT_FREQ", "1"]
    interrupt_in(monkeypatch, epoch=3)
    run = run_train(options=options)
    for epoch in (2, 3):
        spoil(file_of(run, epoch), value)
    again = run_train(options=options)
    assert again.status == 0, again.errors
    assert "epoch [2/4]" in again.output and "epoch [1/4]" not in again.output
    assert "model.pth.tar-3 has weights that are not finite" in again.output


def test_a_spoilt_checkpoint_is_not_tested(run_train, tmp_path):
    run = run_train()
    spoil(file_of(run, 2))
    test = run_train("--eval-only", "--model-dir", str(run.folder), folder=tmp_path / "test")
    assert test.status == 2 and "not finite" in test.errors and "model.pth.tar-2" in test.errors
    assert not (test.folder / "result.json").exists()


def test_logits_that_are_no_numbers_end_a_test_without_a_record(run_train, tmp_path, monkeypatch):
    monkeypatch.setattr(PromptTrainer, "model_inference", lambda trainer, images: trainer.model(images) * math.nan)
    run = run_train("--eval-only", trainer="ZeroshotCLIP", folder=tmp_path / "test")
    assert run.status == 2 and "logits" in run.errors and "Traceback" not in run.errors
    assert not (run.folder / "result.json").exists()


def test_a_record_never_holds_numbers_that_json_does_not_have(tmp_path):
    with pytest.raises(ValueError):
        write_result(tmp_path, {"accuracy": math.nan})
    assert not list(tmp_path.iterdir())
    write_result(tmp_path, {"accuracy": 50.0})
    assert json.loads((tmp_path / "result.json").read_text()) == {"accuracy": 50.0}
