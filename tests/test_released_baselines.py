"""Checkpoints in the layouts that the baselines' authors published: evaluated by train.py, or refused with the reason.

The files are made by hand: their names, types, folder and pickled scheduler are those of the authors' code.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from conftest import make_clip
from naive_methods import cocoop_logits, coop_logits, ivlp_logits, maple_logits
from test_bad_input import assert_refused
from torch import Tensor

from trainers.base import PromptTrainer
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, load_clip, text_width, vision_width
from trainers.prompting.errors import InputError
from trainers.prompting.learners.coop import LAYOUT as COOP
from trainers.prompting.objectives.self_regulation import gaussian_weights

WORDS = "a photo of a"
CLASSES = {"base": ["zero", "one", "two", "three", "four"], "new": ["five", "six", "seven", "eight", "nine"]}
State = dict[str, Tensor]

# ------------------------------------------------------------------------------------------------ published files


def random(*shape: int, half: bool = True, seed: int = 0) -> Tensor:
    """Values that half precision holds exactly."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 100 * len(shape) + shape[-1])) * 0.3
    return values.half() if half else values.half().float()


def class_tokens(width: int, length: int, prefix: str = "") -> State:
    """The tokens of the class names that it was trained on, which are not those of the test."""
    return {
        f"{prefix}token_prefix": torch.randn(7, 1, width).half(),
        f"{prefix}token_suffix": torch.randn(7, 76 - length, width).half(),
    }


def whole_clip(clip_model, half: bool = True) -> State:
    """The frozen CLIP, which the authors save with the prompts: image_encoder.*, text_encoder.*, logit_scale."""
    stored = copy.deepcopy(clip_model)
    if half:
        cast_matmul_weights(stored, PRECISIONS["fp16"].matmul)
    state = {}
    for name, value in stored.state_dict().items():
        if name.startswith("visual."):
            state["image_encoder." + name.removeprefix("visual.")] = value
        elif name == "logit_scale":
            state[name] = value
        elif not name.startswith("token_embedding"):
            state["text_encoder." + name] = value
    return state


def coop(clip_model, length: int = 4, classes: int = 0) -> State:
    width = text_width(clip_model)
    shape = (classes, length, width) if classes else (length, width)
    return {"ctx": random(*shape), **class_tokens(width, length)}


def cocoop(clip_model, length: int = 4) -> State:
    width, embed = text_width(clip_model), clip_model.text_projection.shape[1]
    hidden = embed // 16
    return {
        "ctx": random(length, width),
        "meta_net.linear1.weight": random(hidden, embed),
        "meta_net.linear1.bias": random(hidden).abs(),
        "meta_net.linear2.weight": random(width, hidden),
        "meta_net.linear2.bias": random(width),
        **class_tokens(width, length),
    }


