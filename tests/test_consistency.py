"""Consistency: which descriptions are drawn, what two views are, and adapters that belong to the model."""

from __future__ import annotations

import copy
import random

import naive_objectives as naive
import pytest
import torch
from helpers.learners import SETTINGS, make
from helpers.objectives import SENTENCES, consistency, prepared
from helpers.runs import assert_refused

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.objectives.consistency import Consistency


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_descriptions_are_encoded_in_the_precision_of_the_towers(small_clip, classnames, name):
    towers, precision = copy.deepcopy(small_clip), PRECISIONS[name]
    cast_matmul_weights(towers, precision.matmul)
    model = PromptedCLIP(towers, make(towers, "IVLP", **SETTINGS["IVLP"]), classnames, precision)
    objective = consistency()
    objective.prepare(model, classnames)
    flat = [sentence for sentences in SENTENCES for sentence in sentences]
    expected = PromptedCLIP(towers, FixedSentence(*plain(flat)), [""], precision).encode_text().float()
    assert torch.equal(objective.described, torch.nn.functional.normalize(expected, dim=-1))
    exact = torch.stack([naive.unit(naive.frozen_sentence(small_clip, sentence)) for sentence in flat])
    gap = (objective.described - exact).abs().max()
    assert 1e-5 < gap < 0.1


def plain(sentences: list[str]) -> list[str]:
    """As templates: braces are no places for names."""
    return [sentence.replace("{", "{{").replace("}", "}}") for sentence in sentences]


# ------------------------------------------------------------------------------------------------ descriptions


def draw(objective: Consistency) -> torch.Tensor:
    objective.before_step()
    return objective.drawn_features()


def drawn_of(objective: Consistency, sentences: list[list[str]], monkeypatch, value: float) -> list[int]:
    """The number of each class's description that is drawn where Python's generator gives `value`."""
    monkeypatch.setattr("random.random", lambda: value)
    drawn, start, found = draw(objective), 0, []
    for feature, own in zip(drawn, sentences):
        (same,) = [k for k in range(len(own)) if torch.equal(feature, objective.described[start + k])][:1]
        found.append(same)
        start += len(own)
    return found


DIFFERENT = [["one"], ["one", "two"], ["one", "two", "three"], ["a", "b", "c", "d", "e"], ["1", "2", "3", "4"]]


@pytest.fixture
def of_different_numbers(small_clip, classnames) -> Consistency:
    objective = consistency(DIFFERENT)
    prepared(small_clip, make(small_clip, "CoOp", length=3), classnames, objective)
    return objective


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


@pytest.fixture
def of_equal_numbers(small_clip, classnames) -> Consistency:
    objective = consistency()
    prepared(small_clip, make(small_clip, "CoOp", length=3), classnames, objective)
    return objective


def test_equal_numbers_of_descriptions_share_one_index_of_each_step(of_equal_numbers, monkeypatch):
    found = [drawn_of(of_equal_numbers, SENTENCES, monkeypatch, value) for value in (0.0, 0.49, 0.51, 0.99)]
    assert found == [[0] * 5, [0] * 5, [1] * 5, [1] * 5]


def test_each_step_draws_anew_from_pythons_generator(of_equal_numbers):
    random.seed(3)
    first = [draw(of_equal_numbers) for _ in range(20)]
    assert any(not torch.equal(first[0], other) for other in first)
    random.seed(3)
    assert all(torch.equal(one, draw(of_equal_numbers)) for one in first)


# ------------------------------------------------------------------------------------------------ adapters


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("name", ["IVLP", "VPT"])
def test_kept_class_features_notice_a_change_of_the_adapters(small_clip, images, classnames, name, tower):
    learner = make(small_clip, name, **SETTINGS[name])
    model = prepared(small_clip, learner, classnames, consistency())
    model.eval()
    with torch.no_grad():
        before = model(images)
        assert model.class_features() is model.class_features(), "features are not kept"
        getattr(learner.adapters, tower).layers[2].weight.mul_(-1)
        after = model(images)
        fresh = PromptedCLIP(small_clip, learner, classnames)(images)
    assert torch.equal(after, fresh) and not torch.allclose(after, before)


def test_the_frozen_sentences_of_a_learner_without_prompts_are_adapted_too(small_clip, images, classnames):
    model = prepared(small_clip, FixedSentence("a photo of a {}."), classnames, consistency())
    features = model.class_features()
    assert features.requires_grad
    (gradient,) = torch.autograd.grad(features[0, 0], model.learner.adapters.text.layers[2].weight)
    assert gradient.abs().max() > 0


# ------------------------------------------------------------------------------------------------ whole runs

ADAPTERS = {f"adapters.{tower}.layers.{layer}.weight" for tower in ("image", "text") for layer in (0, 2)}


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


def test_adapters_are_saved_and_part_of_the_test(run_train, tmp_path, seen):
    run = run_train(trainer="CoPrompt", folder=tmp_path / "run")
    seen.clear()
    evaluate = ("--eval-only", "--model-dir", str(run.folder))
    again = run_train(*evaluate, trainer="CoPrompt", folder=tmp_path / "again")
    assert again.result["accuracy"] == run.result["accuracy"]
    (file,) = run.folder.glob("*/model.pth.tar-2")
    content = torch.load(file, weights_only=True)
    for name in ADAPTERS:
        content["state_dict"][name] = -content["state_dict"][name]
    torch.save(content, file)
    run_train(*evaluate, trainer="CoPrompt", folder=tmp_path / "other")
    (_, right), (_, wrong) = seen
    assert not torch.allclose(right, wrong, atol=1e-3)


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
