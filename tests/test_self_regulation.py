"""Self-regulation: its terms, teachers and gradients are the equations', and the prompts their Gaussian average."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import naive_objectives as naive
import pytest
import torch
from naive_bmip import naive_image_features, naive_text_features
from test_baselines_equal_naive import by_layer, enlarged, linear, make_cocoop
from test_bmip_equals_naive import make_learner, naive_parameters
from test_training import assert_same_state, interrupt_in
from torch import Tensor

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import PromptLearner
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import EIGHTY, SIXTY
from trainers.prompting.learners.coop import CoOpConfig, CoOpLearner
from trainers.prompting.learners.ivlp import IVLPConfig, IVLPLearner
from trainers.prompting.learners.maple import MaPLeConfig, MaPLeLearner
from trainers.prompting.learners.vpt import VPTConfig
from trainers.prompting.objectives.objective import RunFacts
from trainers.prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig, gaussian_weights

LABELS = torch.tensor([0, 3, 1, 4])
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


@dataclass
class Pair:
    """A learner, and the naive features that it stands for: of images, class names, and what adapts image features."""

    learner: PromptLearner
    features: Callable


def coop(clip_model) -> Pair:
    learner = enlarged(CoOpLearner(CoOpConfig(length=3), clip_model))
    context = learner.text_prompts["0"]
    return Pair(learner, lambda images, names, _: naive.coop_features(clip_model, images, names, context))


def cocoop(clip_model) -> Pair:
    learner = make_cocoop(clip_model, length=2)
    net = learner.meta_net
    layers = learner.text_prompts["0"], linear(net.linear1), linear(net.linear2)
    return Pair(learner, lambda images, names, adapt: naive.cocoop_features(clip_model, images, names, *layers, adapt))


def vpt(clip_model) -> Pair:
    learner = enlarged(IVLPLearner(VPTConfig(vision_depth=3), clip_model))
    prompts = by_layer(learner.vision_prompts)
    return Pair(learner, lambda images, names, _: naive.ivlp_features(clip_model, images, names, {}, prompts))


def ivlp(clip_model) -> Pair:
    learner = enlarged(IVLPLearner(IVLPConfig(text_depth=3, vision_depth=2), clip_model))
    prompts = by_layer(learner.text_prompts), by_layer(learner.vision_prompts)
    return Pair(learner, lambda images, names, _: naive.ivlp_features(clip_model, images, names, *prompts))


def maple(clip_model) -> Pair:
    learner = enlarged(MaPLeLearner(MaPLeConfig(depth=3), clip_model))
    prompts = by_layer(learner.text_prompts)
    couplings = {layer: linear(module) for layer, module in by_layer(learner.text_to_vision).items()}
    return Pair(learner, lambda images, names, _: naive.maple_features(clip_model, images, names, prompts, couplings))


def bmip(clip_model) -> Pair:
    learner = make_learner(clip_model, depth=3)
    parameters, sizes = naive_parameters(learner), dict(depth=3, length=2)

    def features(images, names, _):
        text = naive_text_features(clip_model, names, parameters, **sizes)
        return list(naive_image_features(clip_model, images, parameters, **sizes)), list(text)

    return Pair(learner, features)


PAIRS = {"CoOp": coop, "CoCoOp": cocoop, "VPT": vpt, "IVLP": ivlp, "MaPLe": maple, "BMIP": bmip}


def units(features: list) -> list:
    return [units(feature) if isinstance(feature, list) else naive.unit(feature) for feature in features]


def assert_gradients(ours: Tensor, slow: Tensor, inputs: dict[str, Tensor], **tolerance) -> None:
    """Equal gradients of two scalars; both take part in all of the inputs."""
    found = torch.autograd.grad(ours, list(inputs.values()), retain_graph=True)
    expected = torch.autograd.grad(slow, list(inputs.values()), retain_graph=True)
    for name, one, other in zip(inputs, found, expected):
        assert other.abs().max() > 1e-4, f"{name} matters too little to be compared"
        torch.testing.assert_close(
            one, other, **{**TOLERANCE, **tolerance}, msg=lambda message, name=name: f"{name}: {message}"
        )


# ------------------------------------------------------------------------------------------------ the loss

TEXT_WEIGHT, IMAGE_WEIGHT = 7.0, 3.0


@pytest.fixture(scope="module")
def teacher_text(small_clip) -> list[Tensor]:
    from conftest import CLASSNAMES

    return [naive.averaged_sentences(small_clip, name, SIXTY) for name in CLASSNAMES]


def prepared(clip_model, learner, classnames, **settings) -> tuple[PromptedCLIP, SelfRegulation]:
    objective = SelfRegulation(SelfRegulationConfig(**settings))
    objective.extend(learner, clip_model)
    model = PromptedCLIP(clip_model, learner, classnames).train()
    objective.prepare(model, classnames)
    return model, objective


def slow_terms(clip_model, pair: Pair, images, classnames, teacher_text) -> dict[str, Tensor]:
    raw_images, raw_classes = pair.features(images, classnames, lambda feature: feature)
    image_features, classes = units(raw_images), units(raw_classes)
    teachers = [naive.frozen_image(clip_model, image) for image in images]
    scale = clip_model.logit_scale.exp()
    student = naive.logits(scale, image_features, classes)
    return {
        "loss_ce": naive.cross_entropy(student, LABELS.tolist()),
        "loss_text": TEXT_WEIGHT * naive.mean_absolute(naive.all_pairs(classes, teacher_text)),
        "loss_image": IMAGE_WEIGHT * naive.mean_absolute(list(zip(image_features, teachers))),
        "loss_logits": naive.divergence(student, naive.logits(scale, teachers, teacher_text)),
    }


@pytest.mark.parametrize("name", PAIRS)
def test_every_term_and_its_gradient_are_the_equations(small_clip, images, classnames, teacher_text, name):
    pair = PAIRS[name](small_clip)
    model, objective = prepared(
        small_clip, pair.learner, classnames, text_weight=TEXT_WEIGHT, image_weight=IMAGE_WEIGHT
    )
    # A gradient that came through a teacher would show in the pixels, which both towers see.
    images.requires_grad_(True)
    total, logits, terms = objective.loss(model, [images], LABELS)
    slow = slow_terms(small_clip, pair, images, classnames, teacher_text)
    assert terms.keys() == slow.keys()
    for key, value in slow.items():
        unprompted = key == "loss_image" and name in ("CoOp", "CoCoOp")
        assert value > 1e-3 or unprompted, f"{key} is too small to be compared"
        torch.testing.assert_close(
            terms[key], torch.as_tensor(value), **TOLERANCE, msg=lambda m, key=key: f"{key}: {m}"
        )
    torch.testing.assert_close(total, sum(slow.values()), **TOLERANCE)
    assert_gradients(total, sum(slow.values()), {**dict(pair.learner.named_parameters()), "images": images})
    torch.testing.assert_close(logits, model(images))


def test_the_teachers_of_a_tower_without_prompts_agree_with_it(small_clip, images, classnames):
    model, objective = prepared(small_clip, coop(small_clip).learner, classnames)
    assert objective.loss(model, [images], LABELS).terms["loss_image"] < 1e-5


def test_the_text_teacher_averages_the_sentences_before_it_normalises_them(small_clip, classnames, teacher_text):
    _, objective = prepared(small_clip, ivlp(small_clip).learner, classnames)
    torch.testing.assert_close(objective.teacher_text, torch.stack(teacher_text), rtol=1e-5, atol=1e-6)
    normalised_before = [
        naive.unit(
            sum(
                naive.unit(naive.frozen_sentence(small_clip, template.format(name.replace("_", " "))))
                for template in SIXTY
            )
        )
        for name in classnames
    ]
    gap = (objective.teacher_text - torch.stack(normalised_before)).abs().max()
    assert gap > 1e-5, "the order would make no difference here"


# Of OpenAI's eighty, those that PromptSRC leaves out.
LEFT_OUT = [
    *[f"a {kind} of the {{}}." for kind in ("drawing", "jpeg corrupted photo", "tattoo")],
    *[f"{kind} of the {{}}." for kind in ("art", "graffiti")],
    *[f"a {kind} photo of a {{}}." for kind in ("black and white", "dark", "good")],
    *[f"a photo of a {kind} {{}}." for kind in ("cool", "small")],
    *[f"a photo of the {kind} {{}}." for kind in ("large", "nice", "small", "weird")],
    *["itap of a {}.", "itap of my {}.", "the cartoon {}.", "the plushie {}.", "a plushie {}.", "a toy {}."],
]


def test_the_teacher_has_sixty_sentences_and_none_of_the_twenty_that_are_left_out():
    assert len(set(SIXTY)) == len(SIXTY) == 60 and len(set(LEFT_OUT)) == 20
    assert all(template.count("{}") == 1 for template in SIXTY)
    assert not set(SIXTY) & set(LEFT_OUT)
    assert len(EIGHTY) == 80 and set(EIGHTY) == {*SIXTY, *LEFT_OUT}


@pytest.mark.parametrize("together", [1, 7, 100_000])
def test_the_text_teacher_does_not_depend_on_how_many_sentences_are_encoded_together(
    small_clip, classnames, teacher_text, monkeypatch, together
):
    monkeypatch.setattr("trainers.prompting.objectives.self_regulation.SENTENCES_TOGETHER", together)
    _, objective = prepared(small_clip, ivlp(small_clip).learner, classnames)
    torch.testing.assert_close(objective.teacher_text, torch.stack(teacher_text), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "amp"])
def test_the_text_teacher_computes_in_fp32_whatever_the_towers_do(small_clip, classnames, precision):
    towers, precision = copy.deepcopy(small_clip), PRECISIONS[precision]
    cast_matmul_weights(towers, precision.matmul)
    objective = SelfRegulation(SelfRegulationConfig())
    objective.prepare(PromptedCLIP(towers, ivlp(towers).learner, classnames, precision), classnames)
    # Of the weights as the towers store them, which bf16 has rounded before.
    expected = [naive.averaged_sentences(copy.deepcopy(towers).float(), name, SIXTY) for name in classnames]
    torch.testing.assert_close(objective.teacher_text, torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_the_teachers_do_not_follow_the_prompts(small_clip, images, classnames):
    pair = maple(small_clip)
    model, objective = prepared(small_clip, pair.learner, classnames)
    before = objective.teacher_text.clone(), model.encode_image(images, prompted=False).detach()
    with torch.no_grad():
        for parameter in pair.learner.parameters():
            parameter.mul_(2)
    assert not objective.teacher_text.requires_grad
    assert torch.equal(before[0], objective.teacher_text)
    assert torch.equal(before[1], model.encode_image(images, prompted=False))


# ------------------------------------------------------------------------------------------------ the Gaussian


def test_three_epochs_around_the_second_have_the_weights_worked_out_by_hand():
    # exp(-1/2) = 0.606531 on both sides of 1, in all 2.213061.
    assert gaussian_weights(3, mean=2, std=1) == pytest.approx([0.2740686, 0.4518628, 0.2740686], abs=1e-7)


def test_the_mean_may_lie_at_the_edge_or_between_two_epochs():
    # 1, exp(-1/8) = 0.882497 and exp(-1/2) = 0.606531, in all 2.489028.
    assert gaussian_weights(3, mean=1, std=2) == pytest.approx([0.4017633, 0.3545550, 0.2436818], abs=1e-6)
    assert gaussian_weights(2, mean=1.5, std=1) == [0.5, 0.5]


def test_the_published_settings_have_the_published_shares():
    base_to_new = gaussian_weights(20, mean=15, std=1)
    assert base_to_new[14] == pytest.approx(0.399, abs=5e-4) and sum(base_to_new[12:17]) > 0.99
    transfer = gaussian_weights(20, mean=6, std=10)
    assert [transfer[0], transfer[5], transfer[19]] == pytest.approx([0.055, 0.063, 0.024], abs=1e-3)
    early = gaussian_weights(50, mean=30, std=30)
    assert [early[0], early[29]] == pytest.approx([0.014, 0.0225], abs=5e-4)
    late = gaussian_weights(50, mean=45, std=5)
    assert late[44] == max(late) == pytest.approx(0.092, abs=1e-3) and sum(late[34:]) > 0.97


@pytest.mark.parametrize("mean", [1, 3.4, 7, 20])
@pytest.mark.parametrize("std", [0.01, 1e-6, 1, 100])
def test_the_weights_sum_to_one_and_are_largest_at_the_mean_however_narrow_the_gaussian_is(mean, std):
    weights = gaussian_weights(20, mean, std)
    assert len(weights) == 20 and sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert weights.index(max(weights)) + 1 == round(mean)


def test_the_prompts_are_the_average_from_the_last_epoch_on_and_untouched_before(small_clip):
    learner = ivlp(small_clip).learner
    objective = SelfRegulation(SelfRegulationConfig(mean=2, std=1), RunFacts(epochs=3))
    states = []
    for epoch in (1, 2, 3):
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(epoch)))
        states.append({name: parameter.detach().clone() for name, parameter in learner.named_parameters()})
        objective.end_epoch(learner, epoch)
        if epoch < 3:
            assert_same_state(states[-1], dict(learner.named_parameters()))
    for name, parameter in learner.named_parameters():
        first, second, third = (state[name] for state in states)
        torch.testing.assert_close(parameter.detach(), 0.2740686 * first + 0.4518628 * second + 0.2740686 * third)
        assert parameter.requires_grad


# ------------------------------------------------------------------------------------------------ whole runs

RUNS = {
    "PromptSRC": ("PromptSRC", []),
    "PromptSRC_BMIP": ("PromptSRC_BMIP", []),
    "MaPLe": ("MaPLe", ["TRAINER.OBJECTIVE", "self_regulation"]),
}
FOUR_EPOCHS = ["OPTIM.MAX_EPOCH", "4", "TRAINER.PROMPTSRC.GPA_MEAN", "3", "TRAINER.PROMPTSRC.GPA_STD", "1.5"]


def saved(run, epoch: int) -> dict:
    (file,) = run.folder.glob(f"*/model.pth.tar-{epoch}")
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_in_the_weighted_sum_of_its_epochs_which_are_those_of_plain_training(
    run_train, tmp_path, monkeypatch, name
):
    trainer, options = RUNS[name]
    options = [*options, *FOUR_EPOCHS, "TRAIN.CHECKPOINT_FREQ", "1"]
    run = run_train(trainer=trainer, folder=tmp_path / "run", options=options)
    assert run.status == 0, run.errors
    with monkeypatch.context() as patch:
        patch.setattr(SelfRegulation, "end_epoch", lambda *_: None)
        plain = run_train(trainer=trainer, folder=tmp_path / "plain", options=options)
    assert run.losses() == plain.losses()
    states = [saved(plain, epoch)["state_dict"] for epoch in (1, 2, 3, 4)]
    for epoch in (1, 2, 3):
        assert_same_state(saved(run, epoch)["state_dict"], states[epoch - 1])
    average = saved(run, 4)["state_dict"]
    expected = naive.weighted_sum(states, mean=3, std=1.5)
    assert average.keys() == expected.keys()
    moved = 0
    for key, value in average.items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-6, atol=1e-7)
        moved += not torch.allclose(value, states[-1][key], rtol=1e-6, atol=1e-7)
    assert moved == len(average), "the average of some tensors is their last value"


@pytest.mark.parametrize("name, epoch", [("PromptSRC", 1), ("PromptSRC", 3), ("PromptSRC_BMIP", 2), ("MaPLe", 2)])
def test_an_interrupted_and_resumed_run_ends_in_the_same_average_to_the_bit(
    run_train, tmp_path, monkeypatch, name, epoch
):
    trainer, options = RUNS[name]
    options = [*options, *FOUR_EPOCHS]
    whole = run_train(trainer=trainer, folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch)
    stopped = run_train(trainer=trainer, folder=tmp_path / "stopped", options=options)
    assert stopped.status == 130
    resumed = run_train(trainer=trainer, folder=tmp_path / "stopped", options=options)
    assert resumed.status == 0, resumed.errors
    assert f"epoch [{epoch + 1}/4]" in resumed.output and f"epoch [{epoch}/4]" not in resumed.output
    assert_same_state(saved(resumed, 4), saved(whole, 4))
    assert_same_state(resumed.result, whole.result)


def test_the_test_after_training_is_that_of_the_average(run_train, tmp_path):
    options = ["TRAINER.PROMPTSRC.GPA_MEAN", "1", "OPTIM.LR", "0.05"]
    run = run_train(trainer="PromptSRC", options=options)
    again = run_train(
        *("--eval-only", "--model-dir", str(run.folder)),
        trainer="PromptSRC",
        folder=tmp_path / "eval",
        options=options,
    )
    assert again.result["weights_hash"] == run.result["weights_hash"]
    assert again.result["accuracy"] == run.result["accuracy"]


def test_a_gaussian_much_narrower_than_an_epoch_keeps_one_epoch_and_no_nan(run_train, tmp_path):
    options = ["TRAINER.PROMPTSRC.GPA_MEAN", "1", "TRAINER.PROMPTSRC.GPA_STD", "0.01", "TRAIN.CHECKPOINT_FREQ", "1"]
    run = run_train(trainer="PromptSRC", options=options)
    assert run.status == 0, run.errors
    assert_same_state(saved(run, 2)["state_dict"], saved(run, 1)["state_dict"])
