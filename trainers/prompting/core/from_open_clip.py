"""CLIPs of open_clip: an architecture, with weights by their tag or by a file.

open_clip builds the model and loads its weights; here its tensors get OpenAI's names. A vision tower that is a plain
ViT of timm, as SigLIP's, is translated, too.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError, nearest
from .assemble import Foreign, Plan, Tower, scale_layer
from .design import PIXEL_MEAN, PIXEL_STD, Design, Images
from .openai_clip import QuickGELU
from .weight_files import ARCHIVED, read_state
from .words import HuggingFaceWords

PREFIX = "open_clip:"
INSTALL = "pip install open-clip-torch"
# Of a text tower's names.
_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")


class Refused(Exception):
    """The reason why no prompts can enter a tower."""


def check(name: str, needs_vit: bool) -> None:
    """Raise SettingError for an unknown architecture or tag, and for towers that do not suit; needs no weights."""
    architecture, pretrained = _parse(name)
    _weights_of(name, architecture, pretrained)
    with torch.device("meta"):
        model = _build(name, _config(name, architecture, pretrained))
    _check_text(name, model)
    _vision_of(name, model.visual, needs_vit)


def is_named(name: str) -> bool:
    """Whether the weights come by their tag, rather than from a file."""
    rest = _split(name)[1]
    # The architecture may have a slash, as in ViT-B/32.
    return not any(os.path.isfile(os.path.expanduser(path)) for path in (rest, rest.partition("/")[2]))


def images_of_name(name: str) -> Images:
    """How the weights want their images; raises as `check`."""
    architecture, pretrained = _parse(name)
    return _images(name, architecture, pretrained, _config(name, architecture, pretrained)["vision_cfg"])


def read(name: str, needs_vit: bool, weights: bool = True) -> Foreign:
    """Build a model of open_clip, load its weights, and translate it.

    Args:
        name: "open_clip:", an architecture, "/", and a tag or the path of a file.
        needs_vit: prompts enter the vision tower.
        weights: load them; else they are random.

    Raises:
        SettingError: as `check`; also if weights or tokeniser cannot be had, or are of another architecture.
    """
    architecture, pretrained = _parse(name)
    config = _config(name, architecture, pretrained)
    with torch.random.fork_rng(devices=[]):
        model = _build(name, config).eval()
    if weights:
        path = _weights_of(name, architecture, pretrained) or _download(name, architecture, pretrained)
        _load(name, architecture, model, path)
    text = _check_text(name, model)
    tower, tensors, extra = _text_of(text, model)
    vision = _vision_of(name, model.visual, needs_vit)
    design = Design(
        images=_images(name, architecture, pretrained, config["vision_cfg"]),
        words=_words(name, architecture, config["text_cfg"]),
        causal=text["causal"],
        reads_last=text["pool"] == "last",
        pooled=vision.get("pooled"),
        whole_image_tower=vision["tower"] is None,
    )
    tensors = {**tensors, **vision.get("tensors", {})}
    parts = {key: vision[key] for key in ("visual", "pool", "has_ln_pre") if key in vision}
    return Foreign(tensors, Plan(tower, vision["tower"], design, **parts), extra)


def _load(name: str, architecture: str, model: nn.Module, path: str) -> None:
    """Load what open_clip loads, but no positions of another size, which it would interpolate."""
    state = read_state(Path(path))
    try:
        model.load_state_dict(_as_open_clip_has_it(model, state))
    except Exception as error:  # of many kinds, depending on the tensors
        raise SettingError(
            "{backbone} is {!r}, whose weights, {}, are not those of {} ({}). Give a state dict of that architecture.",
            *(name, path, architecture, str(error).strip().partition("\n")[0]),
        ) from error


def _as_open_clip_has_it(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    # Of a model trained on several GPUs, and of OpenAI's archives.
    state = {key.removeprefix("module."): value for key, value in state.items() if key not in ARCHIVED}
    state = convert_state_dict(model, state)
    if hasattr(model, "text") and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    for scalar in {"logit_scale", "logit_bias"} & state.keys():
        state[scalar] = state[scalar].reshape(getattr(model, scalar).shape)
    return state


# ------------------------------------------------------------------------------------------------ names and weights


def _split(name: str) -> tuple[str, str]:
    architecture, _, pretrained = name[len(PREFIX) :].partition("/")
    return architecture, pretrained


def _parse(name: str) -> tuple[str, str]:
    """Architecture and tag or path; OpenAI's spelling of an architecture, ViT-B/32, may have the slash."""
    if importlib.util.find_spec("open_clip") is None:
        raise SettingError("{backbone} is {!r}, and open_clip is not installed: " + INSTALL, name)
    import open_clip

    known = open_clip.list_models()
    architecture, pretrained = _split(name)
    opening, _, rest = pretrained.partition("/")
    if architecture not in known and f"{architecture}-{opening}" in known:
        architecture, pretrained = f"{architecture}-{opening}", rest
    if architecture not in known:
        raise SettingError(
            "{backbone} is {!r}, but open_clip has no architecture {!r}. {}",
            *(name, architecture, nearest(architecture, known, "open_clip.list_models()")),
        )
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise SettingError(
            "{backbone} is {!r}, which names no weights; give " + PREFIX + "{}/TAG (there are: {}), or /FILE.",
            *(name, architecture, tags),
        )
    return architecture, pretrained


