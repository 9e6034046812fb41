"""CLIPs that transformers builds and saves: the same features without prompts, the equations with prompts."""

from __future__ import annotations

import json

import clip
import pytest
import torch
from helpers.backbones import MEAN, SIDE, STD, clip_model_of_transformers, save_folder
from helpers.learners import assert_equal_to_naive, make

from trainers.prompting.core.clip_weights import check_backbone, load_clip
from trainers.prompting.core.design import images_of
from trainers.prompting.core.from_transformers import load_tokenizer
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

TOWERS = {
    "as OpenAI's": {},
    "gelu": {"text_config": dict(hidden_act="gelu"), "vision_config": dict(hidden_act="gelu")},
    "other epsilons": {"text_config": dict(layer_norm_eps=1e-3), "vision_config": dict(layer_norm_eps=1e-2)},
    "narrow MLPs": {"text_config": dict(intermediate_size=96), "vision_config": dict(intermediate_size=200)},
    "a short context": {"text_config": dict(max_position_embeddings=24)},
    "the old EOT": {"text_config": dict(eos_token_id=2)},
    "another patch, layers and heads": {
        "text_config": dict(num_hidden_layers=4, num_attention_heads=4),
        "vision_config": dict(num_hidden_layers=5, num_attention_heads=6, patch_size=16),
    },
}
SENTENCES = ["a photo of a cat.", "a striped dog", "sun"]
METHODS = [
    ("BMIP", dict(depth=3)),
    ("BMIP", dict(depth=2, variant="released")),
    ("MaPLe", dict(depth=3)),
    ("IVLP", dict(text_depth=3, vision_depth=2)),
    ("CoOp", dict(length=3, position="middle")),
]


@pytest.fixture(params=TOWERS.values(), ids=TOWERS)
def both(request, tmp_path):
    """The original, and ours."""
    model = clip_model_of_transformers(**request.param)
    return model, load_clip(save_folder(model, tmp_path / "clip"))


def test_features_without_prompts_are_the_original_s(both, images):
    theirs, ours = both
    ids = clip.tokenize(SENTENCES, ours.context_length)
    with torch.no_grad():
        expected = theirs.get_image_features(images), theirs.get_text_features(ids)
        # Before version 5 they are tensors.
        expected = [getattr(features, "pooler_output", features) for features in expected]
        model = PromptedCLIP(ours, FixedSentence("{}"), SENTENCES)
        found = model.encode_image(images), model.encode_text()
        bare = ours.encode_image(images), ours.encode_text(ids)
    for original, fast, openai in zip(expected, found, bare):
        assert original.std() > 0.1
        torch.testing.assert_close(fast, original, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(openai, original, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, settings", METHODS, ids=str)
def test_methods_equal_their_equations(both, images, name, settings):
    names = ["cat", "striped_dog", "sea or lake", "sun"]
    assert_equal_to_naive(both[1], make(both[1], name, len(names), **settings), images, names)


def test_how_images_are_prepared_is_the_folder_s(tmp_path):
    name = save_folder(clip_model_of_transformers(), tmp_path / "clip")
    images = images_of(load_clip(name))
    assert (images.side, images.mean, images.std, images.interpolation) == (SIDE, MEAN, STD, "bilinear")


def spoil_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "chinese_clip"}))


def spoil_activation(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = "geluu"
    (folder / "config.json").write_text(json.dumps(config))


def enlarge_images(folder):
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 64
    (folder / "config.json").write_text(json.dumps(config))


def spoil_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["text_model.final_layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors")


def add_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "text_model.pooler.weight": torch.zeros(1)}, folder / "model.safetensors")


FAULTS = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors; put it there"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has no config.json; put it there"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
    "another model": (spoil_type, "model_type 'chinese_clip'.*docs/BACKBONES.md"),
    "an unknown activation": (spoil_activation, "hidden_act is 'geluu'. Do you mean gelu"),
    "images of another size": (enlarge_images, "17 positions do not suit images of 64 pixels"),
    "a tensor less": (spoil_weights, r"not those of a CLIP \(.*ln_final"),
    "a tensor more": (add_tensor, r"not those of a CLIPModel \(text_model.pooler.weight\)"),
    "a damaged file": (lambda folder: (folder / "model.safetensors").write_bytes(b"1234"), "cannot be read"),
}


@pytest.mark.parametrize("spoil, message", FAULTS.values(), ids=FAULTS)
def test_a_folder_that_cannot_be_used_is_named_with_the_fault(tmp_path, spoil, message):
    name = save_folder(clip_model_of_transformers(), tmp_path / "clip")
    spoil(tmp_path / "clip")
    with pytest.raises(InputError, match=f"(?s)backbone is .*clip.*{message}"):
        check_backbone(name, needs_vit=True)
        load_clip(name)


def test_a_name_of_the_hub_without_network_says_what_to_put_where(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=r"hf:some/clip.*no network.*config.json and model.safetensors.*hf:FOLDER"):
        load_clip("hf:some/clip")


def test_code_that_comes_with_a_tokeniser_does_not_run(tmp_path):
    told = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError, match="whose tokeniser .* cannot be had"):
        load_tokenizer("hf:own", str(tmp_path))
    assert not (tmp_path / "ran").exists()
