"""Consistency: its terms, teachers, adapters and gradients are the equations', and adapters belong to the model."""

from __future__ import annotations

import copy

import naive_objectives as naive
import pytest
import torch
from test_bad_input import assert_refused
from test_self_regulation import LABELS, PAIRS, TOLERANCE, assert_gradients, saved, units
from test_training import assert_same_state, interrupt_in
from torch import Tensor

from trainers.base import PromptTrainer
from trainers.prompting.core.adapters import FeatureAdapter
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.objectives.consistency import Consistency, ConsistencyConfig

# Of the five classes in their order, with characters that are others in class names and templates.
SENTENCES = [
    ["a cat with whiskers.", "soft fur and claws."],
    ["a dog with stripes.", "a striped_dog {barks}, and wears {}."],
    ["an old jet with four engines.", "silver wings."],
    ["much water.", "waves to the horizon."],
    ["a yellow disc.", "the sun shines."],
]
WEIGHT, IMAGE_SHARE, TEXT_SHARE = 3.0, 0.3, 0.6


def describing(sentences: list[list[str]], **settings) -> Consistency:
    """The objective with these sentences in the place of a file's."""
    objective = Consistency(ConsistencyConfig(**settings))
    objective.describe = lambda names: sentences
    return objective


def prepared(clip_model, learner, classnames, sentences=SENTENCES, **settings) -> tuple[PromptedCLIP, Consistency]:
    """The model and its objective, with adapters that are large enough to matter."""
    settings = {**dict(weight=WEIGHT, image_share=IMAGE_SHARE, text_share=TEXT_SHARE), **settings}
    objective = describing(sentences, **settings)
    objective.extend(learner, clip_model)
    with torch.no_grad():
        for seed, parameter in enumerate(learner.adapters.parameters()):
            parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(seed))
    model = PromptedCLIP(clip_model, learner, classnames).train()
    objective.prepare(model, classnames)
    return model, objective


@pytest.fixture
def views(images) -> list[Tensor]:
    """Two independent views of each image."""
    return [images, torch.randn(images.shape, generator=torch.Generator().manual_seed(9))]


def naive_adapter(adapter: FeatureAdapter, share: float):
    inner, outer = adapter.layers[0].weight, adapter.layers[2].weight
    return lambda feature: naive.adapted(feature, inner, outer, share)


def slow_terms(clip_model, pair, views, classnames, drawn: list[str], distance) -> dict[str, Tensor]:
    adapters = pair.learner.adapters
    adapt_image, adapt_text = (
        naive_adapter(adapters.image, IMAGE_SHARE),
        naive_adapter(adapters.text, TEXT_SHARE),
    )
    raw_images, raw_classes = pair.features(views[0], classnames, adapt_image)
    image_features = units([adapt_image(feature) for feature in raw_images])
    if isinstance(raw_classes[0], list):
        classes = units([[adapt_text(feature) for feature in row] for row in raw_classes])
    else:
        classes = units([adapt_text(feature) for feature in raw_classes])
    teachers = [naive.frozen_image(clip_model, image) for image in views[1]]
    described = [naive.unit(naive.frozen_sentence(clip_model, sentence)) for sentence in drawn]
    student = naive.logits(clip_model.logit_scale.exp(), image_features, classes)
    return {
        "loss_ce": naive.cross_entropy(student, LABELS.tolist()),
        "loss_text": WEIGHT * distance(naive.all_pairs(classes, described)),
        "loss_image": WEIGHT * distance(list(zip(image_features, teachers))),
    }


