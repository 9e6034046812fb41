"""The objectives compute what their equations say, for every learner."""

from __future__ import annotations

import naive_objectives as naive
import pytest
import torch
from helpers.learners import SETTINGS, make
from helpers.objectives import (
    EQUATIONS,
    LABELS,
    SENTENCES,
    naive_gradients,
    naive_terms,
    prepared,
    sixty_averaged,
)
from torch import Tensor

TOLERANCE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture
def views(images) -> list[Tensor]:
    """Two independent views of each image."""
    return [images, torch.randn(images.shape, generator=torch.Generator().manual_seed(9))]


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("method", SETTINGS)
def test_every_term_and_its_gradient_are_the_equations(small_clip, views, classnames, monkeypatch, method, name):
    objective, learner = EQUATIONS[name][0](), make(small_clip, method, **SETTINGS[method])
    model = prepared(small_clip, learner, classnames, objective)
    monkeypatch.setattr("random.random", lambda: 0.7)
    # A gradient that came through a teacher would show in the pixels.
    for view in views:
        view.requires_grad_(True)
    objective.before_step()
    total, logits, terms = found = objective.loss(model, views, LABELS)
    slow = naive_terms(name, small_clip, learner, views, classnames)
    assert terms.keys() == slow.keys()
    for key, value in slow.items():
        of_image = name in ("self-regulation", "anchoring", "alignment") and key == "loss_image"
        # MMA's adapters begin near zero.
        unprompted = of_image and method in ("CoOp", "CoCoOp", "TCP", "MMA")
        assert value > 1e-3 or unprompted, f"{key} is too small to be compared"
        value = torch.as_tensor(value)
        torch.testing.assert_close(terms[key], value, **TOLERANCE, msg=lambda m, key=key: f"{key}: {m}")
    inputs = {**dict(learner.named_parameters()), "images": views[0]}
    assert any(key.startswith("adapters.") for key in inputs) is name.startswith("consistency")
    expected, gradients = naive_gradients(name, slow, list(inputs.values()))
    torch.testing.assert_close(total, expected, **TOLERANCE)
    objective.backward(found, list(inputs.values()), lambda loss: loss)
    for (key, tensor), reference in zip(inputs.items(), gradients):
        # Attention to one proxy does not depend on its key, and features of small prompts, or mixed ones, hardly do on
        # a gate.
        may_not = "linear_k" in key or ("gate" in key and (name == "anchoring" or method == "MMA_BMIP"))
        assert may_not or reference.abs().max() > 1e-4, f"{key} matters too little to be compared"
        torch.testing.assert_close(tensor.grad, reference, **TOLERANCE, msg=lambda m, key=key: f"{key}: {m}")
    assert views[1].grad is None
    torch.testing.assert_close(logits, model(views[0]))


@pytest.mark.parametrize("together", [1, 7, 100_000])
@pytest.mark.parametrize("name, teacher", [("self-regulation", "teacher_text"), ("consistency", "described")])
def test_text_teachers_do_not_depend_on_how_many_sentences_are_encoded_together(
    small_clip, classnames, monkeypatch, name, teacher, together
):
    objective = EQUATIONS[name][0]()
    monkeypatch.setattr(f"{type(objective).__module__}.SENTENCES_TOGETHER", together)
    prepared(small_clip, make(small_clip, "IVLP", **SETTINGS["IVLP"]), classnames, objective)
    described = [naive.unit(naive.frozen_sentence(small_clip, s)) for sentences in SENTENCES for s in sentences]
    # Sixty sentences are averaged before they are normalised; the other order differs by more than this.
    expected = described if name == "consistency" else sixty_averaged(small_clip, tuple(classnames))
    torch.testing.assert_close(getattr(objective, teacher), torch.stack(expected), rtol=1e-5, atol=1e-6)