def _weights_of(name: str, architecture: str, pretrained: str) -> str:
    """The path of a file of weights; empty for a tag."""
    import open_clip

    path = os.path.expanduser(pretrained)
    if os.path.isfile(path):
        return path
    if not open_clip.is_pretrained_cfg(architecture, pretrained):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        where = f"open_clip.list_pretrained_tags_by_model({architecture!r})"
        raise SettingError(
            "{backbone} is {!r}, but {!r} is neither a file nor weights that open_clip has of {}. {}",
            *(name, pretrained, architecture, nearest(pretrained, tags, where)),
        )
    return ""


def _download(name: str, architecture: str, tag: str) -> str:
    import open_clip

    known = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        path = open_clip.download_pretrained(known)
    except Exception as error:  # of many kinds, without a network
        source = known.get("hf_hub") or known.get("url")
        raise SettingError(
            "{backbone} is {!r}, whose weights are not in ~/.cache and could not be downloaded ({}). Fetch {} where "
            "there is a network, and give " + PREFIX + "{}/FILE.",
            *(name, str(error).strip().partition("\n")[0], source, architecture),
        ) from error
    return path


def _config(name: str, architecture: str, pretrained: str) -> dict[str, Any]:
    """open_clip's configuration of an architecture, with the activation that the weights were trained with."""
    import open_clip

    config = open_clip.get_model_config(architecture)
    if "multimodal_cfg" in config:
        raise SettingError(
            "{backbone} is {!r}, a CoCa, whose text tower reads a class token that it appends; prompts enter towers "
            "like OpenAI's alone. docs/BACKBONES.md lists what is admitted.",
            name,
        )
    other = config["text_cfg"].get("hf_model_name")
    if other:
        raise SettingError(
            "{backbone} is {!r}, whose text tower is {} of transformers; prompts enter text towers like OpenAI's "
            "alone. docs/BACKBONES.md lists what is admitted.",
            *(name, other),
        )
    if open_clip.get_pretrained_cfg(architecture, pretrained).get("quick_gelu"):
        config["quick_gelu"] = True
    return config


def _build(name: str, config: Mapping[str, Any]) -> nn.Module:
    import open_clip

    config = dict(config)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        return kind(**config)
    except Exception as error:  # such as a timm that lacks the tower
        raise SettingError("{backbone} is {!r}, which open_clip cannot build here ({}).", name, error) from error


