"""Bad values of the objectives' keys end in one line that names the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_bad_input import assert_refused, no_data  # noqa: F401
from test_released_baselines import ivlp, maple, other_clip, write_run
from test_training import interrupt_in

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.errors import InputError
from trainers.prompting.objectives.objective import RunFacts
from trainers.prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig, gaussian_weights

SRC, CO = "TRAINER.PROMPTSRC.", "TRAINER.CoPrompt."
MEAN = [f"{SRC}GPA_MEAN", "1"]
BAD_VALUES = {
    "self_regulation": [
        ([*MEAN, f"{SRC}TEXT_LOSS_WEIGHT", "-1"], [f"{SRC}TEXT_LOSS_WEIGHT", "-1", "0.0 or more"]),
        ([*MEAN, f"{SRC}TEXT_LOSS_WEIGHT", "float('nan')"], [f"{SRC}TEXT_LOSS_WEIGHT"]),
        ([*MEAN, f"{SRC}IMAGE_LOSS_WEIGHT", "1e999"], [f"{SRC}IMAGE_LOSS_WEIGHT", "inf", "a finite number"]),
        ([*MEAN, f"{SRC}IMAGE_LOSS_WEIGHT", "-0.5"], [f"{SRC}IMAGE_LOSS_WEIGHT", "-0.5", "0.0 or more"]),
        ([*MEAN, f"{SRC}TEACHER_SENTENCES", "70"], [f"{SRC}TEACHER_SENTENCES", "70", "60, 80"]),
        (
            [*MEAN, "TEST.NO_TEST_EARLY", "False", "TEST.FINAL_MODEL", "best_val"],
            ["TEST.FINAL_MODEL", "best_val", "not averaged", "last_step"],
        ),
        ([*MEAN, f"{SRC}GPA_STD", "0"], [f"{SRC}GPA_STD", "0", "1e-06 or more"]),
        ([*MEAN, f"{SRC}GPA_STD", "1e-200"], [f"{SRC}GPA_STD", "1e-200", "1e-06 or more"]),
        ([*MEAN, f"{SRC}GPA_STD", "-1"], [f"{SRC}GPA_STD", "-1", "1e-06 or more"]),
        ([*MEAN, "DATALOADER.K_TRANSFORMS", "2"], ["DATALOADER.K_TRANSFORMS", "2", "1 views"]),
        (
            [*MEAN, "TEST.NO_TEST_EARLY", "False"],
            ["TRAIN.EARLY_STOPPING", "TEST.NO_TEST_EARLY", "averages over all", "EARLY_STOPPING to False"],
        ),
    ],
    "consistency": [
        (["TRAINER.W", "-1"], ["TRAINER.W", "-1", "0.0 or more"]),
        (["TRAINER.W", "1e999"], ["TRAINER.W", "inf", "a finite number"]),
        (["TRAINER.DISTILL", "kl"], ["TRAINER.DISTILL", "'kl'", "cosine, mse"]),
        ([f"{CO}IMAGE_ADAPTER_SHARE", "1.5"], [f"{CO}IMAGE_ADAPTER_SHARE", "1.5", "between 0.0 and 1.0"]),
        ([f"{CO}IMAGE_ADAPTER_SHARE", "-0.1"], [f"{CO}IMAGE_ADAPTER_SHARE", "-0.1", "between 0.0 and 1.0"]),
        ([f"{CO}TEXT_ADAPTER_SHARE", "2"], [f"{CO}TEXT_ADAPTER_SHARE", "2", "between 0.0 and 1.0"]),
        (["DATALOADER.K_TRANSFORMS", "3"], ["DATALOADER.K_TRANSFORMS", "3", "2 views"]),
    ],
}
TRAINERS = {"self_regulation": ("PromptSRC", "PromptSRC_BMIP", "MaPLe"), "consistency": ("CoPrompt", "IVLP", "BMIP")}
CASES = [
    pytest.param(trainer, objective, *case, id=f"{trainer}-{' '.join(case[0])}")
    for objective, cases in BAD_VALUES.items()
    for trainer in TRAINERS[objective]
    for case in cases
]


def named(trainer: str, objective: str) -> list[str]:
    return [] if trainer.startswith(("PromptSRC", "CoPrompt")) else ["TRAINER.OBJECTIVE", objective]


@pytest.mark.parametrize("trainer, objective, options, words", CASES)
def test_a_bad_value_is_refused_before_data_is_read(run_train, no_data, trainer, objective, options, words):  # noqa: F811
    assert_refused(run_train(trainer=trainer, options=[*named(trainer, objective), *options]), words)


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
def test_what_cannot_be_trained_is_refused_before_data_is_read(
    run_train,
    no_data,  # noqa: F811
    trainer,
    options,
    words,
    flags,
):
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
    with pytest.raises(InputError, match=rf"add {SRC}GPA_MEAN {mean} to"):
        SelfRegulation(run=RunFacts(epochs)).check_training()
    SelfRegulation(SelfRegulationConfig(mean=float(mean)), RunFacts(epochs)).check_training()


# Of PromptSRC's and CoPrompt's own prompts; the first ones at their defaults.
OTHERS_PROMPTS = [
    ("PromptSRC_BMIP", [f"{SRC}N_CTX_TEXT", "4"], "BMIP"),
    ("PromptSRC_BMIP", [f"{SRC}N_CTX_VISION", "2", f"{SRC}PROMPT_DEPTH_TEXT", "9"], "BMIP"),
    ("CoPrompt_BMIP", [f"{CO}N_CTX", "2", f"{CO}PROMPT_DEPTH", "1", f"{CO}PREC", "bf16"], "BMIP"),
    ("MaPLe", ["TRAINER.OBJECTIVE", "self_regulation", f"{SRC}N_CTX_TEXT", "9", f"{SRC}PREC", "bf16"], "MAPLE"),
    ("IVLP", ["TRAINER.OBJECTIVE", "consistency", f"{CO}CTX_INIT", "a photo of a"], "IVLP"),
]


@pytest.mark.parametrize("trainer, options, node", OTHERS_PROMPTS, ids=str)
def test_keys_of_another_methods_prompts_are_refused_even_at_their_defaults(
    run_train,
    no_data,  # noqa: F811
    trainer,
    options,
    node,
):
    keys = [key for key in options[::2] if key != "TRAINER.OBJECTIVE"]
    run = run_train(trainer=trainer, options=[*MEAN, *options])
    assert_refused(run, [*keys, options[-1], trainer, f"TRAINER.{node}", f"configs/trainers/{trainer}"])


def test_a_file_that_sizes_the_stacks_prompts_by_promptsrcs_keys_is_refused(run_train, no_data, tmp_path):  # noqa: F811
    path = tmp_path / "theirs.yaml"
    base = Path("configs/trainers/PromptSRC_BMIP/tiny.yaml").resolve()
    path.write_text(f"_BASE_: {base}\nTRAINER:\n  PROMPTSRC:\n    N_CTX_TEXT: 4\n    GPA_MEAN: 1\n")
    run = run_train("--config-file", str(path), trainer="PromptSRC_BMIP")
    assert_refused(run, [f"{SRC}N_CTX_TEXT is 4, but", "TRAINER.BMIP", "configs/trainers/PromptSRC_BMIP"])


def test_keys_of_a_method_that_takes_no_part_are_let_be(run_train):
    options = [f"{SRC}N_CTX_TEXT", "3", f"{CO}N_CTX", "3", "TEST.NO_TEST", "True"]
    assert run_train(trainer="MaPLe", options=options).status == 0


@pytest.mark.parametrize("trainer", ["BMIP", "PromptSRC"])
def test_one_view_is_all_that_cross_entropy_and_self_regulation_take(run_train, trainer):
    run = run_train(trainer=trainer, options=[*MEAN, "DATALOADER.K_TRANSFORMS", "3"])
    assert_refused(run, ["DATALOADER.K_TRANSFORMS", "3", trainer, "1 views"])


def test_the_remedy_for_early_stopping_works(run_train):
    options = [*MEAN, "TEST.NO_TEST_EARLY", "False", "TRAIN.EARLY_STOPPING", "False"]
    assert run_train(trainer="PromptSRC", options=options).status == 0


def test_whole_numbers_are_numbers(run_train):
    options = [*MEAN, f"{SRC}GPA_STD", "2", f"{SRC}TEXT_LOSS_WEIGHT", "0", f"{SRC}IMAGE_LOSS_WEIGHT", "3"]
    run = run_train(trainer="PromptSRC", options=options)
    assert run.status == 0 and "loss_text 0.0000" in run.output


# ------------------------------------------------------------------------------------------------ resuming

THREE = ["OPTIM.MAX_EPOCH", "3", "TRAINER.PROMPTSRC.GPA_MEAN", "2"]


@pytest.mark.parametrize(
    "change",
    [["TRAINER.PROMPTSRC.GPA_MEAN", "3"], ["TRAINER.PROMPTSRC.GPA_STD", "2"], ["OPTIM.MAX_EPOCH", "4"]],
    ids=str,
)
@pytest.mark.parametrize("place", ["own folder", "another folder"])
def test_a_run_is_not_resumed_with_another_gaussian(run_train, tmp_path, monkeypatch, place, change):
    interrupt_in(monkeypatch, epoch=1)
    first = run_train(trainer="PromptSRC", options=THREE)
    assert first.status == 130
    where = {} if place == "own folder" else {"folder": tmp_path / "second"}
    flags = () if place == "own folder" else ("--resume", str(first.folder))
    other = run_train(*flags, trainer="PromptSRC", options=[*THREE, *change], **where)
    assert other.status == 2 and "Traceback" not in other.errors
    assert change[0].rpartition(".")[2] in other.errors and ("--force" in other.errors or "set them" in other.errors)


@pytest.mark.parametrize("place", ["own folder", "another folder"])
def test_a_run_by_cross_entropy_is_not_resumed_by_self_regulation(run_train, tmp_path, monkeypatch, place):
    options = ["OPTIM.MAX_EPOCH", "3"]
    interrupt_in(monkeypatch, epoch=1)
    first = run_train(trainer="MaPLe", options=options)
    changed = [*options, "TRAINER.OBJECTIVE", "self_regulation", "TRAINER.PROMPTSRC.GPA_MEAN", "2"]
    where = {} if place == "own folder" else {"folder": tmp_path / "second"}
    flags = () if place == "own folder" else ("--resume", str(first.folder))
    other = run_train(*flags, trainer="MaPLe", options=changed, **where)
    assert other.status == 2 and "Traceback" not in other.errors and "epoch [" not in other.output
    assert ("TRAINER.OBJECTIVE" in other.errors or "self-regulation" in other.errors) and "--force" in other.errors


def assert_refused_at_last(run, words) -> None:
    """Behind the bar that shows how far the teachers are."""
    assert run.status == 2 and "Traceback" not in run.errors and "epoch [" not in run.output
    message = run.errors[run.errors.index("error: ") :]
    assert not [word for word in words if word not in message]


def without_settings(run) -> None:
    """As a run of an older version, or one that was copied by hand, without the record of its settings."""
    (run.folder / "settings.yaml").unlink()


OWN = ["OPTIM.MAX_EPOCH", "3"]
CHANGED = [
    ("PromptSRC", THREE, [f"{SRC}GPA_MEAN", "3"], "2.0"),
    ("PromptSRC", THREE, [f"{SRC}GPA_STD", "2"], "1.0"),
    ("PromptSRC", THREE, ["OPTIM.MAX_EPOCH", "4"], "3"),
    ("PromptSRC", THREE, [f"{SRC}TEXT_LOSS_WEIGHT", "3"], "25.0"),
    ("PromptSRC", THREE, [f"{SRC}IMAGE_LOSS_WEIGHT", "3"], "10.0"),
    ("PromptSRC", THREE, [f"{SRC}TEACHER_SENTENCES", "80"], "60"),
    ("CoPrompt", OWN, ["TRAINER.W", "3"], "1.0"),
    ("CoPrompt", OWN, ["TRAINER.DISTILL", "mse"], "'cosine'"),
    ("CoPrompt", OWN, [f"{CO}IMAGE_ADAPTER_SHARE", "0.5"], "0.1"),
    ("CoPrompt", OWN, [f"{CO}TEXT_ADAPTER_SHARE", "0.5"], "0.2"),
    ("IVLP", THREE, ["TRAINER.OBJECTIVE", "self_regulation"], "'cross_entropy'"),
    ("IVLP", [*THREE, "TRAINER.OBJECTIVE", "self_regulation"], ["TRAINER.OBJECTIVE", ""], "'self_regulation'"),
]


@pytest.mark.parametrize("trainer, options, change, before", CHANGED, ids=str)
def test_the_checkpoint_itself_tells_its_objective_and_settings(
    run_train, monkeypatch, trainer, options, change, before
):
    interrupt_in(monkeypatch, epoch=1)
    without_settings(run_train(trainer=trainer, options=options))
    other = run_train(trainer=trainer, options=[*options, *change])
    assert_refused_at_last(other, [f"{change[0]} was {before}", "Set the keys", "train from scratch", "--force"])


def forget_settings(run) -> None:
    """As an older version wrote the checkpoints of a run."""
    without_settings(run)
    for file in run.folder.glob("*/model.pth.tar-*"):
        content = torch.load(file, weights_only=True)
        del content["trainer_state"]["objective_settings"]
        torch.save(content, file)


@pytest.mark.parametrize("trainer", ["PromptSRC", "CoPrompt", "BMIP"])
def test_a_checkpoint_that_does_not_tell_is_tested_and_resumed_by_cross_entropy_alone(
    run_train, tmp_path, monkeypatch, trainer
):
    interrupt_in(monkeypatch, epoch=1)
    run = run_train(trainer=trainer, options=THREE)
    forget_settings(run)
    flags = "--eval-only", "--model-dir", str(run.folder)
    assert run_train(*flags, trainer=trainer, folder=tmp_path / "eval", options=THREE).status == 0
    resumed = run_train(trainer=trainer, options=THREE)
    if trainer == "BMIP":
        assert resumed.status == 0 and "epoch [2/3]" in resumed.output
    else:
        assert_refused_at_last(resumed, ["does not tell", "TRAINER.OBJECTIVE", "--force"])


# ------------------------------------------------------------------------------------------------ published files


def with_teacher(clip_model, state: dict, prefix: str, strip: str = "") -> dict:
    teacher = {
        f"{prefix}{name.removeprefix(strip)}": value
        for name, value in clip_model.state_dict().items()
        if name.startswith(strip)
    }
    return {**state, **teacher}


def only_prompts(state: dict) -> dict:
    """Without the towers' own weights, by which a backbone is told as well."""
    return {name: value for name, value in state.items() if "prompt_learner" in name or "VPT" in name}


