"""Small random CLIPs of other libraries, which the libraries build themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

SIDE = 32
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def spread(model: nn.Module) -> nn.Module:
    """With weights that matter: random biases and scales, and embeddings that tell sentences apart."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "embedding" in name or "pos_embed" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif "projection" in name or "proj" in name:
                parameter.mul_(2)
    return model.eval().requires_grad_(False)


def clip_model_of_transformers(**changes: dict) -> nn.Module:
    """A random CLIPModel; `changes` are of `text_config` and `vision_config`."""
    transformers = pytest.importorskip("transformers")
    text = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=2, projection_dim=32)
    vision = dict(
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=8,
        projection_dim=32,
    )
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**text, **changes.get("text_config", {})},
        vision_config={**vision, **changes.get("vision_config", {})},
        projection_dim=32,
        logit_scale_init_value=2.0,
    )
    return spread(transformers.CLIPModel(config))


def save_folder(model: nn.Module, folder: Path) -> str:
    """Write a CLIPModel as Hugging Face does, with how its images are prepared; returns the backbone's name."""
    model.save_pretrained(folder)
    images = {"image_mean": list(MEAN), "image_std": list(STD), "resample": 2, "size": {"shortest_edge": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return f"hf:{folder}"