def _images(name: str, architecture: str, pretrained: str, vision: Mapping[str, Any]) -> Images:
    """Of a tag; of a file those that all tags of the architecture agree on, else OpenAI's."""
    import open_clip

    side = vision.get("image_size", 224)
    if not isinstance(side, int):
        if len(set(side)) > 1:
            raise SettingError("{backbone} is {!r}, whose images are {}, not square.", name, tuple(side))
        side = side[0]
    tags = [pretrained] if open_clip.is_pretrained_cfg(architecture, pretrained) else None
    found = {
        (tuple(one["mean"]), tuple(one["std"]), one["interpolation"])
        for tag in tags or open_clip.list_pretrained_tags_by_model(architecture)
        for one in [open_clip.get_pretrained_cfg(architecture, tag)]
    }
    return Images(side, *(found.pop() if len(found) == 1 else (PIXEL_MEAN, PIXEL_STD, "bicubic")))


def _words(name: str, architecture: str, text: Mapping[str, Any]) -> HuggingFaceWords | None:
    """None: OpenAI's."""
    source = text.get("hf_tokenizer_name")
    if not source:
        return None
    if importlib.util.find_spec("transformers") is None:
        raise SettingError(
            "{backbone} is {!r}, whose tokeniser is one of transformers: pip install transformers", name
        )
    import open_clip

    try:
        found = open_clip.get_tokenizer(architecture)
    except Exception as error:  # of many kinds, from missing files to no network
        raise SettingError(
            "{backbone} is {!r}, whose tokeniser {!r} cannot be had ({}). Fetch it where there is a network (hf "
            "download {}), and copy ~/.cache/huggingface.",
            *(name, source, str(error).strip().partition("\n")[0], source),
        ) from error
    words = HuggingFaceWords(found.tokenizer, found.clean_fn, found.strip_sep_token)
    if text.get("pool_type") == "eos" and found.tokenizer.eos_token_id != text["eos_id"]:
        raise SettingError(
            "{backbone} is {!r}, which reads the text feature at token {}, but its tokeniser ends sentences with {}.",
            *(name, text["eos_id"], found.tokenizer.eos_token_id),
        )
    return words


# ------------------------------------------------------------------------------------------------ towers


def _check_text(name: str, model: nn.Module) -> dict[str, Any]:
    """Whether the text tower is causal, and its pool; raises SettingError for one that prompts cannot enter."""
    text = getattr(model, "text", model)
    pool = getattr(model, "text_pool_type", None) or getattr(text, "pool_type", None)
    try:
        _tower(text.transformer.resblocks)
        if getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False):
            raise Refused("it appends a class token or masks its padding")
        if pool not in ("argmax", "eos", "last"):
            raise Refused(f"its feature is read by {pool!r}")
    except Refused as reason:
        raise SettingError(
            "{backbone} is {!r}, whose text tower no prompts can enter: {}. docs/BACKBONES.md lists what is admitted.",
            *(name, reason),
        ) from None
    return {"causal": text.attn_mask is not None, "pool": pool}


def _text_of(text: dict[str, Any], model: nn.Module) -> tuple[Tower, dict[str, Tensor], dict[str, Tensor]]:
    """The text tower, its tensors, and those that OpenAI's CLIP lacks."""
    tower = getattr(model, "text", model)
    tensors = {key: value for key, value in tower.state_dict().items() if key.startswith(_TEXT)}
    _fold_scales(tensors, "transformer.resblocks.", len(tower.transformer.resblocks))
    tensors["logit_scale"] = model.logit_scale.reshape(())
    extra = {}
    projection = tower.text_projection
    if projection is None:
        tensors["text_projection"] = torch.eye(tower.transformer.width)
    elif isinstance(projection, nn.Linear):
        tensors["text_projection"] = projection.weight.t()
        if projection.bias is not None:
            extra["text_bias"] = projection.bias
    else:
        tensors["text_projection"] = projection
    if model.logit_bias is not None:
        extra["logit_bias"] = model.logit_bias.reshape(())
    return _tower(tower.transformer.resblocks), tensors, extra


def _tower(blocks: nn.Module) -> Tower:
    """Facts of open_clip's blocks; raises Refused for those that are not like OpenAI's."""
    first = blocks[0]
    for block in blocks:
        if type(block.attn) is not nn.MultiheadAttention or hasattr(block, "ln_1_kv"):
            raise Refused("its layers have another attention than OpenAI's")
    return Tower(first.attn.num_heads, _activation(first.mlp.gelu), first.ln_1.eps)


