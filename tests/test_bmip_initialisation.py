"""How BMIP's tensors start: N(0, 0.02^2) prompts, words at layer 0, and what the authors' code does otherwise."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip

from trainers.prompting.core.openai_clip import clip
from trainers.prompting.learners.bmip import BMIPConfig, BMIPLearner

WIDE = dict(vision_width=640, transformer_width=512, transformer_heads=8)


def make(**settings) -> BMIPLearner:
    torch.manual_seed(0)
    return BMIPLearner(BMIPConfig(depth=3, **settings), make_clip(**WIDE))


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_prompts_are_normal_with_deviation_0_02_and_differ():
    learner = make(context="", length=4)
    prompts = [*learner.text_prompts.values(), *learner.vision_prompts.values()]
    assert len(prompts) == 6
    for prompt in prompts:
        assert prompt.std().item() == pytest.approx(0.02, rel=0.1) and abs(prompt.mean().item()) < 0.002
    assert not torch.equal(prompts[3], prompts[4])


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_first_words_of_the_context_start_layer_0_only(variant):
    learner, clip_model = make(variant=variant), make_clip(**WIDE)
    words = clip_model.token_embedding(clip.tokenize("a photo of a"))[0, 1:3]
    assert torch.equal(learner.text_prompts["0"], words)
    assert learner.text_prompts["1"].std().item() == pytest.approx(0.02, rel=0.1)


def test_more_than_four_prompts_are_random_between_placeholders():
    learner = make(length=5)
    assert learner.template == "X X X X X {}." and learner.text_prompts["0"].std().item() == pytest.approx(
        0.02, rel=0.1
    )
    assert make(length=4).template == "a photo of a {}."


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_unshared_deep_heads_are_separate_copies_of_one_start(variant):
    heads = make(variant=variant, share_text=False, share_vision=False).text_to_vision
    assert set(heads) == {"0", "1", "2"}
    assert same(heads["1"], heads["2"]) and not same(heads["0"], heads["1"])
    assert heads["1"].weight.data_ptr() != heads["2"].weight.data_ptr()


def test_released_shared_vision_prompts_are_separate_copies_of_one_start():
    prompts = make(variant="released").vision_prompts
    assert set(prompts) == {"1", "2"} and torch.equal(prompts["1"], prompts["2"])
    assert prompts["1"].data_ptr() != prompts["2"].data_ptr()


def test_released_unshared_vision_prompts_are_uniform_within_the_authors_bound():
    prompts = make(variant="released", share_vision=False, length=4).vision_prompts
    bound = (6 / (3 * 16 + 640)) ** 0.5
    assert not torch.equal(prompts["1"], prompts["2"])
    for prompt in prompts.values():
        assert 0.98 * bound < prompt.abs().max() <= bound
