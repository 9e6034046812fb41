"""On a CUDA device every method trains in every precision, and fp32 gives what a CPU gives."""

from __future__ import annotations

import copy
import math
import os
import random
from pathlib import Path

from minidassl.own.optim import build_optimizer, optim_settings

import numpy as np
import pytest
import torch
from conftest import CLASSNAMES, RESNET, make_clip
from helpers.objectives import EQUATIONS
from helpers.runs import assert_same_state, interrupt_in
from test_classifier import digits
from torch.nn import functional as F

import trainers
from trainers import run as train_run
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.api.recipe import configure
from trainers.prompting.core import batching, memory
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, use_tf32
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import SettingError
from trainers.prompting.methods import METHODS
from trainers.prompting.objectives.cross_entropy import CrossEntropy
from trainers.prompting.objectives.objective import Loss
from trainers.prompting.objectives.training_step import TrainingStep

# `scripts/gpu_check.sh --device cpu` tries these tests where there is none.
DEVICE = os.environ.get("CHECKED_DEVICE", "cuda")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
pytestmark = [pytest.mark.cuda, *([on_cuda] if DEVICE == "cuda" else [])]

CONFIGS = Path(__file__).parents[1] / "configs" / "trainers"
RECIPES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.glob("*/tiny.yaml"))
RECIPES.append(Path("BMIP", "tiny_released.yaml"))
# Of norms: fp32 rounds at 6e-8, and the towers add up a few hundred products.
FEATURES, GRADIENTS = 1e-5, 1e-4
# Half precision: cosine of the gradients of all trained tensors, and difference of the cosines that are the logits.
GRADIENT_COSINE, LOGIT_DIFFERENCE = 0.99, 0.01
LEARNERS = {
    # As deep as the small CLIP of these tests.
    **{
        name: (name, {field: 3 for field in method.config.declared() if field.endswith(("depth", "last_adapter"))})
        for name, method in METHODS.items()
        if name != "LanguagePrompting"
    },
    "LanguagePrompting": ("LanguagePrompting", {"text_depth": 3}),
    "HiCroPL": ("HiCroPL", {"depth": 3, "cross": 1}),
    "UPT": ("UPT", {"depth": 3, "dropout": 0.0}),
    **{name: (name, {"layers": (2, 3)}) for name in ("MMRL", "MMRLpp")},
    "BMIP released": ("BMIP", {"depth": 3, "variant": "released"}),
    "BMIP with gradient through the readout": ("BMIP", {"depth": 3, "detach": False}),
    "CoOp in the middle": ("CoOp", {"position": "middle"}),
}
MANY = [f"{'very ' * (number % 4)}{word}" for number, word in enumerate(["cat", "dog", "sun", "sea", "oak"] * 4)]
LABELS = [3, 0, 7, 7]


@pytest.fixture(autouse=True)
def flags():
    """Products in full fp32, and PyTorch's flags as they were afterwards."""
    use_tf32(False)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def train_on_cuda(run_train):
    def call(trainer: str, *arguments: str, precision: str = "fp32", options=(), **kwargs):
        node = train_run.TRAINER_REGISTRY.get(trainer).method.node
        given = [
            "USE_CUDA",
            str(DEVICE == "cuda"),
            f"TRAINER.{node}.PREC",
            precision,
            "TRAINER.PROMPTSRC.GPA_MEAN",
            "1.0",
        ]
        return run_train(*arguments, trainer=trainer, options=[*given, "OPTIM.WARMUP_EPOCH", "0", *options], **kwargs)

    trainers.register_all()
    return call


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.parent}-{recipe.stem}")
def test_every_method_trains_and_leaves_its_record(train_on_cuda, recipe, precision):
    trainer = recipe.parent.name
    run = train_on_cuda(trainer, "--config-file", str(CONFIGS / recipe), precision=precision)
    assert run.status == 0, run.errors
    assert all(math.isfinite(float(loss.split()[0])) for loss in run.losses())
    # UPT draws its dropout.
    assert ("not recorded" in run.output) == (trainer == "UPT" and DEVICE != "cpu")
    assert DEVICE == "cpu" or run.result["environment"]["device"] == torch.cuda.get_device_name()
    assert 0 < run.result["accuracy"] <= 100 and run.result["peak_memory_bytes"] > 0
    trains = run.result["parameters"] > 0
    assert run.result["trained"] == trains and bool(run.losses()) == trains