def _activation(module: nn.Module) -> Any:
    """What builds an activation like a given one."""
    kind = type(module).__name__
    if kind == "QuickGELU":
        return QuickGELU
    if kind == "GELUTanh":
        return lambda: nn.GELU("tanh")
    if isinstance(module, nn.GELU) or kind == "GELU":
        approximate = getattr(module, "approximate", "none")
        return lambda: nn.GELU(approximate)
    raise Refused(f"its activation is {kind}")


def _fold_scales(tensors: dict[str, Tensor], prefix: str, layers: int) -> None:
    for layer in range(layers):
        for scale, linear in (("ls_1", "attn.out_proj"), ("ls_2", "mlp.c_proj")):
            gamma = tensors.pop(f"{prefix}{layer}.{scale}.gamma", None)
            if gamma is not None:
                scale_layer(tensors, f"{prefix}{layer}.{linear}", gamma)


def _vision_of(name: str, visual: nn.Module, needs_vit: bool) -> dict[str, Any]:
    """Parts of a `Plan` and tensors of a vision tower: `tower`, `tensors`, `pool`, `pooled`, `has_ln_pre`, `visual`.

    Raises:
        SettingError: prompts cannot enter it, and the method has some.
    """
    try:
        return _timm_vision(visual) if hasattr(visual, "trunk") else _own_vision(visual)
    except Refused as reason:
        if needs_vit:
            raise SettingError(
                "{backbone} is {!r}, whose vision tower no prompts can enter: {}. Set it to a ViT such as "
                "open_clip:ViT-B-16/laion2b_s34b_b88k, or train a method that prompts the text tower alone.",
                *(name, reason),
            ) from None
        return {"tower": None, "visual": visual}


def _own_vision(visual: nn.Module) -> dict[str, Any]:
    """open_clip's own ViT."""
    if not hasattr(visual, "transformer"):
        raise Refused("it is a ResNet, which has no sequence of tokens")
    tower = _tower(visual.transformer.resblocks)
    has_ln_pre = not isinstance(visual.ln_pre, nn.Identity)
    kept = ("conv1.", "class_embedding", "positional_embedding", "transformer.")
    kept = (*kept, "ln_pre.") if has_ln_pre else kept
    found: dict[str, Any] = {"tower": tower, "has_ln_pre": has_ln_pre}
    if visual.attn_pool is not None:
        if visual.attn_pool_contrastive is not None:
            raise Refused("it has two attention pools")
        ending = Token() if visual.pool_type == "tok" else Mean(start=1)
        found["pool"] = nn.Sequential(visual.attn_pool, visual.ln_post, ending, Product(visual.proj))
        found["pooled"] = slice(0, None)
    elif visual.pool_type == "avg":
        steps = (Mean(), visual.ln_post) if visual.final_ln_after_pool else (visual.ln_post, Mean())
        found["pool"], found["pooled"] = nn.Sequential(*steps, Product(visual.proj)), slice(1, None)
    elif visual.pool_type == "tok":
        kept = (*kept, "ln_post.", "proj")
    else:
        raise Refused(f"its feature is read by {visual.pool_type!r}")
    tensors = {key: value for key, value in visual.state_dict().items() if key.startswith(kept)}
    _fold_scales(tensors, "transformer.resblocks.", len(visual.transformer.resblocks))
    found["tensors"] = {f"visual.{key}": value for key, value in tensors.items()}
    return found


