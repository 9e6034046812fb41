"""Every method serves new classes after training, and all of its saved tensors have moved."""

from __future__ import annotations

import pytest
import torch
from helpers.runs import assert_refused, saved

from trainers.config import default_cfg
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.openai_clip import clip
from trainers.zsclip import ZeroshotCLIP

CSC = ["TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "4"]
# Trainer and options; their files, tensors and losses are golden data.
METHODS = [
    ("CoOp", []),
    ("CoOp", CSC),
    ("CoOp", ["TRAINER.COOP.CLASS_TOKEN_POSITION", "front"]),
    ("CoCoOp", []),
    ("VPT", []),
    ("IVLP", ["TRAINER.IVLP.HEAD_WIDTH", "8"]),
    ("MaPLe", []),
    ("BMIP", []),
    ("MMA", []),
    ("MMA_BMIP", []),
    ("TCP", []),
    ("MMRL", []),
    ("MMRLpp", []),
]


@pytest.mark.parametrize("trainer, options", METHODS, ids=str)
def test_it_trains_all_its_tensors_and_serves_new_classes(run_train, tmp_path, trainer, options):
    still = ["OPTIM.WARMUP_EPOCH", "0", "OPTIM.LR", "0.0", "TEST.NO_TEST", "True"]
    start = saved(run_train(trainer=trainer, folder=tmp_path / "still", options=[*options, *still]), 2)["state_dict"]
    run = run_train(trainer=trainer, options=[*options, "OPTIM.WARMUP_EPOCH", "0", "OPTIM.LR", "0.1"])
    assert run.status == 0, run.errors
    state = saved(run, 2)["state_dict"]
    assert [key for key, value in start.items() if torch.equal(value, state[key])] == []
    assert all(value.dtype == torch.float32 for value in state.values())

    def test(classes: str):
        flags = ("--eval-only", "--model-dir", str(run.folder))
        chosen = [*options, "DATASET.SUBSAMPLE_CLASSES", classes]
        return run_train(*flags, trainer=trainer, folder=tmp_path / classes, options=chosen)

    assert test("base").result["accuracy"] == run.result["accuracy"]
    if options == CSC:  # contexts belong to the classes that they are trained for
        words = ("model.pth.tar-2", "5 contexts, each 4 tokens", "expected 1 layer of 10 contexts", "TRAINER.COOP")
        return assert_refused(test("all"), words)
    new = test("new")
    assert new.status == 0 and new.result["classes"] == "new" and "authors' code" not in new.output


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_clip_trains_nothing_and_needs_no_model(run_train, tmp_path, trainer):
    run = run_train(trainer=trainer)
    assert run.status == 0 and "nothing to train" in run.output and not list(run.folder.glob("*/model*"))
    again = run_train("--eval-only", trainer=trainer, folder=tmp_path / "again")
    assert again.result["accuracy"] == run.result["accuracy"]


def test_the_logits_of_zero_shot_clip_are_those_of_the_unmodified_clip(run_train, seen):
    assert run_train("--eval-only", trainer="ZeroshotCLIP").status == 0
    ((images, logits),) = seen
    tokens = clip.tokenize([f"a photo of a {name}." for name in ("zero", "one", "two", "three", "four")])
    with torch.no_grad():
        torch.testing.assert_close(logits, load_clip("tiny")(images, tokens)[0], rtol=1e-4, atol=1e-4)


def test_zero_shot_clip_says_the_sentence_of_the_data_set():
    cfg = default_cfg()
    cfg.DATASET.NAME = "EuroSAT"
    assert ZeroshotCLIP.settings(cfg).templates == ("a centered satellite photo of {}.",)