def deep(tower: str, first: str, width: int, length: int, depth: int) -> State:
    names = [first] + [f"{tower}.transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, depth)]
    return {name: random(length, width, half=False, seed=layer) for layer, name in enumerate(names[:depth])}


def vpt(clip_model, length: int = 8, depth: int = 4) -> State:
    prompts = deep("image_encoder", "image_encoder.VPT", vision_width(clip_model), length, depth)
    return {**whole_clip(clip_model, half=False), **prompts}


def language(clip_model, length: int = 4, depth: int = 4) -> State:
    width = text_width(clip_model)
    prompts = deep("text_encoder", "prompt_learner.ctx", width, length, depth)
    prompts["prompt_learner.ctx"] = prompts["prompt_learner.ctx"].half()
    return {**whole_clip(clip_model), **prompts, **class_tokens(width, length, "prompt_learner.")}


def ivlp(clip_model, length: int = 2, depth: int = 4, vision_length: int = 2, vision_depth: int = 4) -> State:
    vision = deep("image_encoder", "image_encoder.VPT", vision_width(clip_model), vision_length, vision_depth)
    return {**language(clip_model, length, depth), **vision}


def maple(clip_model, length: int = 2, depth: int = 3) -> State:
    width, vision = text_width(clip_model), vision_width(clip_model)
    state = {
        **whole_clip(clip_model),
        "prompt_learner.ctx": random(length, width),
        "prompt_learner.proj.weight": random(vision, width),
        "prompt_learner.proj.bias": random(vision),
        **class_tokens(width, length, "prompt_learner."),
    }
    for index in range(depth - 1):
        name = f"prompt_learner.compound_prompt_projections.{index}"
        state[f"prompt_learner.compound_prompts_text.{index}"] = random(length, width, half=False, seed=index + 1)
        state[f"{name}.weight"] = random(vision, width, half=False, seed=index + 1)
        state[f"{name}.bias"] = random(vision, half=False, seed=index + 1)
    return state


FOLDERS = {
    "CoOp": "prompt_learner",
    "CoCoOp": "prompt_learner",
    "VPT": "prompt_learner",
    "IVLP": "VLPromptLearner",
    "MaPLe": "MultiModalPromptLearner",
}


def write_run(folder: Path, trainer: str, state: State, epoch: int = 5) -> Path:
    """A run folder as the authors' trainer leaves it; gives the file."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5)
    file = folder / FOLDERS[trainer] / f"model.pth.tar-{epoch}"
    file.parent.mkdir(parents=True)
    checkpoint = {
        "state_dict": state,
        "epoch": epoch,
        "optimizer": optimiser.state_dict(),
        "scheduler": {"successor": schedule, "warmup_epoch": 1, "last_epoch": 1},
        "val_result": None,
    }
    torch.save(checkpoint, file)
    (file.parent / "checkpoint").write_text(f"{file.name}\n")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    return file


# ------------------------------------------------------------------------------------------------ what they compute


def floats(state: State) -> State:
    return {key: value.float() for key, value in state.items()}


def layers(state: State, tower: str, first: str) -> dict[int, Tensor]:
    found = {0: state[first]} if first in state else {}
    for key, value in state.items():
        if key.startswith(tower) and key.endswith("VPT_shallow"):
            found[int(key.split(".")[3])] = value
    return found


def expected_coop(clip_model, images, names, state, position="end"):
    context = state["ctx"]
    contexts = list(context) if context.dim() == 3 else [context] * len(names)
    return coop_logits(clip_model, images, names, contexts, "", position)


def expected_cocoop(clip_model, images, names, state):
    first, second = ((state[f"meta_net.linear{n}.weight"], state[f"meta_net.linear{n}.bias"]) for n in (1, 2))
    return cocoop_logits(clip_model, images, names, state["ctx"], first, second, WORDS)


def expected_ivlp(clip_model, images, names, state):
    text = layers(state, "text_encoder", "prompt_learner.ctx")
    vision = layers(state, "image_encoder", "image_encoder.VPT")
    return ivlp_logits(clip_model, images, names, text, vision, WORDS)


def expected_maple(clip_model, images, names, state):
    prompts, couplings = {}, {}
    for layer in range(3):
        text, head = f"compound_prompts_text.{layer - 1}", f"compound_prompt_projections.{layer - 1}"
        prompts[layer] = state["prompt_learner." + (text if layer else "ctx")]
        head = "prompt_learner." + (head if layer else "proj")
        couplings[layer] = state[f"{head}.weight"], state[f"{head}.bias"]
    return maple_logits(clip_model, images, names, prompts, couplings, WORDS)


LANGUAGE_ONLY = ["--config-file", "configs/trainers/IVLP/tiny_language_only.yaml"]
RANDOM = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "4"]
# trainer, flags, options, published state, its logits, tensors of prompts and networks, of class names
PUBLISHED = {
    "CoOp": ("CoOp", [], RANDOM, coop, expected_coop, 1, 2),
    "CoOp class-specific": (
        "CoOp",
        [],
        [*RANDOM, "TRAINER.COOP.CSC", "True"],
        lambda clip_model: coop(clip_model, classes=5),
        expected_coop,
        1,
        2,
    ),
    "CoOp front": (
        "CoOp",
        [],
        [*RANDOM, "TRAINER.COOP.CLASS_TOKEN_POSITION", "front"],
        coop,
        lambda *a: expected_coop(*a, position="front"),
        1,
        2,
    ),
    "CoCoOp": ("CoCoOp", [], [], cocoop, expected_cocoop, 5, 2),
    "VPT": ("VPT", [], [], vpt, expected_ivlp, 4, 0),
    "IVLP": ("IVLP", [], [], ivlp, expected_ivlp, 8, 2),
    "language only": ("IVLP", LANGUAGE_ONLY, [], language, expected_ivlp, 4, 2),
    "MaPLe": ("MaPLe", [], [], maple, expected_maple, 9, 2),
}


@pytest.fixture
def seen(monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """Images and logits of every batch that is tested."""
    batches = []

    def model_inference(trainer, images):
        batches.append((images, trainer.model(images)))
        return batches[-1][1]

    monkeypatch.setattr(PromptTrainer, "model_inference", model_inference)
    return batches


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


def test_the_tensors_that_are_taken_are_named(run_train, tmp_path):
    write_run(tmp_path / "theirs", "CoCoOp", cocoop(load_clip("tiny")))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="CoCoOp")
    names = ["text_prompts.0", *(f"meta_net.linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias"))]
    assert ", ".join(names) in run.output


# ------------------------------------------------------------------------------------------------ what is refused


def other_clip():
    """A CLIP of other widths, on the tiny one's images."""
    return make_clip(transformer_width=128, transformer_heads=2, vision_width=192, embed_dim=80, vision_layers=4)


def of_other_clip(publish):
    return lambda clip_model: publish(other_clip())


# trainer, options, published state, words of the message
MISFITS = {
    "CoCoOp's in CoOp": ("CoOp", [], cocoop, ["does not have", "meta_net.linear1.weight"]),
    "VPT's in CoOp": ("CoOp", [], vpt, ["image_encoder.", "another method"]),
    "CoOp's in CoCoOp": ("CoCoOp", [], coop, ["meta_net.linear1.weight", "another method"]),
    "VPT's in CoCoOp": ("CoCoOp", [], vpt, ["image_encoder.", "another method"]),
    "CoOp's in VPT": ("VPT", [], coop, ["vision_prompts.0", "another method"]),
    "language prompts in VPT": ("VPT", [], language, ["text_prompts has 4 layers of 4 tokens", "expected none"]),
    "IVLP's in VPT": ("VPT", [], ivlp, ["text_prompts has 4 layers of 2 tokens", "expected none"]),
    "VPT's in IVLP": ("IVLP", [], vpt, ["text_prompts has none, expected 4 layers of 2 tokens"]),
    "language prompts in IVLP": (
        "IVLP",
        ["TRAINER.IVLP.N_CTX_TEXT", "4"],
        language,
        ["vision_prompts has none, expected 4 layers of 2 tokens"],
    ),
    "MaPLe's in IVLP": ("IVLP", [], maple, ["does not have", "prompt_learner.compound_prompts_text.0"]),
    "IVLP's in MaPLe": ("MaPLe", [], ivlp, ["text_prompts has 1 layer", "expected 3 layers"]),
    "IVLP's in MaPLe of depth 1": (
        "MaPLe",
        ["TRAINER.MAPLE.PROMPT_DEPTH", "1"],
        ivlp,
        ["text_to_vision.0.weight", "another method"],
    ),
    "CoOp's in MaPLe": ("MaPLe", [], coop, ["text_prompts.0", "another method"]),
    "depth of MaPLe": (
        "MaPLe",
        ["TRAINER.MAPLE.PROMPT_DEPTH", "2"],
        maple,
        ["3 layers of 2 tokens", "expected 2 layers of 2 tokens"],
    ),
    "depth of VPT": (
        "VPT",
        ["TRAINER.VPT.PROMPT_DEPTH_VISION", "3"],
        vpt,
        ["4 layers of 8", "expected 3 layers of 8"],
    ),
    "depth of IVLP's text": (
        "IVLP",
        ["TRAINER.IVLP.PROMPT_DEPTH_TEXT", "1"],
        ivlp,
        ["text_prompts has 4 layers of 2", "expected 1 layer of 2"],
    ),
    "length of CoOp": ("CoOp", [], lambda model: coop(model, 16), ["1 layer of 16 tokens", "expected 1 layer of 4"]),
    "length of CoCoOp": (
        "CoCoOp",
        [],
        lambda model: cocoop(model, 8),
        ["1 layer of 8 tokens", "expected 1 layer of 4 tokens"],
    ),
    "length of VPT": ("VPT", ["TRAINER.VPT.N_CTX_VISION", "4"], vpt, ["4 layers of 8", "expected 4 layers of 4"]),
    "length of MaPLe": ("MaPLe", ["TRAINER.MAPLE.N_CTX", "3"], maple, ["layers of 2 tokens", "layers of 3 tokens"]),
    "classes": (
        "CoOp",
        [*RANDOM, "TRAINER.COOP.CSC", "True"],
        lambda model: coop(model, classes=10),
        ["1 layer of 10 classes, each 4 tokens", "expected 1 layer of 5 classes, each 4 tokens"],
    ),
    "contexts of classes, for all": (
        "CoOp",
        RANDOM,
        lambda model: coop(model, classes=5),
        ["1 layer of 5 classes, each 4 tokens", "expected 1 layer of 4 tokens"],
    ),
    "a context for all, for classes": (
        "CoOp",
        [*RANDOM, "TRAINER.COOP.CSC", "True"],
        coop,
        ["1 layer of 4 tokens", "expected 1 layer of 5 classes, each 4 tokens"],
    ),
    "backbone of CoOp": ("CoOp", [], of_other_clip(coop), ["4 tokens 128 wide", "MODEL.BACKBONE.NAME"]),
    "backbone of CoCoOp": ("CoCoOp", [], of_other_clip(cocoop), ["4 tokens 128 wide", "MODEL.BACKBONE.NAME"]),
    "backbone of VPT": ("VPT", [], of_other_clip(vpt), ["MODEL.BACKBONE.NAME is 'tiny'", "(192, 3, "]),
    "backbone of IVLP": ("IVLP", [], of_other_clip(ivlp), ["MODEL.BACKBONE.NAME is 'tiny'", "(192, 3, "]),
    "backbone of MaPLe": ("MaPLe", [], of_other_clip(maple), ["MODEL.BACKBONE.NAME is 'tiny'", "(192, 3, "]),
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


def test_a_message_about_a_misfit_names_the_methods_keys(run_train, tmp_path):
    write_run(tmp_path / "theirs", "MaPLe", maple(load_clip("tiny"), length=4))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="MaPLe")
    assert "TRAINER.MAPLE" in run.errors


def test_a_run_in_the_folder_of_another_method_names_the_file_that_is_missing(run_train, tmp_path):
    write_run(tmp_path / "theirs", "MaPLe", maple(load_clip("tiny")))
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="IVLP")
    assert run.status == 2 and "VLPromptLearner" in run.errors and "--model-dir" in run.errors


