"""`released` is what the authors' code computes: their checkpoint, their logits, their gradients.

Needs a checkout of the authors' repository (LAMDASZ-ML/BMIP), named by the environment variable BMIP_ROOT.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_clip
from torch.nn import functional as F

from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bmip import LAYOUT, BMIPConfig, BMIPLearner

ROOT = os.environ.get("BMIP_ROOT")
pytestmark = pytest.mark.skipif(not ROOT, reason="set BMIP_ROOT to a checkout of the authors' BMIP repository")
RUNNER = Path(__file__).with_name("authors_bmip.py")
# Their deep text prompts are 512 wide whatever the checkpoint.
SIZES = dict(transformer_width=512, transformer_heads=8, vision_width=192, vision_layers=4, transformer_layers=4)
CASES = [
    dict(depth=1, length=2, context="a photo of a", share=True),
    dict(depth=2, length=2, context="a photo of a", share=True),
    dict(depth=4, length=2, context="a photo of a", share=True),
    dict(depth=4, length=2, context="a photo of a", share=False),
    dict(depth=3, length=4, context="a_photo_of_a", share=True),
    dict(depth=3, length=6, context="a photo of a", share=False),
    dict(depth=3, length=2, context="", share=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_released_checkpoint_gives_the_authors_logits_and_gradients(tmp_path, classnames, case):
    clip_model = make_clip(**SIZES)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 3])
    torch.save(
        dict(clip=clip_model.state_dict(), images=images, labels=labels, classnames=classnames, **case),
        tmp_path / "input",
    )
    command = [sys.executable, RUNNER, ROOT, tmp_path / "input", tmp_path / "output"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = torch.load(tmp_path / "output", weights_only=True)

    config = BMIPConfig(
        variant="released",
        depth=case["depth"],
        length=case["length"],
        context=case["context"],
        share_text=case["share"],
        share_vision=case["share"],
    )
    learner = BMIPLearner(config, clip_model)
    learner.load_state_dict(LAYOUT.translate_for(theirs["state_dict"], learner)[0])
    logits = PromptedCLIP(clip_model, learner, classnames)(images)
    torch.testing.assert_close(logits, theirs["logits"], rtol=1e-4, atol=1e-4)

    F.cross_entropy(logits, labels).backward()
    expected, _ = LAYOUT.translate_for(theirs["gradients"], learner)
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