@pytest.mark.parametrize(
    "trainer, precision", [("BMIP", "fp32"), ("BMIP", "amp"), ("CoCoOp", "fp16"), ("PromptSRC", "bf16")]
)
def test_an_interrupted_run_ends_as_the_uninterrupted_one_to_the_bit(
    train_on_cuda, tmp_path, monkeypatch, trainer, precision
):
    options = ["OPTIM.MAX_EPOCH", "3"]
    whole = train_on_cuda(trainer, precision=precision, folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch=1)
    stopped = train_on_cuda(trainer, precision=precision, folder=tmp_path / "stopped", options=options)
    assert stopped.status == 130
    resumed = train_on_cuda(trainer, precision=precision, folder=tmp_path / "stopped", options=options)
    assert "epoch [2/3]" in resumed.output and "epoch [1/3]" not in resumed.output
    assert resumed.losses() == whole.losses()[-len(resumed.losses()) :]
    saved = [
        torch.load(next(run.folder.glob("*/model.pth.tar-3")), map_location="cpu", weights_only=True)
        for run in (resumed, whole)
    ]
    assert_same_state(*saved)
    assert_same_state(resumed.result, whole.result)


def results(model: PromptedCLIP, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """On the CPU: image features, logits, and all gradients of the cross-entropy in one row."""
    device = model.ids.device
    image_features, class_features = model.features(images.to(device))
    logits = model.logits(image_features, class_features)
    parameters = list(model.learner.parameters())
    loss = F.cross_entropy(logits, torch.tensor(LABELS[: len(images)], device=device))
    gradients = torch.autograd.grad(loss, parameters) if parameters else [logits.new_zeros(1)]
    row = torch.cat([gradient.flatten() for gradient in gradients])
    return image_features.detach().cpu(), logits.detach().cpu(), row.cpu()


def prompted(name: str, clip_model: torch.nn.Module, precision: str = "fp32", **options) -> PromptedCLIP:
    """A model of `LEARNERS` with the same prompts each time."""
    method, settings = METHODS[LEARNERS[name][0]], LEARNERS[name][1]
    clip_model = copy.deepcopy(clip_model)
    torch.manual_seed(3)
    learner = method.learner(configure(method, settings, "tiny"), clip_model)
    cast_matmul_weights(clip_model, PRECISIONS[precision].matmul)
    return PromptedCLIP(clip_model, learner, MANY, PRECISIONS[precision], **options)


def distance(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """The norm of the difference, relative to the reference's."""
    return float((ours - reference).norm() / reference.norm().clamp(min=1e-12))


@pytest.mark.parametrize("name", LEARNERS)
def test_fp32_gives_what_a_cpu_gives(small_clip, images, name):
    expected = results(prompted(name, small_clip), images)
    found = results(prompted(name, small_clip).to(DEVICE), images)
    for ours, reference, tolerance in zip(found, expected, (FEATURES, FEATURES, GRADIENTS)):
        assert distance(ours, reference) < tolerance


def test_a_resnet_gives_what_it_gives_on_a_cpu(images):
    train_run.repeat_to_the_bit()
    resnet = make_clip(**RESNET)
    expected, found = results(prompted("CoOp", resnet), images), results(prompted("CoOp", resnet).to(DEVICE), images)
    for ours, reference, tolerance in zip(found, expected, (FEATURES, FEATURES, GRADIENTS)):
        assert distance(ours, reference) < tolerance
    half = results(prompted("CoOp", resnet, "fp16").to(DEVICE), images)
    assert torch.cosine_similarity(half[0], expected[0]).min() > 0.99


@pytest.mark.parametrize("precision", ["bf16", "fp16", "amp"])
@pytest.mark.parametrize("name", LEARNERS)
def test_half_precision_is_within_its_tolerance_of_fp32(small_clip, images, name, precision):
    _, expected, reference = results(prompted(name, small_clip), images)
    _, logits, gradients = results(prompted(name, small_clip, precision).to(DEVICE), images)
    assert (logits - expected).abs().max() / small_clip.logit_scale.exp() < LOGIT_DIFFERENCE
    if reference.any():
        assert F.cosine_similarity(gradients, reference, dim=0) > GRADIENT_COSINE


# As many image tokens as ViT-B/16 has: attention kernels split such sequences, and add up their parts.
LARGE = dict(image_resolution=112, transformer_width=128, transformer_heads=2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["BMIP", "CoCoOp"])
def test_the_same_step_gives_the_same_bits(name, precision):
    train_run.repeat_to_the_bit()
    images = torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    model = prompted(name, make_clip(**LARGE), precision).to(DEVICE)
    first = results(model, images)
    for _ in range(5):
        assert all(map(torch.equal, results(model, images), first))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_recomputed_activations_give_the_same_bits(small_clip, images, monkeypatch, precision):
    train_run.repeat_to_the_bit()
    monkeypatch.setattr(batching, "LARGEST_GROUP", {"cuda": 60, "cpu": 60})
    held = results(prompted("BMIP", small_clip, precision).to(DEVICE), images)
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)
    model = prompted("BMIP", small_clip, precision).to(DEVICE)
    assert all(map(torch.equal, results(model, images), held))
    batches, recomputed, _ = model._batches(1)
    assert 1 < len(batches) == recomputed + 1


@pytest.mark.skipif(DEVICE == "cpu", reason="nothing waits for a CPU")
def test_a_step_never_waits_for_the_device(small_clip, images):
    model = prompted("BMIP", small_clip).to(DEVICE)
    images, labels = images.to(DEVICE), torch.tensor(LABELS, device=DEVICE)
    optimiser = torch.optim.SGD(model.learner.parameters(), lr=0.1)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Drawing(CrossEntropy):
    """An objective of a user's, which may draw on the host."""


def trained(name: str, clip_model, precision: str, graph: str, objective=None, batches=(4, 4, 3, 4), **options):
    """The values of some steps, the trained tensors after them, and the step; batches of other sizes come between."""
    random.seed(5)
    objective = CrossEntropy() if objective is None else objective
    method, settings = METHODS[LEARNERS[name][0]], LEARNERS[name][1]
    clip_model = copy.deepcopy(clip_model)
    torch.manual_seed(3)
    learner = method.learner(configure(method, settings, "tiny"), clip_model)
    objective.extend(learner, clip_model)
    cast_matmul_weights(clip_model, PRECISIONS[precision].matmul)
    model = PromptedCLIP(clip_model, learner, CLASSNAMES, PRECISIONS[precision], **options).to(DEVICE).train()
    objective.prepare(model, CLASSNAMES)
    optimiser = build_optimizer(model.learner, optim_settings(NAME="sgd", LR=0.05))
    step, shown = TrainingStep(model, objective, optimiser, graph), []
    generator = torch.Generator().manual_seed(1)
    side = clip_model.visual.input_resolution
    for epoch, number in enumerate(batches):
        views = [torch.randn(number, 3, side, side, generator=generator).to(DEVICE) for _ in range(objective.views)]
        labels = torch.randint(5, (number,), generator=generator).to(DEVICE)
        shown.append(step(views, labels))
        optimiser.param_groups[0]["lr"] *= 0.9  # as a schedule does
        if epoch == 1:
            # A test between two steps, of another number of images.
            model.eval()
            with torch.no_grad():
                shown.append({"test": model(views[0][:2])})
            model.train()
    return shown, list(model.learner.parameters()), step


def assert_recorded_steps_equal_others(*given, **options) -> None:
    train_run.repeat_to_the_bit()
    (shown, weights, step), (expected, others, _) = (
        trained(*given, graph=graph, **options) for graph in ("auto" if DEVICE == "cpu" else "on", "off")
    )
    assert (step.recording is None) == (DEVICE == "cpu")
    for found, reference in zip(shown, expected):
        assert found.keys() == reference.keys()
        assert all(torch.equal(found[key], reference[key]) for key in found), (found, reference)
    assert all(map(torch.equal, weights, others))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for name in LEARNERS if name not in ("ZeroshotCLIP", "ZeroshotCLIP2", "UPT")])
