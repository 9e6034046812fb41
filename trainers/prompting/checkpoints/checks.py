"""Compare a checkpoint's CLIP, prompts and adapters with those of this run."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ..core.layout import PublishedLayout
from ..errors import InputError, SettingError

# Relative; PromptSRC's authors save weights that are averaged in half precision, and differ by less than a thousandth.
SAME_WEIGHTS = 0.1


def check_backbone(state_dict: Mapping[str, Tensor], clip_model: nn.Module, name: str) -> None:
    """Raises SettingError if a checkpoint holds the weights of another CLIP than `name`."""
    visual = clip_model.visual
    first = getattr(getattr(visual, "conv1", None), "weight", None)  # a ConvNeXt has none of this name
    for key, ours in (
        ("image_encoder.conv1.weight", first),
        # A ResNet has none; the first entry tells it from a ViT.
        ("image_encoder.positional_embedding", getattr(visual, "positional_embedding", None)),
        ("text_encoder.text_projection", clip_model.text_projection),
        ("prompt_learner.ZS_image_encoder.conv1.weight", first),
        ("model_distill.visual.conv1.weight", first),
    ):
        theirs = state_dict.get(key)
        if theirs is None or ours is None:
            continue
        if theirs.shape != ours.shape:
            raise SettingError(
                "{backbone} is {!r}, whose {} is {}, but the checkpoint was trained on a CLIP with {}; set {backbone} "
                "to that one.",
                *(name, key, tuple(ours.shape), tuple(theirs.shape)),
            )
        ours = ours.detach().float().cpu()
        if "conv1" in key and (theirs.float().cpu() - ours).norm() > SAME_WEIGHTS * ours.norm():
            raise SettingError(
                "{backbone} is {!r}, but the checkpoint was trained on a CLIP of the same sizes with other weights, "
                "by its {}; set {backbone} to that one.",
                *(name, key),
            )


def describe_prompts(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Layers, tokens and width of each tower's prompts, in words."""
    found = {}
    for tower in ("text", "vision"):
        prompts = [value for key, value in state_dict.items() if re.fullmatch(rf"{tower}_prompts\.\d+", key)]
        shapes = sorted({tuple(prompt.shape) for prompt in prompts})
        if prompts:
            found[f"{tower}_prompts"] = f"{len(prompts)} layer{'s' * (len(prompts) > 1)} of " + " or ".join(
                (f"{shape[0]} contexts, each " if len(shape) == 3 else "") + f"{shape[-2]} tokens {shape[-1]} wide"
                for shape in shapes
            )
    return found


def check_prompts(checkpoint: Mapping[str, Tensor], learner: Mapping[str, Tensor]) -> None:
    """Raises SettingError if a checkpoint's prompts differ from the learner's in depth, length or width.

    Strict loading handles a checkpoint without prompts, and lists its tensors.
    """
    found, wanted = describe_prompts(checkpoint), describe_prompts(learner)
    differing = [group for group in sorted({*found, *wanted}) if found.get(group) != wanted.get(group)]
    if found and differing:
        raise SettingError(
            "The checkpoint does not fit the configuration: {}. Set {settings} and {backbone} to what it was trained "
            "with.",
            "; ".join(
                f"{group} has {found.get(group, 'none')}, expected {wanted.get(group, 'none')}" for group in differing
            ),
        )


def check_adapters(checkpoint: Mapping[str, Tensor], learner: Mapping[str, Tensor]) -> None:
    """Raises InputError if a checkpoint and the learner differ in nothing but adapters, which consistency adds."""
    differing = sorted(checkpoint.keys() ^ learner.keys())
    if not differing or not all(name.startswith("adapters.") for name in differing):
        return
    if differing[0] in checkpoint:
        has, remedy = "has adapters", "set TRAINER.OBJECTIVE to consistency, by which it was trained"
    else:
        has = "has no adapters"
        remedy = (
            "it was not trained by consistency: choose the trainer (--trainer) of the prompts alone, like MaPLe or "
            "BMIP, and leave TRAINER.OBJECTIVE empty"
        )
    raise InputError(f"The checkpoint {has} ({', '.join(differing)}); {remedy}.")


def adopt(
    state_dict: Mapping[str, Tensor],
    layout: PublishedLayout | None,
    learner: nn.Module,
    clip_model: nn.Module,
    backbone: str,
) -> tuple[Mapping[str, Tensor], dict[str, int] | None]:
    """Check a checkpoint, ours or the authors', and translate it to the learner's names.

    Returns:
        The tensors, and for an authors' checkpoint the number of tensors left out for each reason; None for ours.

    Raises:
        InputError: the checkpoint is of another CLIP or method, or its prompts have other sizes than the learner's.
            The message explains more than that of strict loading.
    """
    left_out = None
    if layout is not None and layout.matches(state_dict):
        check_backbone(state_dict, clip_model, backbone)
        state_dict, left_out = layout.translate_for(state_dict, learner)
    check_prompts(state_dict, learner.state_dict())
    return state_dict, left_out