# Of a block of timm's ViT, and OpenAI's.
_TIMM_NAMES = {
    "norm1": "ln_1",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def _timm_vision(visual: nn.Module) -> dict[str, Any]:
    """A plain ViT of timm."""
    trunk = visual.trunk
    kind, blocks = type(trunk), list(getattr(trunk, "blocks", ()))
    plain = (kind.__module__, kind.__name__) == ("timm.models.vision_transformer", "VisionTransformer")
    if not plain or not all(_is_plain(block) for block in blocks):
        raise Refused(f"it is {kind.__name__} of timm, whose layers are not OpenAI's")
    patches = trunk.patch_embed
    if type(patches).__name__ != "PatchEmbed" or not isinstance(patches.norm, nn.Identity) or trunk.num_reg_tokens:
        raise Refused(f"it is {kind.__name__} of timm, whose tokens are not patches and a class token alone")
    ends = {"map": (slice(0, None), trunk.attn_pool), "avg": (slice(0, None), Mean()), "token": (slice(0, 1), Token())}
    if trunk.global_pool not in ends:
        raise Refused(f"its feature is read by {trunk.global_pool!r}")
    pooled, ending = ends[trunk.global_pool]
    if trunk.global_pool != "token" and not trunk.pool_include_prefix:
        pooled = slice(trunk.num_prefix_tokens, None)
    width = trunk.embed_dim
    tensors = {"conv1.weight": patches.proj.weight}
    positions = torch.zeros(1, width) if trunk.pos_embed is None else trunk.pos_embed[0]
    if patches.proj.bias is not None:
        places = torch.ones(len(positions), 1, device=positions.device)
        places[: len(positions) - patches.num_patches] = 0
        positions = positions + places * patches.proj.bias
    if trunk.cls_token is not None:
        tensors["class_embedding"] = trunk.cls_token[0, 0]
        if trunk.no_embed_class:
            positions = torch.cat([torch.zeros_like(positions[:1]), positions])
    tensors["positional_embedding"] = positions
    has_ln_pre = not isinstance(trunk.norm_pre, nn.Identity)
    if has_ln_pre:
        tensors |= {"ln_pre.weight": trunk.norm_pre.weight, "ln_pre.bias": trunk.norm_pre.bias}
    for layer, block in enumerate(blocks):
        prefix = f"transformer.resblocks.{layer}."
        for theirs, ours in _TIMM_NAMES.items():
            module = block.get_submodule(theirs)
            tensors[f"{prefix}{ours}.weight"] = module.weight
            bias = torch.zeros(len(module.weight), device=module.weight.device)
            tensors[f"{prefix}{ours}.bias"] = bias if module.bias is None else module.bias
        joined = block.attn.qkv
        tensors[f"{prefix}attn.in_proj_weight"] = joined.weight
        bias = torch.zeros(3 * width, device=joined.weight.device)
        tensors[f"{prefix}attn.in_proj_bias"] = bias if joined.bias is None else joined.bias
        for ours, theirs in (("ls_1", block.ls1), ("ls_2", block.ls2)):
            if not isinstance(theirs, nn.Identity):
                tensors[f"{prefix}{ours}.gamma"] = theirs.gamma
    _fold_scales(tensors, "transformer.resblocks.", len(blocks))
    first = blocks[0]
    return {
        "tower": Tower(first.attn.num_heads, _activation(first.mlp.act), first.norm1.eps),
        "tensors": {f"visual.{key}": value for key, value in tensors.items()},
        "pool": nn.Sequential(trunk.norm, ending, trunk.fc_norm, trunk.head, visual.head),
        "pooled": pooled,
        "has_ln_pre": has_ln_pre,
    }


def _is_plain(block: nn.Module) -> bool:
    """Whether a block of timm is one of OpenAI's under other names."""
    if type(block).__name__ != "Block" or type(block.attn).__name__ != "Attention":
        return False
    extras = [getattr(block.attn, name, None) for name in ("q_norm", "k_norm", "norm")] + [block.mlp.norm]
    plain = all(module is None or isinstance(module, nn.Identity) for module in extras)
    norms = isinstance(block.norm1, nn.LayerNorm) and isinstance(block.norm2, nn.LayerNorm)
    square = block.attn.head_dim * block.attn.num_heads == block.attn.qkv.in_features
    return plain and norms and square and getattr(block.attn, "gate", None) is None


class Token(nn.Module):
    """The first of `[batch, tokens, width]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class Mean(nn.Module):
    """The mean of `[batch, tokens, width]` over the tokens from `start`."""

    def __init__(self, start: int = 0):
        super().__init__()
        self.start = start

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.start :].mean(dim=1)


class Product(nn.Module):
    """Of features with a matrix."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.matrix = nn.Parameter(matrix.detach(), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.matrix
