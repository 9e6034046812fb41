"""Backbones come by path in any plain format, unchanged, and never execute code."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import make_clip

from trainers.prompting.core import clip_weights
from trainers.prompting.core.clip_weights import (
    PRECISIONS,
    TINY,
    image_resolution,
    load_clip,
    text_depth,
    text_width,
    vision_depth,
    vision_width,
)
from trainers.prompting.errors import InputError


def save_npz(path, state):
    np.savez_compressed(path, **{key: value.numpy() for key, value in state.items()})


def save_safetensors(path, state):
    pytest.importorskip("safetensors.torch").save_file(state, path)


WRITERS = {
    "npz": save_npz,
    "safetensors": save_safetensors,
    "pt": lambda path, state: torch.save(state, path),
    "pth": lambda path, state: torch.save({"state_dict": state}, path),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_checkpoint_by_path_loads_to_the_bit(tmp_path, suffix):
    model = make_clip(vision_layers=4)
    path = tmp_path / f"clip.{suffix}"
    WRITERS[suffix](path, model.state_dict())
    loaded = load_clip(str(path))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert (image_resolution(loaded), text_depth(loaded), vision_depth(loaded)) == (32, 3, 4)
    assert (text_width(loaded), vision_width(loaded)) == (64, 128)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    with open(tmp_path / "clip.pt", "wb") as file:
        pickle.dump({"state_dict": Payload()}, file)
    with pytest.raises(InputError, match="backbone is"):
        load_clip(str(tmp_path / "clip.pt"))
    assert not (tmp_path / "executed").exists()


def test_an_openai_name_without_network_says_where_to_put_the_file(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(clip_weights.clip, "_download", refuse)
    with pytest.raises(InputError, match=r"ViT-B/16.*~/\.cache/clip.*no network.*ViT-B-16\.pt"):
        load_clip("ViT-B/16")


def test_the_tiny_clip_is_small_and_differs_in_width_between_its_towers():
    assert TINY.stat().st_size <= 8 * 2**20
    tiny = load_clip("tiny")
    assert text_width(tiny) != vision_width(tiny)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_precision_stores_matrix_weights_in_its_type_and_the_rest_in_fp32(name):
    model = load_clip("tiny", PRECISIONS[name])
    block = model.visual.transformer.resblocks[0]
    for weight in (block.attn.in_proj_weight, block.mlp.c_fc.weight, model.text_projection, model.visual.proj):
        assert weight.dtype == PRECISIONS[name].matmul
    for weight in (block.ln_1.weight, model.token_embedding.weight, model.logit_scale, model.positional_embedding):
        assert weight.dtype == torch.float32


def test_a_clip_that_wants_a_design_is_told_to_leave_the_towers_alone(monkeypatch):
    """MaPLe's copy of `clip` and its heirs' build the towers of a method."""
    seen = []

    def build(state_dict, design_details):
        seen.append(design_details)
        return original(state_dict)

    original = clip_weights.build_model
    plain = load_clip("tiny").state_dict()
    monkeypatch.setattr(clip_weights, "build_model", build)
    told = load_clip("tiny").state_dict()
    assert [(design["trainer"], design["vision_depth"], design["language_depth"]) for design in seen] == [
        ("CoOp", 0, 0)
    ]
    assert all(torch.equal(told[name], value) for name, value in plain.items())