def test_recorded_steps_give_the_same_bits(small_clip, name, precision):
    assert_recorded_steps_equal_others(name, small_clip, precision)


@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("name", ["CoCoOp", "VPT", "BMIP"])
@pytest.mark.parametrize("objective", [key for key in EQUATIONS if "by" not in key])
def test_recorded_steps_of_an_objective_give_the_same_bits(small_clip, name, objective, precision):
    assert_recorded_steps_equal_others(name, small_clip, precision, objective=EQUATIONS[objective][0]())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "UPT"])
def test_recorded_tests_give_the_same_bits(small_clip, name, precision):
    train_run.repeat_to_the_bit()
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(number, 3, 32, 32, generator=generator).to(DEVICE) for number in (*[4] * 7, 3)]

    def tested(model: PromptedCLIP) -> list:
        found = []
        for images in batches:
            found.append(model(images).clone())
            found += [gates.clone() for gates in model.learner.observed.get("vision", {}).values()]
        return found

    models = [prompted(name, small_clip, precision, graph=graph).to(DEVICE).eval() for graph in ("auto", "off")]
    for change in (0.0, 0.1):
        with torch.no_grad():
            for parameter in (each for model in models for each in model.learner.parameters()):
                parameter.add_(change)
        with torch.inference_mode() if change else torch.no_grad():
            recorded, others = map(tested, models)
        assert len(recorded) == len(others) and all(map(torch.equal, recorded, others))
        assert (models[0]._recorded_tests.recording is None) == (DEVICE == "cpu")
        assert models[1]._recorded_tests.recording is None
    again = copy.deepcopy(models[0])
    with torch.no_grad():
        assert torch.equal(again(batches[0]), models[1](batches[0]))
    moved = models[0].to("cpu").to(DEVICE)
    with torch.no_grad():
        assert all(map(torch.equal, tested(moved), others))
        assert moved.train()._recorded_tests.recording is None


