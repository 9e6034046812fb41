"""Only P, F and L train, in fp32, whatever the towers compute in; CLIP stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import make_clip
from torch.nn import functional as F

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bmip import AGGREGATIONS, BMIPConfig, BMIPLearner

PREFIXES = ("text_prompts", "vision_prompts", "text_to_vision", "vision_to_text", "text_gate", "vision_gate")
# The released text readout is exactly 0, so the scale of its gate gets a gradient of exactly 0.
SETTINGS = [dict(aggregation=name) for name in AGGREGATIONS] + [dict(variant="released")]


def train_step(precision: str, classnames, images, **settings) -> PromptedCLIP:
    clip_model = make_clip()
    cast_matmul_weights(clip_model, PRECISIONS[precision].matmul)
    torch.manual_seed(0)
    learner = BMIPLearner(BMIPConfig(depth=3, **settings), clip_model)
    model = PromptedCLIP(clip_model, learner, classnames, PRECISIONS[precision])
    F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    return model


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_trainable_tensor_gets_a_gradient_and_nothing_else_does(images, classnames, settings):
    model = train_step("fp32", classnames, images, **settings)
    for name, parameter in model.learner.named_parameters():
        assert name.startswith(PREFIXES)
        zero_by_design = settings.get("variant") == "released" and name.startswith("text_gate") and "weight" in name
        assert (parameter.grad.abs().max() > 0) is not zero_by_design, name
    assert all(parameter.grad is None for parameter in model.clip_model.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trainable_tensors_are_fp32_masters_in_every_precision(images, classnames, precision):
    model = train_step(precision, classnames, images)
    optimiser = torch.optim.Adam(model.learner.parameters(), lr=0.01)
    before = copy.deepcopy(model.learner.state_dict())
    optimiser.step()
    for name, parameter in model.learner.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.isfinite().all() and not torch.equal(parameter, before[name])


@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.05), ("fp16", 0.01), ("amp", 0.01)])
def test_reduced_precision_agrees_with_fp32_and_is_really_used(images, classnames, precision, tolerance):
    exact = train_step("fp32", classnames, images)(images)
    reduced = train_step(precision, classnames, images)(images)
    assert 0 < (exact - reduced).abs().max() < tolerance * exact.abs().max()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_and_residual_stream_have_the_types_of_the_precision(images, classnames, precision):
    model = train_step(precision, classnames, images)
    seen = set()
    for tower in (model.clip_model.transformer, model.clip_model.visual.transformer):
        for block in tower.resblocks:
            block.mlp.c_fc.register_forward_hook(lambda _, args, output: seen.add(("product", output.dtype)))
            block.ln_2.register_forward_hook(lambda _, args, output: seen.add(("stream", args[0].dtype)))
    model(images)
    expected = PRECISIONS[precision]
    assert seen == {("product", expected.matmul), ("stream", expected.stream)}


def test_clip_is_bit_identical_after_training(images, classnames):
    clip_model = make_clip()
    before = copy.deepcopy(clip_model.state_dict())
    torch.manual_seed(0)
    model = PromptedCLIP(clip_model, BMIPLearner(BMIPConfig(depth=3), clip_model), classnames)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
        optimiser.step()
    for key, value in clip_model.state_dict().items():
        assert torch.equal(value, before[key]), key
