"""Bad values end in one line that names the key, the value and the remedy, before any data is read."""

from __future__ import annotations

import pytest
import torch

PAPER = "TRAINER.BMIP."
BAD_VALUES = [
    (["MODEL.BACKBONE.NAME", "RN50"], ["MODEL.BACKBONE.NAME", "RN50", "ResNet", "ViT-B/16"]),
    (["MODEL.BACKBONE.NAME", "ViT-B/17"], ["MODEL.BACKBONE.NAME", "ViT-B/17", "ViT-B/16", "tiny"]),
    (["INPUT.SIZE", "(224, 224)"], ["INPUT.SIZE", "(224, 224)", "(32, 32)"]),
    ([f"{PAPER}PROMPT_DEPTH", "5"], [f"{PAPER}PROMPT_DEPTH", "5", "1..4"]),
    ([f"{PAPER}PROMPT_DEPTH", "0"], [f"{PAPER}PROMPT_DEPTH", "0", "1 or more"]),
    ([f"{PAPER}N_CTX", "0"], [f"{PAPER}N_CTX", "0", "1 or more"]),
    ([f"{PAPER}VARIANT", "published"], [f"{PAPER}VARIANT", "published", "paper, released"]),
    ([f"{PAPER}AGGREGATION", "mean"], [f"{PAPER}AGGREGATION", "mean", "bmip", "addition", "l2v", "v2l"]),
    (
        [f"{PAPER}AGGREGATION", "joint", f"{PAPER}VARIANT", "released"],
        [f"{PAPER}AGGREGATION", "joint", f"{PAPER}VARIANT"],
    ),
    ([f"{PAPER}GATE.READOUT", "random"], [f"{PAPER}GATE.READOUT", "random", "attention, zero, shuffled"]),
    (
        [f"{PAPER}GATE.READOUT", "zero", f"{PAPER}AGGREGATION", "addition"],
        [f"{PAPER}GATE.READOUT", "zero", "addition", "attention"],
    ),
    ([f"{PAPER}PREC", "fp8"], [f"{PAPER}PREC", "fp8", "fp32", "bf16"]),
    ([f"{PAPER}WEIGHT_THRESHOLD", "0.1"], [f"{PAPER}WEIGHT_THRESHOLD", "0.1", "Remove it"]),
    ([f"{PAPER}CONNECT_METHOD", "exchange"], [f"{PAPER}CONNECT_METHOD", "exchange", "joint", "AGGREGATION"]),
    (
        [f"{PAPER}CONNECT_METHOD", "joint", f"{PAPER}AGGREGATION", "addition"],
        [f"{PAPER}CONNECT_METHOD", f"{PAPER}AGGREGATION", "one of them"],
    ),
    ([f"{PAPER}CTX_INIT", "photo"], ["CTX_INIT", "photo", "N_CTX"]),
    # The prompts would replace the class name: 4 slots, and a side without words to start from.
    ([f"{PAPER}CTX_INIT", "a photo", f"{PAPER}AGGREGATION", "joint"], ["CTX_INIT", "a photo", "N_CTX", "4"]),
    ([f"{PAPER}CTX_INIT", "photo", f"{PAPER}AGGREGATION", "v2l"], ["CTX_INIT", "photo", "N_CTX"]),
    (["TRAIN.PATIENT_COUNT", "0"], ["TRAIN.PATIENT_COUNT", "0", "1 or more"]),
    (["MODEL.CLASS_CHUNK", "-1"], ["MODEL.CLASS_CHUNK", "-1", "number of classes", "0"]),
    (["SEED.X", "1"], ["SEED.X"]),
    ([f"{PAPER}N_CONTEXT", "2"], [f"{PAPER}N_CONTEXT", "Non-existent"]),
    (["OPTIM.MAX_EPOCH", "1.5"], ["OPTIM.MAX_EPOCH", "int", "1.5"]),
    (["OPTIM.LR"], ["OPTIM.LR", "KEY VALUE"]),
    (["TEST.FINAL_MODEL", "best"], ["TEST.FINAL_MODEL", "best", "last_step", "best_val"]),
    (["DATASET.NAME", "Digitss"], ["DATASET.NAME", "Digitss", "Do you mean Digits"]),
]
# What is Dassl's (loaders, optimiser), or concerns the data set, is refused while the run is built.
BAD_LATER = [
    ([f"{PAPER}N_CTX", "80"], ["77 tokens", "the keys of TRAINER.BMIP"]),
    (["OPTIM.NAME", "adamm"], ["OPTIM.NAME", "adamm", "adamw"]),
    (["OPTIM.LR_SCHEDULER", "cos"], ["OPTIM.LR_SCHEDULER", "cos", "cosine"]),
    (["OPTIM.WARMUP_TYPE", "slow"], ["OPTIM.WARMUP_TYPE", "slow", "constant"]),
    (["INPUT.INTERPOLATION", "cubic"], ["INPUT.INTERPOLATION", "cubic", "bicubic"]),
    (["INPUT.TRANSFORMS", "('flip',)"], ["INPUT.TRANSFORMS", "flip", "random_flip"]),
    (["TEST.EVALUATOR", "Regression"], ["TEST.EVALUATOR", "Regression", "Classification"]),
    (["DATALOADER.TRAIN_X.SAMPLER", "Random"], ["SAMPLER", "Random", "RandomSampler"]),
    (["DATASET.SUBSAMPLE_CLASSES", "old"], ["DATASET.SUBSAMPLE_CLASSES", "old", "base", "new", "all"]),
]