PUBLISHED = {
    "PromptSRC": (
        lambda clip_model: ivlp(clip_model, length=4, vision_length=4),
        dict(prefix="prompt_learner.ZS_image_encoder.", strip="visual."),
    ),
    "CoPrompt": (maple, dict(prefix="model_distill.")),
}
FOLDERS = {"PromptSRC": "VLPromptLearner", "CoPrompt": "MultiModalPromptLearner"}


def published(trainer: str, teacher) -> dict:
    """A checkpoint of the tiny CLIP's prompts, with the teacher of another where `teacher` is one."""
    clip_model = load_clip("tiny")
    publish, names = PUBLISHED[trainer]
    state = with_teacher(teacher, only_prompts(publish(clip_model)), **names)
    if trainer == "CoPrompt":
        width = clip_model.text_projection.shape[1]
        for tower in ("image", "text"):
            state[f"adapter_{tower}.fc.0.weight"] = torch.randn(width // 4, width).half()
            state[f"adapter_{tower}.fc.2.weight"] = torch.randn(width, width // 4).half()
    return state


def evaluated(run_train, folder, trainer: str, teacher):
    state = published(trainer, teacher)
    write_run(folder, "IVLP" if trainer == "PromptSRC" else "MaPLe", state)
    run = run_train("--eval-only", "--model-dir", str(folder), trainer=trainer, options=MEAN)
    return state, run


@pytest.mark.parametrize("trainer", PUBLISHED)
def test_a_published_teacher_is_left_out_and_that_is_said(run_train, tmp_path, trainer):
    state, run = evaluated(run_train, tmp_path / "theirs", trainer, load_clip("tiny"))
    assert run.status == 0, run.errors
    frozen = sum("ZS_image_encoder" in name or "model_distill" in name for name in state)
    assert f"{frozen} are left out: the frozen teacher" in run.output
    assert ("adapters.image.layers.0.weight" in run.output) is (trainer == "CoPrompt")


@pytest.mark.parametrize("trainer", PUBLISHED)
def test_a_published_teacher_of_another_backbone_is_refused(run_train, tmp_path, trainer):
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, other_clip())
    assert_refused(run, ["MODEL.BACKBONE.NAME is 'tiny'", "conv1.weight", "(192, 3, "])


def with_other_weights():
    """A CLIP of the tiny one's sizes."""
    clip_model = load_clip("tiny")
    torch.manual_seed(0)
    weight = clip_model.visual.conv1.weight.data
    weight.copy_(torch.randn(weight.shape) * weight.std())
    return clip_model


@pytest.mark.parametrize("trainer", PUBLISHED)
def test_a_published_teacher_of_the_same_sizes_and_other_weights_is_refused(run_train, tmp_path, trainer):
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, with_other_weights())
    assert_refused(run, ["MODEL.BACKBONE.NAME is 'tiny'", "same sizes with other weights", "conv1.weight"])


@pytest.mark.parametrize("trainer", PUBLISHED)
def test_a_published_teacher_that_was_averaged_in_half_precision_is_the_same_clip(run_train, tmp_path, trainer):
    teacher = load_clip("tiny")
    for parameter in teacher.parameters():
        parts = [share * parameter.half() for share in gaussian_weights(20, mean=6, std=10)]
        parameter.data = sum(parts[1:], parts[0])
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, teacher)
    assert run.status == 0, run.errors
