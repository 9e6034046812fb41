"""Checkpoints in the layouts of the methods' authors: evaluated by train.py, or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip
from helpers.learners import make_learner
from helpers.published import (
    CLASSES,
    PUBLISHED,
    RANDOM,
    cocoop,
    coop,
    floats,
    ivlp,
    maple,
    released_layout,
    vpt,
    write_run,
)
from helpers.runs import assert_refused, saved

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.objectives.self_regulation import gaussian_weights

RELEASED = ["TRAINER.BMIP.VARIANT", "released"]


def bmip(clip_model) -> dict[str, torch.Tensor]:
    return released_layout(make_learner(clip_model, variant="released", depth=3), clip_model)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_run_is_evaluated_on_other_classes_and_says_what_is_taken(run_train, tmp_path, seen, name):
    classes = "base" if name == "CoOp class-specific" else "new"  # contexts of classes serve these classes alone
    trainer, flags, options, publish, expected, taken, of_classes = PUBLISHED[name]
    clip_model = load_clip("tiny")
    state = publish(clip_model)
    file = write_run(tmp_path / "theirs", trainer, state)
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5", *flags),
        trainer=trainer,
        options=[*options, "DATASET.SUBSAMPLE_CLASSES", classes],
    )
    assert run.status == 0, run.errors
    assert run.result["classes"] == classes and 0 <= run.result["accuracy"] <= 100
    images, logits = seen[0]
    some = torch.arange(0, len(images), len(images) // 3)
    with torch.no_grad():
        slow = expected(clip_model, images[some], CLASSES[classes], floats(state))
    torch.testing.assert_close(logits[some], slow, rtol=1e-4, atol=1e-4)

    assert str(file) in run.output and f"authors' code; {taken} tensors of it are taken" in run.output
    frozen = len(state) - taken - of_classes
    left_out = {"tokens of the class names": of_classes, "frozen CLIP": frozen}
    for reason, number in left_out.items():
        assert (f"{number} are left out: {reason}" in run.output) is (number > 0)


def test_a_run_of_bmips_authors_is_evaluated_by_the_command_line(run_train, tmp_path):
    write_run(tmp_path / "theirs", "BMIP", bmip(load_clip("tiny")))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), options=RELEASED)
    assert run.status == 0, run.errors
    assert "authors' code" in run.output and 0 <= run.result["accuracy"] <= 100


# ------------------------------------------------------------------------------------------------ what is refused


def other_clip():
    """A CLIP of other widths, on the tiny one's images."""
    return make_clip(transformer_width=192, transformer_heads=3, vision_width=256, embed_dim=80, vision_layers=4)


CSC = [*RANDOM, "TRAINER.COOP.CSC", "True"]
BACKBONE = "MODEL.BACKBONE.NAME"
# Trainer, options, published state, words of the message.
MISFITS = {
    "CoCoOp's in CoOp": ("CoOp", [], cocoop, ["does not have", "meta_net.linear1.weight"]),
    "VPT's in CoOp": ("CoOp", [], vpt, ["image_encoder.", "another method"]),
    "CoOp's in VPT": ("VPT", [], coop, ["vision_prompts.0", "another method"]),
    "IVLP's in VPT": ("VPT", [], ivlp, ["text_prompts has 4 layers of 2 tokens", "expected none"]),
    "VPT's in IVLP": ("IVLP", [], vpt, ["text_prompts has none, expected 4 layers of 2 tokens"]),
    "IVLP's in MaPLe": ("MaPLe", [], ivlp, ["text_prompts has 1 layer", "expected 3 layers", "TRAINER.MAPLE"]),
    "depth": ("VPT", ["TRAINER.VPT.PROMPT_DEPTH_VISION", "3"], vpt, ["4 layers of 8", "expected 3 layers of 8"]),
    "length": ("MaPLe", ["TRAINER.MAPLE.N_CTX", "3"], maple, ["layers of 2 tokens", "layers of 3 tokens"]),
    "classes": (
        *("CoOp", CSC, lambda model: coop(model, classes=10)),
        ["1 layer of 10 contexts, each 4 tokens", "expected 1 layer of 5 contexts, each 4 tokens"],
    ),
    "backbone of CoOp": ("CoOp", [], lambda _: coop(other_clip()), ["4 tokens 192 wide", BACKBONE]),
    "backbone of IVLP": ("IVLP", [], lambda _: ivlp(other_clip()), [f"{BACKBONE} is 'tiny'", "(256, 3, "]),
    "the authors' variant": ("BMIP", [], bmip, ["TRAINER.BMIP.VARIANT", "paper", "released"]),
    "depth of the authors' variant": (
        *("BMIP", [*RELEASED, "TRAINER.BMIP.PROMPT_DEPTH", "2"], bmip),
        ["TRAINER.BMIP.PROMPT_DEPTH", "3"],
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_published_run_that_does_not_fit_is_refused_with_what_is_found_and_expected(run_train, tmp_path, misfit):
    trainer, options, publish, words = MISFITS[misfit]
    file = write_run(tmp_path / "theirs", trainer, publish(load_clip("tiny")))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer=trainer, options=options)
    assert run.status == 2 and run.errors.startswith("error: ") and "Traceback" not in run.errors
    assert len(run.errors) < 1500 and "Evaluate" not in run.output
    for word in (str(file), *words):
        assert word in run.errors, run.errors


def test_a_run_in_the_folder_of_another_method_names_the_file_that_is_missing(run_train, tmp_path):
    write_run(tmp_path / "theirs", "MaPLe", maple(load_clip("tiny")))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="IVLP")
    assert run.status == 2 and "VLPromptLearner" in run.errors and "--model-dir" in run.errors


