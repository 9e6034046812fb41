"""What a prediction depends on: in `paper` neither on batch mates nor on the label set, in `released` on batch mates.

The released code averages its text readout over the classes, which looks as if a class's feature depended on the
label set. It does not: the readout is that of SOS, which the causal mask keeps from seeing a prompt, so what is
averaged is exactly 0.
"""

from __future__ import annotations

import pytest
import torch
from helpers.learners import make_learner

from trainers.prompting.core.prompted_clip import PromptedCLIP

CLOSE = dict(rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant, depends", [("paper", False), ("released", True)])
def test_logits_of_an_image_depend_on_its_batch_mates_in_released_only(
    small_clip, images, classnames, variant, depends
):
    with torch.no_grad():
        model = PromptedCLIP(small_clip, make_learner(small_clip, variant=variant, depth=3), classnames)
        together, alone = model(images)[:1], model(images[:1])
    assert torch.allclose(together, alone, **CLOSE) is not depends


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_feature_of_a_class_does_not_depend_on_the_label_set(small_clip, classnames, variant):
    learner = make_learner(small_clip, variant=variant, depth=3)
    with torch.no_grad():
        together = PromptedCLIP(small_clip, learner, classnames).encode_text()[:1]
        # Alone the sentence is shorter than the longest of the set, so the cut after EOT is tested with it.
        alone = PromptedCLIP(small_clip, learner, classnames[:1]).encode_text()
    torch.testing.assert_close(together, alone, **CLOSE)


def test_gates_are_those_of_the_last_forward_pass(small_clip, images, classnames):
    learner = make_learner(small_clip, variant="paper", depth=3)
    model = PromptedCLIP(small_clip, learner, classnames)
    model(images[:1])
    first = learner.last_gates["vision"][1]
    model(images[1:])
    assert not torch.equal(learner.last_gates["vision"][1][:1], first)


def test_paper_gates_differ_between_images_and_between_classes(small_clip, images, classnames):
    learner = make_learner(small_clip, variant="paper", depth=3)
    PromptedCLIP(small_clip, learner, classnames)(images)
    for tower, samples in (("vision", len(images)), ("text", len(classnames))):
        for layer in range(3):
            weights = learner.last_gates[tower][layer]
            assert weights.shape == (samples, 2)
            assert (weights.std(dim=0) > 0).all()