DISTANCES = {"cosine": naive.mean_cosine_distance, "mse": naive.mean_square}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", PAIRS)
def test_every_term_and_its_gradient_are_the_equations(small_clip, views, classnames, monkeypatch, name, distance):
    pair = PAIRS[name](small_clip)
    model, objective = prepared(small_clip, pair.learner, classnames, distance=distance)
    monkeypatch.setattr("random.random", lambda: 0.7)
    drawn = [sentences[1] for sentences in SENTENCES]
    views[0].requires_grad_(True)
    total, logits, terms = objective.loss(model, views, LABELS)
    slow = slow_terms(small_clip, pair, views, classnames, drawn, DISTANCES[distance])
    assert terms.keys() == slow.keys()
    for key, value in slow.items():
        assert value > 1e-2, f"{key} is too small to be compared"
        torch.testing.assert_close(terms[key], value, **TOLERANCE, msg=lambda m, key=key: f"{key}: {m}")
    torch.testing.assert_close(total, sum(slow.values()), **TOLERANCE)
    inputs = {**dict(pair.learner.named_parameters()), "images": views[0]}
    assert {f"adapters.{tower}.layers.{layer}.weight" for tower in ("image", "text") for layer in (0, 2)} < set(inputs)
    assert_gradients(total, sum(slow.values()), inputs)
    torch.testing.assert_close(logits, model(views[0]))


def test_the_prompted_towers_see_the_first_view_and_the_teacher_the_second_and_passes_no_gradient(
    small_clip, views, classnames
):
    model, objective = prepared(small_clip, PAIRS["IVLP"](small_clip).learner, classnames)
    for view in views:
        view.requires_grad_(True)
    torch.manual_seed(0)
    total, logits, terms = objective.loss(model, views, LABELS)
    first, second = torch.autograd.grad(total, views, allow_unused=True, retain_graph=True)
    assert first.abs().max() > 1e-4 and second is None
    # Another second view changes what the teacher says of images, and nothing else.
    other = objective.loss(model, [views[0], torch.randn_like(views[1])], LABELS)
    assert torch.equal(other.logits, logits) and torch.equal(other.terms["loss_ce"], terms["loss_ce"])
    assert not torch.isclose(other.terms["loss_image"], terms["loss_image"])
    swapped = objective.loss(model, views[::-1], LABELS)
    assert not torch.isclose(swapped.terms["loss_ce"], terms["loss_ce"])


