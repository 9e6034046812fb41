"""The fast core computes what the equations say: forward, loss and gradients against the naive implementation."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip
from naive_bmip import NaiveParameters, naive_logits
from torch.nn import functional as F

from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bmip import AGGREGATIONS, BMIPConfig, BMIPLearner

LABELS = torch.tensor([0, 3, 1, 4])
TOLERANCE = dict(rtol=1e-5, atol=1e-5)


def make_learner(clip_model, seed=0, **settings) -> BMIPLearner:
    """A learner whose gates and prompts are large enough to matter."""
    torch.manual_seed(seed)
    learner = BMIPLearner(BMIPConfig(**settings), clip_model)
    with torch.no_grad():
        for name, parameter in learner.named_parameters():
            if "prompts" in name:
                parameter.normal_(std=0.3)
            elif "gate" in name:
                parameter.uniform_(2, 4) if name.endswith("weight") else parameter.normal_(std=0.5)
    return learner


def naive_parameters(learner: BMIPLearner) -> NaiveParameters:
    """The learner's own tensors, laid out by layer."""

    def prompts(group):
        return {int(layer): prompt for layer, prompt in group.items()}

    def linear(group):
        layers = {}
        for key, module in group.items():
            for layer in range(1, learner.config.depth) if key == "deep" else [int(key)]:
                layers[layer] = (module.weight, module.bias)
        return layers

    return NaiveParameters(
        text_prompts=prompts(learner.text_prompts),
        vision_prompts=prompts(learner.vision_prompts),
        text_to_vision=linear(learner.text_to_vision),
        vision_to_text=linear(learner.vision_to_text),
        text_gate=linear(learner.text_gate),
        vision_gate=linear(learner.vision_gate),
    )


def assert_equal_to_naive(clip_model, images, classnames, **settings):
    learner = make_learner(clip_model, **settings)
    config = learner.config
    fast = PromptedCLIP(clip_model, learner, classnames)(images)
    slow = naive_logits(
        clip_model,
        images,
        classnames,
        naive_parameters(learner),
        depth=config.depth,
        length=config.length,
        ctx_init=config.context,
        variant=config.variant,
        aggregation=config.aggregation,
        detach=config.detach,
        relative=config.relative,
    )
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    names, parameters = zip(*learner.named_parameters())
    fast_loss, slow_loss = F.cross_entropy(fast, LABELS), F.cross_entropy(slow, LABELS)
    torch.testing.assert_close(fast_loss, slow_loss, **TOLERANCE)
    fast_gradients = torch.autograd.grad(fast_loss, parameters)
    # The naive code never uses a tensor that takes no part, so a superfluous one is an error here.
    slow_gradients = torch.autograd.grad(slow_loss, parameters)
    for name, ours, reference in zip(names, fast_gradients, slow_gradients):
        torch.testing.assert_close(ours, reference, **TOLERANCE, msg=lambda message, name=name: f"{name}: {message}")


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_variants_equal_the_equations(small_clip, images, classnames, variant, share, depth, length):
    settings = dict(variant=variant, depth=depth, length=length, share_text=share, share_vision=share)
    assert_equal_to_naive(small_clip, images, classnames, **settings)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("length", [2, 3])
def test_aggregations_equal_the_equations(small_clip, images, classnames, aggregation, length):
    assert_equal_to_naive(small_clip, images, classnames, aggregation=aggregation, depth=3, length=length)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("settings", [dict(detach=False), dict(relative=True), dict(detach=False, relative=True)])
def test_gate_options_equal_the_equations(small_clip, images, classnames, variant, settings):
    assert_equal_to_naive(small_clip, images, classnames, variant=variant, depth=3, **settings)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_random_context_equals_the_equations(small_clip, images, classnames, variant):
    assert_equal_to_naive(small_clip, images, classnames, variant=variant, depth=3, context="")


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_sharing_one_direction_only_equals_the_equations(small_clip, images, classnames, variant):
    settings = dict(variant=variant, depth=3, share_text=True, share_vision=False)
    assert_equal_to_naive(small_clip, images, classnames, **settings)


def test_several_heads_and_a_deeper_vision_tower_equal_the_equations(images, classnames):
    clip_model = make_clip(vision_layers=4, transformer_width=128, transformer_heads=2)
    assert_equal_to_naive(clip_model, images, classnames, depth=3)