@pytest.mark.parametrize("trainer, publish", [("CoOp", coop), ("MaPLe", maple)])
def test_training_can_start_from_a_published_file(run_train, tmp_path, trainer, publish):
    state = publish(load_clip("tiny"))
    file = write_run(tmp_path / "theirs", trainer, state)
    options = ["MODEL.INIT_WEIGHTS", str(file), "OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0", "TEST.NO_TEST", "True"]
    run = run_train(trainer=trainer, options=options)
    assert run.status == 0, run.errors
    (theirs,) = (value for name, value in state.items() if name.endswith("ctx"))
    assert torch.equal(saved(run, 2)["state_dict"]["text_prompts.0"], theirs.float())


# ------------------------------------------------------------------------------------------------ frozen teachers


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


WITH_TEACHER = {
    "PromptSRC": (
        lambda clip_model: ivlp(clip_model, length=4, vision_length=4),
        dict(prefix="prompt_learner.ZS_image_encoder.", strip="visual."),
    ),
    "CoPrompt": (maple, dict(prefix="model_distill.")),
}


def published(trainer: str, teacher) -> dict:
    """A checkpoint of the tiny CLIP's prompts, with the teacher of another where `teacher` is one."""
    clip_model = load_clip("tiny")
    publish, names = WITH_TEACHER[trainer]
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
    run = run_train(
        "--eval-only", "--model-dir", str(folder), trainer=trainer, options=["TRAINER.PROMPTSRC.GPA_MEAN", "1"]
    )
    return state, run


@pytest.mark.parametrize("trainer", WITH_TEACHER)
def test_a_published_teacher_is_left_out_and_that_is_said(run_train, tmp_path, trainer):
    state, run = evaluated(run_train, tmp_path / "theirs", trainer, load_clip("tiny"))
    assert run.status == 0, run.errors
    frozen = sum("ZS_image_encoder" in name or "model_distill" in name for name in state)
    assert f"{frozen} are left out: the frozen teacher" in run.output
    assert ("adapters.image.layers.0.weight" in run.output) is (trainer == "CoPrompt")


def with_other_weights():
    """A CLIP of the tiny one's sizes."""
    clip_model = load_clip("tiny")
    torch.manual_seed(0)
    weight = clip_model.visual.conv1.weight.data
    weight.copy_(torch.randn(weight.shape) * weight.std())
    return clip_model


@pytest.mark.parametrize("trainer", WITH_TEACHER)
@pytest.mark.parametrize(
    "teacher, words",
    [(other_clip, ["(256, 3, "]), (with_other_weights, ["same sizes with other weights"])],
    ids=["other sizes", "other weights"],
)
def test_a_published_teacher_of_another_backbone_is_refused(run_train, tmp_path, trainer, teacher, words):
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, teacher())
    assert_refused(run, ["MODEL.BACKBONE.NAME is 'tiny'", "conv1.weight", *words])


@pytest.mark.parametrize("trainer", WITH_TEACHER)
def test_a_published_teacher_that_was_averaged_in_half_precision_is_the_same_clip(run_train, tmp_path, trainer):
    teacher = load_clip("tiny")
    for parameter in teacher.parameters():
        parts = [share * parameter.half() for share in gaussian_weights(20, mean=6, std=10)]
        parameter.data = sum(parts[1:], parts[0])
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, teacher)
    assert run.status == 0, run.errors
