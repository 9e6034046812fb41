"""Bad values end in one line that names the key, the value and the remedy, before any data is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import assert_refused

from trainers.prompting.errors import InputError
from trainers.prompting.objectives.objective import RunFacts
from trainers.prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig

PAPER = "TRAINER.BMIP."
SRC, CO = "TRAINER.PROMPTSRC.", "TRAINER.CoPrompt."
MEAN = [f"{SRC}GPA_MEAN", "1"]
BAD_VALUES = [
    (["MODEL.BACKBONE.NAME", "RN50"], ["MODEL.BACKBONE.NAME", "RN50", "ResNet", "ViT-B/16"]),
    (["MODEL.BACKBONE.NAME", "ViT-B/17"], ["MODEL.BACKBONE.NAME", "ViT-B/17", "ViT-B/16", "tiny"]),
    (["INPUT.SIZE", "(224, 224)"], ["INPUT.SIZE", "(224, 224)", "(32, 32)"]),
    ([f"{PAPER}PROMPT_DEPTH", "5"], [f"{PAPER}PROMPT_DEPTH", "5", "1..4"]),
    ([f"{PAPER}AGGREGATION", "mean"], [f"{PAPER}AGGREGATION", "mean", "bmip", "addition", "l2v", "v2l"]),
    (
        [f"{PAPER}AGGREGATION", "joint", f"{PAPER}VARIANT", "released"],
        [f"{PAPER}AGGREGATION", "joint", f"{PAPER}VARIANT"],
    ),
    (
        [f"{PAPER}GATE.READOUT", "zero", f"{PAPER}AGGREGATION", "addition"],
        [f"{PAPER}GATE.READOUT", "zero", "addition", "attention"],
    ),
    ([f"{PAPER}PREC", "fp8"], [f"{PAPER}PREC", "fp8", "fp32", "bf16"]),
    ([f"{PAPER}CTX_INIT", "photo"], ["CTX_INIT", "photo", "N_CTX"]),
    # The prompts would replace the class name: 4 slots, and a side without words to start from.
    ([f"{PAPER}CTX_INIT", "a photo", f"{PAPER}AGGREGATION", "joint"], ["CTX_INIT", "a photo", "N_CTX", "4"]),
    ([f"{PAPER}CTX_INIT", "photo", f"{PAPER}AGGREGATION", "v2l"], ["CTX_INIT", "photo", "N_CTX"]),
    (["TRAIN.PATIENT_COUNT", "0"], ["TRAIN.PATIENT_COUNT", "0", "1 or more"]),
    (["OPTIM.NAME", "adamm"], ["OPTIM.NAME", "adamm", "adamw"]),
    (["OPTIM.LR_SCHEDULER", "cos"], ["OPTIM.LR_SCHEDULER", "cos", "cosine"]),
    (["DATASET.SUBSAMPLE_CLASSES", "old"], ["DATASET.SUBSAMPLE_CLASSES", "old", "base", "new", "all"]),
    (["DATASET.SUBSAMPLE_RATIO", "101"], ["DATASET.SUBSAMPLE_RATIO", "101", "between 0 and 100"]),
    (["SEED", "4294967296"], ["SEED", "4294967296", "between 0 and 4294967295, or -1"]),
    (["DATASET.NUM_SHOTS", "0"], ["DATASET.NUM_SHOTS", "0", "1 or more, or -1"]),
    (["DATASET.NUM_SHOTS", "-2"], ["DATASET.NUM_SHOTS", "-2", "1 or more, or -1"]),
    (["OPTIM.MAX_EPOCH", "0"], ["OPTIM.MAX_EPOCH", "0", "between 1 and"]),
    (["TEST.SPLIT", "foo"], ["TEST.SPLIT", "foo", "test, val"]),
    (["INPUT.RRCROP_SCALE", "(0.5, 1.5)"], ["INPUT.RRCROP_SCALE", "(0.5, 1.5)", "each item", "and 1.0"]),
    (["INPUT.RRCROP_SCALE", "(0.9, 0.5)"], ["INPUT.RRCROP_SCALE", "(0.9, 0.5)", "smaller share"]),
    (["INPUT.RRCROP_SCALE", "(0.5,)"], ["INPUT.RRCROP_SCALE", "(0.5,)", "2 items"]),
    (["INPUT.PIXEL_MEAN", "[123.7, 116.3, 103.5]"], ["INPUT.PIXEL_MEAN", "123.7", "between 0.0 and 1.0"]),
    (["INPUT.PIXEL_STD", "[0.0, 0.1, 0.1]"], ["INPUT.PIXEL_STD", "0.0", "1e-06"]),
    (["OPTIM.STEPSIZE", "()"], ["OPTIM.STEPSIZE", "empty", "(-1,)"]),
    (["OPTIM.STEPSIZE", "('x',)"], ["OPTIM.STEPSIZE", "x", "a whole number"]),
    (["OPTIM.LR", "1e999"], ["OPTIM.LR", "inf", "finite"]),
    (["OPTIM.LR", "9" * 400], ["OPTIM.LR", "inf", "finite"]),
    (["INPUT.GB_P", "1e999"], ["INPUT.GB_P", "inf", "finite"]),
    (
        ["OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", "True", "OPTIM.MOMENTUM", "0"],
        ["OPTIM.SGD_NESTEROV", "OPTIM.MOMENTUM", "OPTIM.SGD_DAMPNING"],
    ),
    (["TRAIN.PRINT_FREQ", "0"], ["TRAIN.PRINT_FREQ", "0", "1 or more"]),
    *[([key, "None"], [key, "None", "like its default"]) for key in ("OPTIM.LR", "OUTPUT_DIR", "INPUT.COLORJITTER_B")],
    (["OPTIM.LR", "-" * 100_000 + "1"], ["OPTIM.LR"]),
    (["OUTPUT_DIR", "a\x1b[2Jb"], ["OUTPUT_DIR", "\\x1b[2Jb", "control characters"]),
    (["DATASET.ROOT", "a\udce4b"], ["DATASET.ROOT", "control characters"]),
    (["SEED.X", "1"], ["SEED.X"]),
    ([f"{PAPER}N_CONTEXT", "2"], [f"{PAPER}N_CONTEXT", "Non-existent"]),
    (["OPTIM.MAX_EPOCH", "1.5"], ["OPTIM.MAX_EPOCH", "int", "1.5"]),
    (["OPTIM.LR"], ["OPTIM.LR has no VALUE", "KEY VALUE"]),
    (["OPTIM.LR", "OPTIM.MAX_EPOCH", "1"], ["OPTIM.LR has no VALUE"]),
    (["OPTIM.LR=0.1"], ["OPTIM.LR=0.1 has no VALUE", "without '='"]),
    (["TEST.FINAL_MODEL", "best"], ["TEST.FINAL_MODEL", "best", "last_step", "best_val"]),
    (["DATASET.NAME", "Digitss"], ["DATASET.NAME", "Digitss", "Do you mean Digits"]),
    (["TRAINER.NAME", "BMIB"], ["TRAINER.NAME", "--trainer", "Do you mean BMIP"]),
    (["TRAINER.NAME", "LanguagePrompting"], ["TRAINER.NAME", "'IVLP'", "_language_only.yaml"]),
]
# What is Dassl's (loaders, optimiser), or concerns the data set, is refused while the run is built.
BAD_LATER = [
    ([f"{PAPER}N_CTX", "80"], ["77 tokens", "the keys of TRAINER.BMIP"]),
    (["INPUT.INTERPOLATION", "cubic"], ["INPUT.INTERPOLATION", "cubic", "bicubic"]),
    (["INPUT.TRANSFORMS", "('flip',)"], ["INPUT.TRANSFORMS", "flip", "random_flip"]),
    (["TEST.EVALUATOR", "Regression"], ["TEST.EVALUATOR", "Regression", "Classification"]),
    (["DATALOADER.TRAIN_X.SAMPLER", "Random"], ["SAMPLER", "Random", "RandomSampler"]),
]


@pytest.mark.parametrize("options, words", BAD_VALUES, ids=lambda value: " ".join(value))
def test_bad_values_are_refused_before_data_is_read(run_train, no_data, options, words):
    assert_refused(run_train(options=options), words)


@pytest.mark.parametrize("options, words", BAD_LATER, ids=lambda value: " ".join(value))
def test_bad_values_are_refused_before_training(run_train, options, words):
    assert_refused(run_train(options=options), words)


@pytest.mark.parametrize(
    "tensor, words", [("weight", "OpenAI's CLIP layout"), ("visual.layer1.0.conv1.weight", "a ResNet")]
)
def test_a_file_of_another_model_is_no_backbone(run_train, no_data, tmp_path, tensor, words):
    torch.save({tensor: torch.zeros(1)}, tmp_path / "model.pt")
    assert_refused(run_train("--backbone", str(tmp_path / "model.pt")), ["MODEL.BACKBONE.NAME", words])


@pytest.mark.parametrize("flags", [["--eval-only", "--model-dir"], ["--resume"]], ids=["test", "training"])
def test_a_folder_without_a_model_is_named_with_its_flag(run_train, tmp_path, flags):
    run = run_train(*flags, str(tmp_path / "nothing"))
    assert_refused(run, ["nothing", flags[-1]])


TWO, THREE = (["DATALOADER.K_TRANSFORMS", number] for number in "23")
# Of what declarations allow, one value each; by the trainer's objective, and by one that is told.
BAD_FOR_OBJECTIVES = [
    ("PromptSRC", [f"{SRC}IMAGE_LOSS_WEIGHT", "1e999"], [f"{SRC}IMAGE_LOSS_WEIGHT", "inf", "a finite number"]),
    ("PromptSRC_BMIP", [f"{SRC}GPA_STD", "1e-200"], [f"{SRC}GPA_STD", "1e-200", "between 1e-06 and"]),
    ("CoPrompt", [f"{CO}IMAGE_ADAPTER_SHARE", "1.5"], [f"{CO}IMAGE_ADAPTER_SHARE", "1.5", "between 0.0 and 1.0"]),
    ("KgCoOp", ["TRAINER.COOP.W", "-1"], ["TRAINER.COOP.W", "-1", "between 0.0 and"]),
    ("MaPLe", ["TRAINER.OBJECTIVE", "consistency", "TRAINER.W", "-1"], ["TRAINER.W", "-1", "between 0.0 and"]),
    ("PromptSRC", TWO, ["DATALOADER.K_TRANSFORMS", "2", "1 views"]),
    ("CoPrompt", THREE, ["DATALOADER.K_TRANSFORMS", "3", "2 views"]),
    ("BMIP", THREE, ["DATALOADER.K_TRANSFORMS", "3", "1 views"]),
]


@pytest.mark.parametrize("trainer, options, words", BAD_FOR_OBJECTIVES, ids=str)
def test_bad_values_of_objectives_are_refused_before_data_is_read(run_train, no_data, trainer, options, words):
    assert_refused(run_train(trainer=trainer, options=[*MEAN, *options]), words)


# Settings that a model can be tested with, but not trained.
FOR_TESTS_ALONE = [
    ("PromptSRC", [], [f"{SRC}GPA_MEAN is 15.0", "epochs 1 to 2", "OPTIM.MAX_EPOCH", f"add {SRC}GPA_MEAN 1.5 to"]),
    ("PromptSRC_BMIP", [f"{SRC}GPA_MEAN", "0.5"], [f"{SRC}GPA_MEAN is 0.5"]),
    ("PromptSRC", [f"{SRC}GPA_MEAN", "3"], [f"{SRC}GPA_MEAN is 3.0"]),
    ("PromptSRC", [*MEAN, "TEST.NO_TEST_EARLY", "False"], ["TRAIN.EARLY_STOPPING", "TEST.NO_TEST_EARLY"]),
    (
        "PromptSRC_BMIP",
        [*MEAN, "TEST.NO_TEST_EARLY", "False", "TEST.FINAL_MODEL", "best_val"],
        ["TEST.FINAL_MODEL", "TEST.NO_TEST_EARLY"],
    ),
]


@pytest.mark.parametrize("flags", [[], ["--no-train"]], ids=["train", "no train"])
@pytest.mark.parametrize("trainer, options, words", FOR_TESTS_ALONE, ids=str)
def test_what_cannot_be_trained_is_refused_before_data_is_read(run_train, no_data, trainer, options, words, flags):
    run = run_train(*flags, trainer=trainer, options=options)
    assert_refused(run, words)
    assert not list(run.folder.glob("settings.yaml"))


@pytest.mark.parametrize("trainer", ["PromptSRC", "PromptSRC_BMIP"])
def test_what_cannot_be_trained_can_be_tested(run_train, tmp_path, trainer):
    trained = run_train(trainer=trainer, options=MEAN)
    flags = "--eval-only", "--model-dir", str(trained.folder)
    for number, options in enumerate(options for _, options, _ in FOR_TESTS_ALONE):
        tested = run_train(*flags, trainer=trainer, folder=tmp_path / f"tested {number}", options=options)
        assert tested.status == 0, tested.errors


@pytest.mark.parametrize("epochs, mean", [(1, "1.0"), (5, "3.75"), (10, "7.5")])
def test_the_remedy_for_an_average_around_no_epoch_works(epochs, mean):
    with pytest.raises(InputError, match=f"add mean {mean} to the options"):
        SelfRegulation(run=RunFacts(epochs)).check_training()
    SelfRegulation(SelfRegulationConfig(mean=float(mean)), RunFacts(epochs)).check_training()


# Of PromptSRC's and CoPrompt's own prompts; the first ones at their defaults.
OTHERS_PROMPTS = [
    ("PromptSRC_BMIP", [f"{SRC}N_CTX_TEXT", "4"], "BMIP"),
    ("PromptSRC_BMIP", [f"{SRC}N_CTX_VISION", "2", f"{SRC}PROMPT_DEPTH_TEXT", "9"], "BMIP"),
    ("CoPrompt_BMIP", [f"{CO}N_CTX", "2", f"{CO}PROMPT_DEPTH", "1", f"{CO}PREC", "bf16"], "BMIP"),
    ("MaPLe", ["TRAINER.OBJECTIVE", "self_regulation", f"{SRC}N_CTX_TEXT", "9", f"{SRC}PREC", "bf16"], "MAPLE"),
    ("IVLP", ["TRAINER.OBJECTIVE", "consistency", f"{CO}CTX_INIT", "a photo of a"], "IVLP"),
    ("BMIP", ["TRAINER.OBJECTIVE", "knowledge_guidance", "TRAINER.COOP.N_CTX", "4"], "BMIP"),
]


@pytest.mark.parametrize("trainer, options, node", OTHERS_PROMPTS, ids=str)
def test_keys_of_another_methods_prompts_are_refused_even_at_their_defaults(
    run_train, no_data, trainer, options, node
):
    keys = [key for key in options[::2] if key != "TRAINER.OBJECTIVE"]
    run = run_train(trainer=trainer, options=[*MEAN, *options])
    assert_refused(run, [*keys, options[-1], trainer, f"TRAINER.{node}", f"configs/trainers/{trainer}"])


def test_a_file_that_sizes_the_stacks_prompts_by_promptsrcs_keys_is_refused(run_train, no_data, tmp_path):
    path = tmp_path / "theirs.yaml"
    base = Path("configs/trainers/PromptSRC_BMIP/tiny.yaml").resolve()
    path.write_text(f"_BASE_: {base}\nTRAINER:\n  PROMPTSRC:\n    N_CTX_TEXT: 4\n    GPA_MEAN: 1\n")
    run = run_train("--config-file", str(path), trainer="PromptSRC_BMIP")
    assert_refused(run, [f"{SRC}N_CTX_TEXT is 4, but", "TRAINER.BMIP", "configs/trainers/PromptSRC_BMIP"])


def test_keys_of_a_method_that_takes_no_part_are_let_be(run_train):
    options = [f"{SRC}N_CTX_TEXT", "3", f"{CO}N_CTX", "3", "TEST.NO_TEST", "True"]
    assert run_train(trainer="MaPLe", options=options).status == 0


def test_the_remedy_for_early_stopping_works(run_train):
    options = [*MEAN, "TEST.NO_TEST_EARLY", "False", "TRAIN.EARLY_STOPPING", "False"]
    assert run_train(trainer="PromptSRC", options=options).status == 0
