"""Load CLIP weights, and set their compute precision; nothing else casts CLIP.

Backbones are OpenAI's by name, any checkpoint in OpenAI's state-dict layout by path, `tiny`, the small CLIP of this
project, `hf:` and a folder or name of Hugging Face, or `open_clip:` and an architecture with weights.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ..errors import SettingError, nearest
from . import from_open_clip, from_transformers
from .assemble import Foreign, assemble
from .design import Design, Images, design_of, images_of
from .openai_clip import CLIP, build_model, clip
from .weight_files import ARCHIVED, read_state

# Elements of a tensor that `state_digest` reads, at the least.
HASHED = 1000
TINY = Path(__file__).parents[1] / "weights" / "tiny_clip.npz"


@dataclass(frozen=True)
class Precision:
    """Compute precision of the frozen towers; trainable tensors are always fp32.

    Attributes:
        matmul: type of matrix products. Frozen weights are stored in it: autocast would cast them in every step.
        stream: type of the residual stream.
        scale_gradients: the loss needs a gradient scaler.
    """

    matmul: torch.dtype
    stream: torch.dtype
    scale_gradients: bool = False


PRECISIONS = {
    "fp32": Precision(torch.float32, torch.float32),
    "bf16": Precision(torch.bfloat16, torch.float32),
    "fp16": Precision(torch.float16, torch.float16),
    "amp": Precision(torch.float16, torch.float32, scale_gradients=True),
}


def get_precision(name: str) -> Precision:
    """Look up a precision by name; raises SettingError for an unknown one."""
    if name not in PRECISIONS:
        raise SettingError("{precision} is {!r}; set it to one of {}.", name, ", ".join(PRECISIONS))
    return PRECISIONS[name]


def use_tf32(enabled: bool) -> None:
    """Let CUDA multiply and convolve fp32 in TF32, or not; by default PyTorch convolves in TF32."""
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


def image_resolution(model: nn.Module) -> int:
    """Side length in pixels of a CLIP's input images."""
    return images_of(model).side


def text_width(model: nn.Module) -> int:
    """Width of the text transformer, d_t."""
    return model.ln_final.weight.shape[0]


def vision_width(model: nn.Module) -> int:
    """Width of the vision transformer, d_v; raises SettingError for a ResNet."""
    return _vision_transformer(model).width


def text_depth(model: nn.Module) -> int:
    """Layers of the text tower."""
    return len(model.transformer.resblocks)


def vision_depth(model: nn.Module) -> int:
    """Layers of the vision tower; raises SettingError for a ResNet."""
    return len(_vision_transformer(model).resblocks)


def has_vision_transformer(model: nn.Module) -> bool:
    """Whether prompts can enter the vision tower; a ResNet has no token sequence."""
    return hasattr(model.visual, "transformer") and not design_of(model).whole_image_tower


def _vision_transformer(model: nn.Module) -> nn.Module:
    _refuse_resnet("RN50 or the like", not has_vision_transformer(model))
    return model.visual.transformer


def load_clip(name: str, precision: Precision = PRECISIONS["fp32"], needs_vit: bool = False) -> nn.Module:
    """Load a CLIP on the CPU, frozen, in evaluation mode, weights stored for `precision`.

    Args:
        name: OpenAI's name (downloaded and checksummed by `clip` into ~/.cache/clip), a path to a checkpoint in
            OpenAI's state-dict layout (.npz, .safetensors, .pt), "tiny", or one of docs/BACKBONES.md.
        precision: of the towers.
        needs_vit: refuse a ResNet, before its download.

    Returns:
        The CLIP in OpenAI's modules. Its `digest` is the `state_digest` of its weights before they are cast.

    Raises:
        SettingError: unknown name, unreadable file, or a failed download.
    """
    check_backbone(name, needs_vit)
    reader = reader_of(name)
    if reader is not None:
        return _finished(assembled(name, reader.read(name, needs_vit)), precision)
    if name == "tiny":
        state = read_state(TINY)
    elif is_named(name):
        state = _download(name)
    else:
        state = read_state(Path(name).expanduser())
        _refuse_resnet(name, needs_vit and "visual.layer1.0.conv1.weight" in state)
    model = _build(name, {key: value.float() for key, value in state.items()})
    if name in clip.available_models():
        model.design = Design(images=images_of(model))
    return _finished(model, precision)


def _finished(model: nn.Module, precision: Precision) -> nn.Module:
    model.digest = state_digest(model.state_dict())
    cast_matmul_weights(model, precision.matmul)
    return model.eval().requires_grad_(False)


def check_backbone(name: str, needs_vit: bool) -> None:
    """Raise SettingError for what is neither a name of a CLIP nor a file, and for a ResNet if `needs_vit`."""
    reader = reader_of(name)
    if reader is not None:
        reader.check(name, needs_vit)
        return
    if not is_named(name) and not os.path.isfile(os.path.expanduser(name)):
        known = ["tiny", *clip.available_models()]
        raise SettingError(
            "{backbone} is {!r}, which is neither a file, nor tiny, nor a CLIP of OpenAI, and begins with neither "
            "open_clip: nor hf:. {}",
            *(name, nearest(name, known, "clip.available_models()")),
        )
    _refuse_resnet(name, needs_vit and is_named(name) and name.startswith("RN"))


def is_named(name: str) -> bool:
    """Whether a backbone has a name, rather than the path of a file or folder."""
    reader = reader_of(name)
    if reader is not None:
        return reader.is_named(name)
    return name == "tiny" or name in clip.available_models()


