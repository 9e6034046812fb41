"""Small CLIPs that tests run on: random weights, sizes that differ between the towers."""

from __future__ import annotations

import pytest
import torch
from clip.model import CLIP

# The models are so small that threads cost more than they gain.
torch.set_num_threads(1)

SMALL = dict(
    embed_dim=32,
    image_resolution=32,
    vision_layers=3,
    vision_width=128,
    vision_patch_size=8,
    context_length=77,
    vocab_size=49408,
    transformer_width=64,
    transformer_heads=1,
    transformer_layers=3,
)


def make_clip(seed: int = 0, **sizes) -> CLIP:
    """A random CLIP in fp32 whose features spread, so that differences show in the logits."""
    torch.manual_seed(seed)
    model = CLIP(**{**SMALL, **sizes}).eval().requires_grad_(False)
    model.logit_scale.fill_(2.0)
    for parameter in (model.token_embedding.weight, model.positional_embedding):
        parameter.mul_(10)
    return model


@pytest.fixture(scope="session")
def small_clip() -> CLIP:
    return make_clip()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


CLASSNAMES = ["cat", "striped_dog", "Boeing 707-320 of the early series", "sea or lake", "sun"]


@pytest.fixture
def classnames() -> list[str]:
    return list(CLASSNAMES)