FIRST = {
    "CoOp": (coop, "ctx", "text_prompts.0"),
    "CoCoOp": (cocoop, "ctx", "text_prompts.0"),
    "VPT": (vpt, "image_encoder.VPT", "vision_prompts.0"),
    "IVLP": (ivlp, "prompt_learner.ctx", "text_prompts.0"),
    "MaPLe": (maple, "prompt_learner.ctx", "text_prompts.0"),
}


@pytest.mark.parametrize("trainer", FIRST)
def test_training_can_start_from_a_published_file(run_train, tmp_path, trainer):
    publish, theirs, ours = FIRST[trainer]
    state = publish(load_clip("tiny"))
    file = write_run(tmp_path / "theirs", trainer, state)
    options = ["MODEL.INIT_WEIGHTS", str(file), "OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0", "TEST.NO_TEST", "True"]
    run = run_train(trainer=trainer, options=options)
    assert run.status == 0, run.errors
    saved = torch.load(run.folder / FOLDERS[trainer] / "model.pth.tar-2", weights_only=True)["state_dict"]
    assert torch.equal(saved[ours], state[theirs].float())


def test_unknown_tensors_are_named():
    state = {"ctx": torch.zeros(4, 64), "meta_net.linear1.weight": torch.zeros(1), "extra": torch.zeros(1)}
    with pytest.raises(InputError, match="meta_net.linear1.weight, extra"):
        COOP.translate(state)


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


@pytest.mark.parametrize("trainer", WITH_TEACHER)
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


@pytest.mark.parametrize("trainer", WITH_TEACHER)
def test_a_published_teacher_of_the_same_sizes_and_other_weights_is_refused(run_train, tmp_path, trainer):
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, with_other_weights())
    assert_refused(run, ["MODEL.BACKBONE.NAME is 'tiny'", "same sizes with other weights", "conv1.weight"])


@pytest.mark.parametrize("trainer", WITH_TEACHER)
def test_a_published_teacher_that_was_averaged_in_half_precision_is_the_same_clip(run_train, tmp_path, trainer):
    teacher = load_clip("tiny")
    for parameter in teacher.parameters():
        parts = [share * parameter.half() for share in gaussian_weights(20, mean=6, std=10)]
        parameter.data = sum(parts[1:], parts[0])
    _, run = evaluated(run_train, tmp_path / "theirs", trainer, teacher)
    assert run.status == 0, run.errors