def reader_of(name: str) -> ModuleType | None:
    """The module that reads a backbone of another library; None for one in OpenAI's layout."""
    return next((reader for reader in (from_open_clip, from_transformers) if name.startswith(reader.PREFIX)), None)


# Sides of the images of OpenAI's CLIPs that are not 224 pixels.
SIDES = {"RN50x4": 288, "RN50x16": 384, "RN50x64": 448, "ViT-L/14@336px": 336}


def images_of_backbone(name: str) -> Images | None:
    """How a backbone wants its images prepared, from its name or its file.

    Returns:
        None where that cannot be told: the file is missing, or of another layout.

    Raises:
        SettingError: a name of another library that is unknown or cannot be had.
    """
    reader = reader_of(name)
    if reader is not None:
        return reader.images_of_name(name)
    if name in clip.available_models():
        return Images(SIDES.get(name, 224))
    path = TINY if name == "tiny" else Path(name).expanduser()
    return _images_of_file(path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=8)
def _images_of_file(path: Path, time: int) -> Images | None:
    """Of a state dict in OpenAI's layout; `time` of the file tells the cache of a new one."""
    state = read_state(path)
    is_vit = "visual.conv1.weight" in state and "visual.proj" in state
    positions = state.get("visual.positional_embedding" if is_vit else "visual.attnpool.positional_embedding")
    if positions is None:
        return None
    # The last layer of a ResNet sees a 32nd of the image's side.
    patch = state["visual.conv1.weight"].shape[-1] if is_vit else 32
    return Images(patch * round((len(positions) - 1) ** 0.5))


def state_digest(state: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and evenly spread elements; it tells two CLIPs apart, also two of the same path."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)}\n".encode())
        step = max(1, value.numel() // HASHED)
        digest.update(value.detach().flatten()[::step].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _refuse_resnet(name: str, is_resnet: bool) -> None:
    if is_resnet:
        raise SettingError(
            "{backbone} is {!r}, a ResNet: it has no token sequence for vision prompts to enter. Set it to a ViT such "
            "as ViT-B/16, or train a method that prompts the text tower alone.",
            name,
        )


def _download(name: str) -> dict[str, Tensor]:
    url = clip._MODELS[name]
    try:
        # `clip.load` would also build the model, which fails in MaPLe's copy.
        path = clip._download(url, os.path.expanduser("~/.cache/clip"))
    except (OSError, RuntimeError) as error:
        raise SettingError(
            "{backbone} is {!r}, whose weights are not in ~/.cache/clip and could not be downloaded ({}). Put {} "
            "there as {}, give a path to a checkpoint, or use tiny.",
            *(name, error, url, url.rsplit("/", 1)[1]),
        ) from error
    return read_state(Path(path))


# The copies of `clip` in MaPLe and its successors take this argument beyond OpenAI's; with these values they build
# OpenAI's towers.
_PLAIN_DESIGN = {"trainer": "CoOp", "vision_depth": 0, "vision_ctx": 0, "language_depth": 0, "language_ctx": 0}


def _without_prompts(build: Callable) -> dict[str, dict]:
    """Extra arguments with which a function or class of the imported `clip` builds an unmodified CLIP."""
    wants_design = "design_details" in inspect.signature(build).parameters
    return {"design_details": dict(_PLAIN_DESIGN)} if wants_design else {}


def new_clip(*sizes: int | tuple[int, ...] | None) -> nn.Module:
    """A CLIP with random weights; `sizes` are the arguments of OpenAI's `CLIP`."""
    return CLIP(*sizes, **_without_prompts(CLIP))


def _build(name: str, state: dict[str, Tensor]) -> nn.Module:
    """OpenAI's model for a state dict, in fp32."""
    state = {key: value for key, value in state.items() if key not in ARCHIVED}
    try:
        # build_model rounds the weights to fp16, so load them again in fp32.
        model = build_model(dict(state), **_without_prompts(build_model)).float()
        model.load_state_dict(state)
    except (KeyError, RuntimeError, ZeroDivisionError) as error:
        raise SettingError(
            "{backbone} is {!r}, which is no checkpoint in OpenAI's CLIP layout ({}).", name, error
        ) from error
    return model


def assembled(name: str, foreign: Foreign) -> nn.Module:
    """The CLIP of another library in OpenAI's modules; raises SettingError where its tensors do not suit its plan."""
    try:
        return assemble(new_clip, _without_prompts, foreign)
    except (KeyError, RuntimeError, ValueError) as error:
        raise SettingError("{backbone} is {!r}, whose tensors are not those of a CLIP ({}).", name, error) from error


def cast_matmul_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights of matrix products in `dtype`; LayerNorm, embeddings and logit scale stay fp32.

    The same split as OpenAI's mixed storage (`clip.model.convert_weights`), for any type.
    """
    kept = _in_fp32(model)
    for module in model.modules():
        if module in kept:
            continue
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            module.in_proj_weight.data = module.in_proj_weight.data.to(dtype)
            module.in_proj_bias.data = module.in_proj_bias.data.to(dtype)
    model.text_projection.data = model.text_projection.data.to(dtype)
    if getattr(model, "text_bias", None) is not None:
        model.text_bias.data = model.text_bias.data.to(dtype)
    if has_vision_transformer(model) and model.visual.proj is not None:
        model.visual.proj.data = model.visual.proj.data.to(dtype)


def _in_fp32(model: nn.Module) -> set[nn.Module]:
    """Modules of other libraries, which multiply in the type that they are given."""
    foreign = model.visual if design_of(model).whole_image_tower else getattr(model.visual, "pool", None)
    return set() if foreign is None else set(foreign.modules())
