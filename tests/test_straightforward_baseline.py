"""The benchmark's baseline computes the same as the fast core; otherwise its ratios would mean nothing."""

from __future__ import annotations

import pytest
import torch
from helpers.learners import TOLERANCE, make_learner
from helpers.objectives import LABELS
from torch.nn import functional as F

from scripts.tools.straightforward_bmip import StraightforwardBMIP
from trainers.prompting.core.prompted_clip import PromptedCLIP


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_baseline_equals_the_fast_core(small_clip, images, classnames, variant, share, depth):
    learner = make_learner(small_clip, variant=variant, depth=depth, share_text=share, share_vision=share)
    results = []
    for model in (PromptedCLIP(small_clip, learner, classnames), StraightforwardBMIP(small_clip, learner, classnames)):
        logits = model(images)
        results.append([logits, *torch.autograd.grad(F.cross_entropy(logits, LABELS), list(learner.parameters()))])
    torch.testing.assert_close(*results, **TOLERANCE)
