"""CLIPs of Hugging Face: a folder of a `CLIPModel`, or the name of one on their hub."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError, nearest
from .assemble import Foreign, Plan, Tower
from .design import PIXEL_MEAN, PIXEL_STD, Design, Images
from .openai_clip import QuickGELU
from .weight_files import read_state
from .words import HuggingFaceWords, Words

PREFIX = "hf:"
CONFIG, PREPROCESSOR, INDEX = "config.json", "preprocessor_config.json", "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ACTIVATIONS = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU("tanh"),
    "gelu_pytorch_tanh": lambda: nn.GELU("tanh"),
}
# Pillow's numbers of filters.
INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
OPENAI_VOCABULARY, OPENAI_EOT = 49408, 49407
# Of files of the hub that a CLIP may need.
NEEDED = [
    CONFIG,
    PREPROCESSOR,
    "*.safetensors",
    INDEX,
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
]

# Patterns of CLIPModel's names, and OpenAI's; q, k and v are joined afterwards.
_NAMES = (
    (r"logit_scale", "logit_scale"),
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.(\w+)", r"ln_final.\1"),
    (r"text_model\.encoder\.layers\.(.+)", r"transformer.resblocks.\1"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(\w+)", r"visual.ln_pre.\1"),  # their spelling
    (r"vision_model\.post_layernorm\.(\w+)", r"visual.ln_post.\1"),
    (r"vision_model\.encoder\.layers\.(.+)", r"visual.transformer.resblocks.\1"),
)
_IN_LAYERS = (
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
_SKIPPED = re.compile(r".*\.position_ids")


def check(name: str, needs_vit: bool) -> None:
    """Raise SettingError for a folder that holds no CLIPModel, or a name that nothing can fetch."""
    folder = _folder(name)
    if folder is not None:
        _config(name, folder)
        _weight_files(name, folder)
        return
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SettingError(
            "{backbone} is {!r}, which is no folder, and to download it huggingface_hub is needed: pip install "
            "huggingface_hub. Or give a folder that has {} and {}.",
            *(name, CONFIG, WEIGHTS[0]),
        )


def is_named(name: str) -> bool:
    """Whether it is a name of the hub, rather than a folder."""
    return _folder(name) is None


def images_of_name(name: str) -> Images:
    """How the checkpoint wants its images, from its configuration alone; raises as `read`."""
    folder = _folder(name) or _fetched(name)
    return _images(name, folder, _config(name, folder)["vision_config"])


def read(name: str, needs_vit: bool) -> Foreign:
    """Read a CLIPModel.

    Args:
        name: "hf:" and a folder, or a name of the hub.

    Raises:
        SettingError: it is missing, damaged, or of another architecture.
    """
    folder = _folder(name) or _fetched(name)
    config = _config(name, folder)
    text, vision = config["text_config"], config["vision_config"]
    design = Design(images=_images(name, folder, vision), words=_words(name, folder, text))
    state = translated(name, _tensors(name, folder))
    return Foreign(state, Plan(_tower(name, text), _tower(name, vision), design))


def translated(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's tensors under OpenAI's names; raises SettingError for one that it does not have."""
    found: dict[str, Tensor] = {}
    unknown = []
    for key, value in tensors.items():
        if key in ("text_projection.weight", "visual_projection.weight"):
            found["text_projection" if key.startswith("text") else "visual.proj"] = value.t()
            continue
        match = next(((pattern, ours) for pattern, ours in _NAMES if re.fullmatch(pattern, key)), None)
        if match is None:
            unknown += [] if _SKIPPED.fullmatch(key) else [key]
            continue
        ours = re.sub(*match, key)
        for theirs, opening in _IN_LAYERS:
            ours = ours.replace(theirs, opening)
        found[ours] = value
    if unknown:
        raise SettingError(
            "{backbone} is {!r}, whose tensors are not those of a CLIPModel ({}); give a folder of one.",
            *(name, ", ".join(sorted(unknown)[:3])),
        )
    for key in [key for key in found if ".self_attn.q_proj." in key]:
        parts = [found.pop(key.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        layer, _, kind = key.partition("self_attn.q_proj.")
        found[f"{layer}attn.in_proj_{kind}"] = torch.cat(parts)
    return found


def _folder(name: str) -> Path | None:
    folder = Path(name[len(PREFIX) :]).expanduser()
    return folder if folder.is_dir() else None


def _fetched(name: str) -> Path:
    """The folder of the hub's cache, downloaded if need be."""
    from huggingface_hub import snapshot_download

    hub = name[len(PREFIX) :]
    try:
        folder = Path(snapshot_download(hub, allow_patterns=NEEDED))
        if not any((folder / file).is_file() for file in (*WEIGHTS, INDEX)):
            folder = Path(snapshot_download(hub, allow_patterns=[*NEEDED, WEIGHTS[1]]))
    except Exception as error:  # of many kinds, from wrong names to no network
        raise SettingError(
            "{backbone} is {!r}, which is no folder, and could not be had from Hugging Face ({}). Put {} and {} of {} "
            "into a folder, and give " + PREFIX + "FOLDER.",
            *(name, str(error).strip().partition("\n")[0], CONFIG, WEIGHTS[0], hub),
        ) from error
    return folder


def _config(name: str, folder: Path) -> dict[str, Any]:
    config = _read_json(name, folder / CONFIG)
    kind = config.get("model_type")
    if kind != "clip":
        raise SettingError(
            "{backbone} is {!r}, whose {} says model_type {!r}; a CLIPModel has 'clip'. Other architectures may be "
            "had from open_clip: docs/BACKBONES.md lists what is admitted.",
            *(name, CONFIG, kind),
        )
    for part in ("text_config", "vision_config"):
        # The library's defaults, which its files leave out; old files have them under another name.
        config[part] = {**_DEFAULTS[part], **(config.get(part) or {}), **(config.get(f"{part}_dict") or {})}
    return config


_COMMON = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_DEFAULTS = {
    "text_config": {**_COMMON, "num_attention_heads": 8, "vocab_size": OPENAI_VOCABULARY, "eos_token_id": OPENAI_EOT},
    "vision_config": {**_COMMON, "num_attention_heads": 12, "image_size": 224},
}


def _read_json(name: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingError("{backbone} is {!r}, which has no {}; put it there.", name, path.name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError("{backbone} is {!r}, whose {} cannot be read ({}).", name, path.name, error) from error
    if not isinstance(content, dict):
        raise SettingError("{backbone} is {!r}, whose {} is no JSON object.", name, path.name)
    return content


def _weight_files(name: str, folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        files = sorted({str(file) for file in _read_json(name, folder / INDEX).get("weight_map", {}).values()})
    else:
        files = [next((file for file in WEIGHTS if (folder / file).is_file()), WEIGHTS[0])]
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise SettingError("{backbone} is {!r}, which has no {}; put it there.", name, file)
    return [folder / file for file in files]


def _tensors(name: str, folder: Path) -> dict[str, Tensor]:
    return {key: value for path in _weight_files(name, folder) for key, value in read_state(path).items()}


def _tower(name: str, config: dict[str, Any]) -> Tower:
    activation = config["hidden_act"]
    if activation not in ACTIVATIONS:
        raise SettingError(
            "{backbone} is {!r}, whose hidden_act is {!r}. {}",
            *(name, activation, nearest(activation, ACTIVATIONS, "")),
        )
    return Tower(config["num_attention_heads"], ACTIVATIONS[activation], config["layer_norm_eps"])


def _images(name: str, folder: Path, vision: dict[str, Any]) -> Images:
    side = vision["image_size"]
    side = side[0] if isinstance(side, list) and len(set(side)) == 1 else side
    if not isinstance(side, int):
        raise SettingError("{backbone} is {!r}, whose image_size is {!r}; give one for square images.", name, side)
    path = folder / PREPROCESSOR
    found = _read_json(name, path) if path.is_file() else {}
    resample = found.get("resample", 3)
    if resample not in INTERPOLATIONS:
        raise SettingError("{backbone} is {!r}, whose {} has resample {!r}.", name, PREPROCESSOR, resample)
    mean, std = (tuple(found.get(key, ours)) for key, ours in (("image_mean", PIXEL_MEAN), ("image_std", PIXEL_STD)))
    return Images(side, mean, std, INTERPOLATIONS[resample])


def _words(name: str, folder: Path, text: dict[str, Any]) -> Words | None:
    """None: OpenAI's."""
    # Of files from before 2023, 2 stands for the largest id, as in OpenAI's code.
    if text["vocab_size"] == OPENAI_VOCABULARY and text["eos_token_id"] in (2, OPENAI_EOT):
        return None
    words = HuggingFaceWords(load_tokenizer(name, str(folder)))
    if words.tokenizer.eos_token_id != text["eos_token_id"]:
        raise SettingError(
            "{backbone} is {!r}, which reads the text feature at token {}, but its tokeniser ends sentences with {}.",
            *(name, text["eos_token_id"], words.tokenizer.eos_token_id),
        )
    return words


def load_tokenizer(name: str, source: str) -> Any:
    """A tokeniser of `transformers`; raises SettingError if it cannot be had."""
    if importlib.util.find_spec("transformers") is None:
        raise SettingError(
            "{backbone} is {!r}, whose tokeniser is one of transformers: pip install transformers.", name
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)  # else it may ask to run code
    except Exception as error:  # of many kinds, from missing files to no network
        raise SettingError(
            "{backbone} is {!r}, whose tokeniser {!r} cannot be had ({}). Download it where there is a network (hf "
            "download {}), and copy ~/.cache/huggingface, or set HF_HOME.",
            *(name, source, str(error).strip().partition("\n")[0], source),
        ) from error
