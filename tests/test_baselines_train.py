"""Every baseline trains, saves its learner alone, serves new classes, and goes on after a stop to the same bits."""

from __future__ import annotations

import math

import pytest
import torch
from test_training import assert_same_state, interrupt_in

CSC = ["TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "4"]
FRONT = ["TRAINER.COOP.CLASS_TOKEN_POSITION", "front"]
HEADS = ["TRAINER.IVLP.HEAD_WIDTH", "8"]
LANGUAGE_ONLY = ["--config-file", "configs/trainers/IVLP/tiny_language_only.yaml"]
# trainer, flags, options, folder, groups of trained tensors
METHODS = {
    "CoOp": ("CoOp", [], [], "prompt_learner", {"text_prompts"}),
    "CoOp class-specific": ("CoOp", [], CSC, "prompt_learner", {"text_prompts"}),
    "CoOp front": ("CoOp", [], FRONT, "prompt_learner", {"text_prompts"}),
    "CoCoOp": ("CoCoOp", [], [], "prompt_learner", {"text_prompts", "meta_net"}),
    "VPT": ("VPT", [], [], "prompt_learner", {"vision_prompts"}),
    "IVLP": ("IVLP", [], [], "VLPromptLearner", {"text_prompts", "vision_prompts"}),
    "IVLP with heads": (
        "IVLP",
        [],
        HEADS,
        "VLPromptLearner",
        {"text_prompts", "vision_prompts", "text_heads", "vision_heads"},
    ),
    "language only": ("IVLP", LANGUAGE_ONLY, [], "VLPromptLearner", {"text_prompts"}),
    "MaPLe": ("MaPLe", [], [], "MultiModalPromptLearner", {"text_prompts", "text_to_vision"}),
}


@pytest.fixture
def train(run_train):
    """Run a method of the table; its checkpoint is in the run's attribute `saved`."""

    def call(method: str, *arguments: str, options=(), **kwargs):
        trainer, flags, settings, folder, _ = METHODS[method]
        run = run_train(*flags, *arguments, trainer=trainer, options=[*settings, *options], **kwargs)
        files = sorted((run.folder / folder).glob("model.pth.tar-*"))
        run.saved = torch.load(files[-1], weights_only=True) if files else None
        return run

    return call


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_saves_its_learner_alone_and_serves_new_classes(train, tmp_path, method):
    run = train(method)
    assert run.status == 0, run.errors
    assert len(run.losses()) == 4 and all(math.isfinite(float(loss.split()[0])) for loss in run.losses())
    assert run.result["trained"] and 0 <= run.result["accuracy"] <= 100
    assert "Finish training" in run.output and run.saved["epoch"] == 2
    assert {key.split(".")[0] for key in run.saved["state_dict"]} == METHODS[method][4]
    assert all(value.dtype == torch.float32 for value in run.saved["state_dict"].values())

    flags = ("--eval-only", "--model-dir", str(run.folder))
    base = train(method, *flags, folder=tmp_path / "base")
    assert base.result["accuracy"] == run.result["accuracy"]
    if method == "CoOp class-specific":
        return  # its contexts belong to the classes that they are trained for
    new = train(method, *flags, folder=tmp_path / "new", options=["DATASET.SUBSAMPLE_CLASSES", "new"])
    assert new.status == 0 and new.result["classes"] == "new", new.errors
    assert "authors' code" not in new.output


@pytest.mark.parametrize("method", METHODS)
def test_every_trained_tensor_moves(train, tmp_path, method):
    options = ["OPTIM.WARMUP_EPOCH", "0", "TEST.NO_TEST", "True"]
    still, moved = (
        train(method, folder=tmp_path / rate, options=[*options, "OPTIM.LR", rate]).saved["state_dict"]
        for rate in ("0.0", "0.1")
    )
    assert still.keys() == moved.keys()
    for key, value in still.items():
        assert not torch.equal(value, moved[key]), key


def test_contexts_of_classes_are_not_tested_on_another_number_of_them(train, tmp_path):
    run = train("CoOp class-specific", options=["TEST.NO_TEST", "True"])
    flags = ("--eval-only", "--model-dir", str(run.folder))
    other = train("CoOp class-specific", *flags, folder=tmp_path / "all", options=["DATASET.SUBSAMPLE_CLASSES", "all"])
    assert other.status == 2
    for part in ("model.pth.tar-2", "5 classes, each 4 tokens", "expected 1 layer of 10 classes", "TRAINER.COOP"):
        assert part in other.errors


@pytest.mark.parametrize("method", ["CoCoOp", "CoOp class-specific"])
def test_an_interrupted_run_ends_as_the_uninterrupted_one_to_the_bit(train, tmp_path, monkeypatch, method):
    options = ["OPTIM.MAX_EPOCH", "3", "OPTIM.LR", "0.01"]
    whole = train(method, folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch=1)
    stopped = train(method, folder=tmp_path / "stopped", options=options)
    assert stopped.status == 130 and stopped.saved["epoch"] == 1
    resumed = train(method, folder=tmp_path / "stopped", options=options)
    assert "epoch [2/3]" in resumed.output and "epoch [1/3]" not in resumed.output
    assert resumed.losses() == whole.losses()[-4:]
    for part in ("state_dict", "optimizer", "scheduler", "rng", "epoch"):
        assert_same_state(resumed.saved[part], whole.saved[part])
    assert resumed.result["accuracy"] == whole.result["accuracy"]


@pytest.mark.parametrize("method", ["CoCoOp", "CoOp class-specific"])
def test_the_same_seed_gives_the_same_run_to_the_bit(train, tmp_path, method):
    first, second = (train(method, folder=tmp_path / name, options=["TEST.NO_TEST", "True"]) for name in "12")
    assert first.losses() == second.losses()
    assert_same_state(first.saved["state_dict"], second.saved["state_dict"])
    other = train(method, folder=tmp_path / "3", options=["TEST.NO_TEST", "True", "SEED", "2"])
    assert other.losses() != first.losses()


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_clip_trains_nothing_and_needs_no_model(run_train, tmp_path, trainer):
    run = run_train(trainer=trainer)
    assert run.status == 0 and "nothing to train" in run.output and not list(run.folder.glob("*/model*"))
    again = run_train("--eval-only", trainer=trainer, folder=tmp_path / "again")
    assert again.result["accuracy"] == run.result["accuracy"]