@pytest.fixture
def no_data(monkeypatch):
    """Reading a data set is an error of its own."""
    import datasets

    def refuse(*_):
        raise AssertionError("the data set was read")

    monkeypatch.setattr(datasets, "locate", refuse)


def assert_refused(run, words):
    assert run.status == 2
    assert run.errors.startswith("error: ") and "Traceback" not in run.errors
    for word in words:
        assert word in run.errors
    assert not (run.folder / "result.json").exists()


@pytest.mark.parametrize("options, words", BAD_VALUES, ids=lambda value: " ".join(value))
def test_bad_values_are_refused_before_data_is_read(run_train, no_data, options, words):
    assert_refused(run_train(options=options), words)


@pytest.mark.parametrize("options, words", BAD_LATER, ids=lambda value: " ".join(value))
def test_bad_values_are_refused_before_training(run_train, options, words):
    assert_refused(run_train(options=options), words)


def test_a_missing_configuration_file_lists_those_that_exist(run_train, no_data):
    run = run_train("--config-file", "configs/trainers/BMIP/huge.yaml")
    assert run.status == 2 and "huge.yaml" in run.errors and "tiny.yaml" in run.errors


def test_an_unknown_trainer_lists_those_that_exist(run_train, no_data):
    run = run_train("--trainer", "BMIB")
    assert run.status == 2 and "--trainer" in run.errors and "Do you mean BMIP" in run.errors


def test_a_file_that_is_no_clip_is_refused(run_train, no_data, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    run = run_train("--backbone", str(tmp_path / "model.pt"))
    assert run.status == 2 and "MODEL.BACKBONE.NAME" in run.errors and "OpenAI's CLIP layout" in run.errors


def test_an_unknown_precision_of_zero_shot_clip_is_refused(run_train, no_data):
    run = run_train(trainer="ZeroshotCLIP", options=["TRAINER.ZEROSHOTCLIP.PREC", "fp8"])
    assert run.status == 2 and "TRAINER.ZEROSHOTCLIP.PREC" in run.errors and "fp8" in run.errors


def test_a_resnet_by_path_is_refused(run_train, no_data, tmp_path):
    torch.save({"visual.layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "rn.pt")
    run = run_train("--backbone", str(tmp_path / "rn.pt"))
    assert run.status == 2 and "MODEL.BACKBONE.NAME" in run.errors and "a ResNet" in run.errors


CORRUPTIONS = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:500]),
    "not a checkpoint": lambda file: file.write_text("<html>quota exceeded</html>"),
    "of another method": lambda file: torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "epoch": 2}, file),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("mode", ["evaluation", "resuming"])
def test_a_corrupt_or_foreign_checkpoint_is_a_clear_error(run_train, tmp_path, corrupt, mode):
    run = run_train()
    file = run.folder / "MultiModalPromptLearner" / "model.pth.tar-2"
    corrupt(file)
    if mode == "evaluation":
        again = run_train("--eval-only", "--model-dir", str(run.folder), folder=tmp_path / "eval")
    else:
        (run.folder / "result.json").unlink()
        again = run_train()
    assert again.status == 2
    assert str(file) in again.errors and "Traceback" not in again.errors


def test_a_missing_model_names_the_flag(run_train, tmp_path):
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "nothing"))
    assert run.status == 2 and "nothing" in run.errors and "--model-dir" in run.errors


def test_resuming_from_nothing_is_an_error(run_train, tmp_path):
    run = run_train("--resume", str(tmp_path / "nothing"))
    assert run.status == 2 and "nothing" in run.errors and "--resume" in run.errors


def test_a_checkpoint_of_another_prompt_length_names_the_shapes(run_train, tmp_path):
    run = run_train()
    other = run_train(
        "--eval-only", "--model-dir", str(run.folder), folder=tmp_path / "e", options=["TRAINER.BMIP.N_CTX", "3"]
    )
    assert other.status == 2 and "text_prompts has 3 layers of 2 tokens" in other.errors