def test_the_history_of_gates_is_that_of_steps_that_are_not_recorded(train_on_cuda, tmp_path):
    found = []
    for graph in ("auto", "off"):
        options = ["OPTIM.MAX_EPOCH", "3", "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST_EARLY", "False"]
        options += ["MODEL.CUDA_GRAPH", graph]
        run = train_on_cuda("BMIP", folder=tmp_path / graph, options=options)
        assert run.status == 0, run.errors
        found.append((run.result["gate_history"], run.result["gates"]))
    assert len(found[0][0]) == 3 and found[0] == found[1]


def test_recorded_steps_with_recomputed_activations_give_the_same_bits(small_clip):
    assert_recorded_steps_equal_others("BMIP", small_clip, "amp", class_chunk=2)


def test_recorded_steps_of_a_vision_tower_as_long_as_vit_b_16s_give_the_same_bits():
    assert_recorded_steps_equal_others("BMIP", make_clip(**LARGE), "fp16")


@pytest.mark.skipif(DEVICE == "cpu", reason="nothing is recorded on a CPU")
def test_steps_that_cannot_be_recorded_run_as_they_are_and_say_why(small_clip, capsys, monkeypatch):
    *_, step = trained("BMIP", small_clip, "fp32", "auto", objective=Drawing())
    assert step.recording is None
    assert capsys.readouterr().out.count("does not say that it is recordable") == 1

    def read(objective, model, views, labels):
        logits = model(views[0])
        return Loss(F.cross_entropy(logits, labels) * (1 if logits.sum().item() else 0), logits)

    monkeypatch.setattr(CrossEntropy, "loss", read)
    before = torch.cuda.current_stream()
    shown, _, step = trained("BMIP", small_clip, "fp32", "auto")
    assert step.recording is None and len(shown) == 5
    assert torch.cuda.current_stream() == before and torch.randn(2, device=DEVICE).isfinite().all()
    assert capsys.readouterr().out.count("Steps are not recorded") == 1
    with pytest.raises(SettingError, match="cuda_graph is on, but"):
        trained("BMIP", small_clip, "fp32", "on")


def test_a_classifier_fits_and_predicts_and_is_the_same_on_a_cpu(tmp_path):
    images, labels = digits(4)
    short = dict(backbone="tiny", progress=False, epochs=2, settings={"depth": 2})
    for precision in (None, *PRECISIONS):
        classifier = PromptClassifier(**short, precision=precision, device=DEVICE).fit(images, labels)
        assert classifier.model_.ids.device.type == DEVICE
        assert classifier.score(images, labels) > 0.5
    exact = PromptClassifier(**short, precision="fp32").fit(images, labels)
    assert exact.model_.ids.device.type == DEVICE
    exact.save(tmp_path)
    on_cpu = PromptClassifier.load(tmp_path, device="cpu")
    np.testing.assert_allclose(on_cpu.predict_proba(images), exact.predict_proba(images), atol=1e-4)
    assert list(on_cpu.predict(images)) == list(exact.predict(images))
