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
            elif "embedding" in name or parameter.dim() == 3:  # 3: timm's positions, class token and latent query
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif "trunk" in name:  # timm starts with layers that hardly matter
                parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
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


# ------------------------------------------------------------------------------------------------ open_clip

TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=3)
VISION = dict(image_size=SIDE, layers=3, width=96, head_width=32, patch_size=8)
SIGLIP_TEXT = dict(no_causal_mask=True, proj_bias=True, pool_type="last", norm_kwargs={"eps": 1e-6}, context_length=24)


def architecture(folder: Path, name: str, text: dict, vision: dict, **other) -> str:
    """Make an architecture known to open_clip."""
    open_clip = pytest.importorskip("open_clip")
    config = {"embed_dim": 32, "vision_cfg": {**VISION, **vision}, "text_cfg": {**TEXT, **text}, **other}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return name


def open_clip_model(folder: Path, name: str, text: dict, vision: dict, **other) -> tuple[nn.Module, str]:
    """A random model that open_clip builds, and the backbone's name with its weights in a file."""
    import open_clip

    architecture(folder, name, text, vision, **other)
    torch.manual_seed(0)
    model = spread(open_clip.create_model(name, load_weights=False))
    torch.save(model.state_dict(), folder / f"{name}.pt")
    return model, f"open_clip:{name}/{folder / name}.pt"


def word_tokenizer(folder: Path, bos: bool, pad: str) -> str:
    """Write a tokeniser of whole words for transformers; returns its folder."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "</s>", "<s>", "<unk>"]
    words = ["a", "photo", "of", "x", "X", "cat", "striped", "dog", "sea", "or", "lake", "sun", ".", "the", "big"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if bos else "$A </s>", special_tokens=[("<s>", 2), ("</s>", 1)]
    )
    names = dict(eos_token="</s>", bos_token="<s>", unk_token="<unk>", sep_token="</s>", pad_token=pad)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return str(folder)


def timm_vit(name: str, **sizes) -> str:
    """Make a plain ViT known to timm, under a name."""
    timm = pytest.importorskip("timm")

    def build(pretrained: bool = False, num_classes: int = 0, global_pool: str = "token", **_):
        common = dict(img_size=SIDE, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=num_classes)
        model = timm.models.VisionTransformer(**{**common, **sizes}, global_pool=global_pool)
        model.default_cfg = {}
        return model

    build.__name__ = name
    timm.models.register_model(build)
    return name