def test_the_teachers_have_neither_prompts_nor_adapters(small_clip, views, classnames, monkeypatch):
    pair = PAIRS["MaPLe"](small_clip)
    model, objective = prepared(small_clip, pair.learner, classnames)
    described, seen = objective.described.clone(), model.encode_image(views[1], prompted=False).detach()
    with torch.no_grad():
        for parameter in pair.learner.parameters():
            parameter.mul_(2)
    assert torch.equal(objective.described, described) and not objective.described.requires_grad
    assert torch.equal(model.encode_image(views[1], prompted=False), seen)
    expected = [naive.unit(naive.frozen_sentence(small_clip, s)) for sentences in SENTENCES for s in sentences]
    torch.testing.assert_close(described, torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_descriptions_are_encoded_in_the_precision_of_the_towers(small_clip, classnames, name):
    towers, precision = copy.deepcopy(small_clip), PRECISIONS[name]
    cast_matmul_weights(towers, precision.matmul)
    model = PromptedCLIP(towers, PAIRS["IVLP"](towers).learner, classnames, precision)
    objective = describing(SENTENCES)
    objective.prepare(model, classnames)
    flat = [sentence for sentences in SENTENCES for sentence in sentences]
    expected = PromptedCLIP(towers, FixedSentence(*plain(flat)), [""], precision).encode_text().float()
    assert torch.equal(objective.described, torch.nn.functional.normalize(expected, dim=-1))
    exact = torch.stack([naive.unit(naive.frozen_sentence(small_clip, sentence)) for sentence in flat])
    gap = (objective.described - exact).abs().max()
    assert 1e-5 < gap < 0.1


@pytest.mark.parametrize("together", [1, 3])
def test_descriptions_do_not_depend_on_how_many_are_encoded_together(small_clip, classnames, monkeypatch, together):
    learner = PAIRS["IVLP"](small_clip).learner
    _, whole = prepared(small_clip, learner, classnames)
    monkeypatch.setattr("trainers.prompting.objectives.consistency.SENTENCES_TOGETHER", together)
    _, parts = prepared(small_clip, learner, classnames)
    torch.testing.assert_close(parts.described, whole.described, rtol=1e-5, atol=1e-6)


def plain(sentences: list[str]) -> list[str]:
    """As templates: braces are no places for names."""
    return [sentence.replace("{", "{{").replace("}", "}}") for sentence in sentences]


# ------------------------------------------------------------------------------------------------ descriptions


def drawn_of(objective: Consistency, sentences: list[list[str]], monkeypatch, value: float) -> list[int]:
    """The number of each class's description that is drawn where Python's generator gives `value`."""
    monkeypatch.setattr("random.random", lambda: value)
    drawn, start, found = objective.draw(), 0, []
    for feature, own in zip(drawn, sentences):
        (same,) = [k for k in range(len(own)) if torch.equal(feature, objective.described[start + k])][:1]
        found.append(same)
        start += len(own)
    return found


DIFFERENT = [["one"], ["one", "two"], ["one", "two", "three"], ["a", "b", "c", "d", "e"], ["1", "2", "3", "4"]]


@pytest.fixture
def of_different_numbers(small_clip, classnames) -> Consistency:
    return prepared(small_clip, PAIRS["CoOp"](small_clip).learner, classnames, DIFFERENT)[1]


def test_every_description_of_a_class_is_drawn_equally_often(of_different_numbers, monkeypatch):
    counts = [[0] * len(sentences) for sentences in DIFFERENT]
    for step in range(60):
        for tally, index in zip(counts, drawn_of(of_different_numbers, DIFFERENT, monkeypatch, (step + 0.5) / 60)):
            tally[index] += 1
    assert counts == [[60 // len(sentences)] * len(sentences) for sentences in DIFFERENT]


@pytest.mark.parametrize("value, last", [(0.0, False), (1 - 2**-53, True), (1 - 2**-26, True)])
def test_a_draw_at_either_end_stays_within_the_class(of_different_numbers, monkeypatch, value, last):
    drawn = drawn_of(of_different_numbers, DIFFERENT, monkeypatch, value)
    assert drawn == [len(sentences) - 1 if last else 0 for sentences in DIFFERENT]


def test_equal_numbers_of_descriptions_share_one_index_of_each_step(small_clip, classnames, monkeypatch):
    _, objective = prepared(small_clip, PAIRS["CoOp"](small_clip).learner, classnames)
    found = [drawn_of(objective, SENTENCES, monkeypatch, value) for value in (0.0, 0.49, 0.51, 0.99)]
    assert found == [[0] * 5, [0] * 5, [1] * 5, [1] * 5]


def test_each_step_draws_anew_from_pythons_generator(small_clip, classnames):
    import random

    _, objective = prepared(small_clip, PAIRS["CoOp"](small_clip).learner, classnames)
    random.seed(3)
    first = [objective.draw() for _ in range(20)]
    assert any(not torch.equal(first[0], other) for other in first)
    random.seed(3)
    assert all(torch.equal(one, objective.draw()) for one in first)


# ------------------------------------------------------------------------------------------------ adapters


def test_an_adapter_mixes_its_answer_with_the_feature_by_its_share():
    adapter = FeatureAdapter(4, 0.25)
    with torch.no_grad():
        adapter.layers[0].weight.copy_(torch.tensor([[1.0, 0, -1, 0]]))
        adapter.layers[2].weight.copy_(torch.tensor([[2.0], [-1], [0], [4]]))
    # 3 - 1 = 2; then (4, -2, 0, 8), of which the second is cut; a quarter of that, and three quarters of the feature.
    found = adapter(torch.tensor([[3.0, 4, 1, -8]]))
    assert found.tolist() == [[1 + 2.25, 3, 0.75, 2 - 6]]
    # -2 inside leaves nothing of the answer.
    assert adapter(torch.tensor([[1.0, 4, 3, -8]])).tolist() == [[0.75, 3, 2.25, -6]]


def test_an_adapter_is_four_times_narrower_in_its_middle_and_has_no_biases():
    shapes = {name: tuple(parameter.shape) for name, parameter in FeatureAdapter(512, 0.1).named_parameters()}
    assert shapes == {"layers.0.weight": (128, 512), "layers.2.weight": (512, 128)}


@pytest.mark.parametrize("name", PAIRS)
def test_adapters_without_a_share_change_nothing(small_clip, images, classnames, name):
    pair = PAIRS[name](small_clip)
    plain = PromptedCLIP(small_clip, pair.learner, classnames)(images)
    model, _ = prepared(small_clip, pair.learner, classnames, image_share=0.0, text_share=0.0)
    torch.testing.assert_close(model(images), plain)


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("name", ["IVLP", "VPT", "MaPLe", "BMIP"])
def test_kept_class_features_notice_a_change_of_the_adapters(small_clip, images, classnames, name, tower):
    learner = PAIRS[name](small_clip).learner
    model, _ = prepared(small_clip, learner, classnames)
    model.eval()
    with torch.no_grad():
        before = model(images)
        assert model.class_features() is model.class_features(), "features are not kept"
        getattr(learner.adapters, tower).layers[2].weight.mul_(-1)
        after = model(images)
        fresh = PromptedCLIP(small_clip, learner, classnames)(images)
    assert torch.equal(after, fresh) and not torch.allclose(after, before)


def test_the_frozen_sentences_of_a_learner_without_prompts_are_adapted_too(small_clip, images, classnames):
    model, _ = prepared(small_clip, FixedSentence("a photo of a {}."), classnames)
    features = model.class_features()
    assert features.requires_grad
    (gradient,) = torch.autograd.grad(features[0, 0], model.learner.adapters.text.layers[2].weight)
    assert gradient.abs().max() > 0


# ------------------------------------------------------------------------------------------------ whole runs

RUNS = {
    "CoPrompt": ("CoPrompt", []),
    "CoPrompt_BMIP": ("CoPrompt_BMIP", []),
    "IVLP": ("IVLP", ["TRAINER.OBJECTIVE", "consistency"]),
}
ADAPTERS = {f"adapters.{tower}.layers.{layer}.weight" for tower in ("image", "text") for layer in (0, 2)}


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_and_resumed_run_ends_as_the_uninterrupted_one_to_the_bit(
    run_train, tmp_path, monkeypatch, name
):
    trainer, options = RUNS[name]
    options = [*options, "OPTIM.MAX_EPOCH", "3"]
    whole = run_train(trainer=trainer, folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch=1)
    assert run_train(trainer=trainer, folder=tmp_path / "stopped", options=options).status == 130
    resumed = run_train(trainer=trainer, folder=tmp_path / "stopped", options=options)
    assert resumed.status == 0 and "epoch [2/3]" in resumed.output and "epoch [1/3]" not in resumed.output
    assert resumed.losses() == whole.losses()[-4:]
    assert_same_state(saved(resumed, 3), saved(whole, 3))
    assert_same_state(resumed.result, whole.result)


def test_a_step_gets_two_views_of_the_same_images_that_differ(run_train, monkeypatch):
    seen = []
    loss = Consistency.loss

    def watched(objective, model, views, labels):
        seen.append(views)
        return loss(objective, model, views, labels)

    monkeypatch.setattr(Consistency, "loss", watched)
    run_train(trainer="CoPrompt")
    assert len(seen) == 4
    for first, second in seen:
        assert first.shape == second.shape and not torch.equal(first, second)
        # A digit is nearer to another cut of itself than to those of other images, on average.
        gaps = (first[:, None] - second[None]).abs().mean(dim=(2, 3, 4))
        assert gaps.diagonal().mean() < gaps.mean()


def test_adapters_are_trained_saved_and_part_of_the_test(run_train, tmp_path, monkeypatch):
    still = ["OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0"]
    start = saved(run_train(trainer="CoPrompt", folder=tmp_path / "still", options=still), 2)["state_dict"]
    run = run_train(trainer="CoPrompt", folder=tmp_path / "run")
    state = saved(run, 2)["state_dict"]
    assert not ADAPTERS - state.keys()
    assert not [name for name in ADAPTERS if torch.equal(state[name], start[name])]

    batches = []

    def model_inference(trainer, images):
        batches.append(trainer.model(images))
        return batches[-1]

    monkeypatch.setattr(PromptTrainer, "model_inference", model_inference)
    evaluate = ("--eval-only", "--model-dir", str(run.folder))
    again = run_train(*evaluate, trainer="CoPrompt", folder=tmp_path / "again")
    assert again.result["accuracy"] == run.result["accuracy"]
    (file,) = run.folder.glob("*/model.pth.tar-2")
    content = torch.load(file, weights_only=True)
    for name in ADAPTERS:
        content["state_dict"][name] = -content["state_dict"][name]
    torch.save(content, file)
    run_train(*evaluate, trainer="CoPrompt", folder=tmp_path / "other")
    assert len(batches) == 2 and not torch.allclose(*batches, atol=1e-3)


TESTED_AS = [
    ("CoPrompt", "MaPLe", [], ["has adapters", "set TRAINER.OBJECTIVE to consistency"]),
    ("CoPrompt_BMIP", "BMIP", [], ["has adapters", "set TRAINER.OBJECTIVE to consistency"]),
    ("MaPLe", "CoPrompt", [], ["has no adapters", "--trainer", "TRAINER.OBJECTIVE empty"]),
    ("MaPLe", "MaPLe", ["TRAINER.OBJECTIVE", "consistency"], ["has no adapters", "TRAINER.OBJECTIVE empty"]),
]


@pytest.mark.parametrize("trained, tested, options, words", TESTED_AS, ids=str)
def test_adapters_in_a_checkpoint_or_a_model_alone_are_refused_with_the_objective(
    run_train, tmp_path, trained, tested, options, words
):
    run = run_train(trainer=trained, options=["TEST.NO_TEST", "True"])
    flags = "--eval-only", "--model-dir", str(run.folder)
    again = run_train(*flags, trainer=tested, folder=tmp_path / "eval", options=options)
    assert_refused(again, ["adapters.image.layers.0.weight", "model.pth.tar-2", *words])


SHARES = [f"TRAINER.CoPrompt.{tower}_ADAPTER_SHARE" for tower in ("IMAGE", "TEXT")]


def test_a_run_is_tested_with_the_shares_of_the_adapters_that_it_was_trained_with(run_train, tmp_path):
    run = run_train(trainer="CoPrompt", options=[SHARES[0], "0.3", "TEST.NO_TEST", "True"])
    flags = "--eval-only", "--model-dir", str(run.folder)
    same = run_train(*flags, trainer="CoPrompt", folder=tmp_path / "same", options=[SHARES[0], "0.3"])
    assert same.status == 0, same.errors
    other = run_train(*flags, trainer="CoPrompt", folder=tmp_path / "other", options=[SHARES[1], "1.0"])
    words = [f"{SHARES[0]} was 0.3 and is now 0.1", f"{SHARES[1]} was 0.2 and is now 1.0", "set the keys"]
    assert_refused(other, [*words, str(run.folder / "settings.yaml")])


def test_weights_without_the_record_of_a_run_are_tested_with_the_shares_that_are_configured(run_train, tmp_path):
    run = run_train(trainer="CoPrompt", options=["TEST.NO_TEST", "True"])
    (run.folder / "settings.yaml").unlink()
    flags = "--eval-only", "--model-dir", str(run.folder)
    tested = run_train(*flags, trainer="CoPrompt", folder=tmp_path / "eval", options=[SHARES[0], "0.5"])
    assert tested.status == 0, tested.errors
