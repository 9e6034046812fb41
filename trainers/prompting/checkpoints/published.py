"""Checkpoints that the methods' own authors published: their tensors' names, and what of them is not taken over."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import InputError

# Rebuilt from the class names, in every method; the class names of a checkpoint are those it was trained on.
CLASS_TOKENS = r"(prompt_learner\.)?(token_prefix|token_suffix)"
# The authors save the whole model. Prompts that live inside the towers are told apart before.
FROZEN_CLIP = r"(image_encoder|text_encoder)\..+|logit_scale"
# Of PromptSRC, and of CoPrompt.
FROZEN_TEACHER = r"(prompt_learner\.ZS_image_encoder|model_distill)\..+"
SHOWN_NAMES = 5
# Weights that are averaged in half precision, as PromptSRC's authors save them, are off by less than a thousandth.
SAME_WEIGHTS = 0.1


@dataclass(frozen=True)
class ReleasedLayout:
    """The published names of a method's tensors.

    Attributes:
        renames: pairs of a pattern that matches a published name as a whole, and a function of its groups that gives
            the learner's name; the first that matches counts.
        marker: pattern that a name must match for the state dict to be one of the authors'.
        unused: further names, with the reason why they are left out.
    """

    renames: tuple[tuple[str, Callable[..., str]], ...]
    marker: str
    unused: Mapping[str, str] | None = None

    def matches(self, state_dict: Mapping[str, Tensor]) -> bool:
        """Whether a state dict has the authors' names."""
        return any(re.fullmatch(self.marker, key) for key in state_dict)

    def translate(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors in fp32 under the learner's names, and how many were left out for which reason.

        Raises:
            InputError: a name is unknown; the checkpoint is of another method.
        """
        reasons = {
            **(self.unused or {}),
            CLASS_TOKENS: "tokens of the class names, which are rebuilt",
            FROZEN_CLIP: "frozen CLIP",
            FROZEN_TEACHER: "the frozen teacher, which is the same CLIP",
        }
        translated: dict[str, Tensor] = {}
        ignored: dict[str, int] = {}
        unknown = []
        for key, value in state_dict.items():
            name = self._translated(key)
            if name is not None:
                translated[name] = value.float()
                continue
            reason = next((reason for pattern, reason in reasons.items() if re.fullmatch(pattern, key)), None)
            if reason is None:
                unknown.append(key)
            else:
                ignored[reason] = ignored.get(reason, 0) + 1
        if unknown:
            more = f" and {len(unknown) - SHOWN_NAMES} more" if len(unknown) > SHOWN_NAMES else ""
            raise InputError(
                f"The checkpoint has tensors that this method does not have: {', '.join(unknown[:SHOWN_NAMES])}{more}."
            )
        return translated, ignored

    def _translated(self, key: str) -> str | None:
        for pattern, rename in self.renames:
            match = re.fullmatch(pattern, key)
            if match:
                return rename(*match.groups())
        return None


def check_backbone(state_dict: Mapping[str, Tensor], clip_model: nn.Module, name: str) -> None:
    """Raises InputError if a checkpoint that holds CLIP's weights has another CLIP's than `name`."""
    visual = clip_model.visual
    for key, ours in (
        ("image_encoder.conv1.weight", visual.conv1.weight),
        # A ResNet has none, and differs in the first one.
        ("image_encoder.positional_embedding", getattr(visual, "positional_embedding", None)),
        ("text_encoder.text_projection", clip_model.text_projection),
        ("prompt_learner.ZS_image_encoder.conv1.weight", visual.conv1.weight),
        ("model_distill.visual.conv1.weight", visual.conv1.weight),
    ):
        theirs = state_dict.get(key)
        if theirs is None or ours is None:
            continue
        if theirs.shape != ours.shape:
            raise InputError(
                f"MODEL.BACKBONE.NAME is {name!r}, whose {key} is {tuple(ours.shape)}, but the checkpoint was trained "
                f"on a CLIP with {tuple(theirs.shape)}; set MODEL.BACKBONE.NAME to that one."
            )
        if "conv1" in key and relative_difference(theirs, ours) > SAME_WEIGHTS:
            raise InputError(
                f"MODEL.BACKBONE.NAME is {name!r}, but the checkpoint was trained on a CLIP of the same sizes with "
                f"other weights, by its {key}; set MODEL.BACKBONE.NAME to that one."
            )


def relative_difference(theirs: Tensor, ours: Tensor) -> float:
    """Length of the difference of two tensors of one shape, in proportion to that of `ours`."""
    ours = ours.detach().float().cpu()
    return float((theirs.float().cpu() - ours).norm() / ours.norm())


def prompt_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Layers ("text_depth") and tokens per layer ("text_length") of each tower's prompts in our own names.

    The length of layer 0 counts; there is no entry for a tower without prompts.
    """
    sizes = {}
    for tower in ("text", "vision"):
        layers = [key for key in state_dict if re.fullmatch(rf"{tower}_prompts\.\d+", key)]
        if layers:
            sizes[f"{tower}_depth"] = 1 + max(int(key.rpartition(".")[2]) for key in layers)
            sizes[f"{tower}_length"] = state_dict[min(layers)].shape[-2]
    return sizes


def describe_prompts(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Numbers of layers and tokens of each tower's prompts, in words."""
    found = {}
    for tower in ("text", "vision"):
        prompts = [value for key, value in state_dict.items() if re.fullmatch(rf"{tower}_prompts\.\d+", key)]
        shapes = sorted({tuple(prompt.shape) for prompt in prompts})
        if prompts:
            found[f"{tower}_prompts"] = f"{len(prompts)} layer{'s' * (len(prompts) > 1)} of " + " or ".join(
                (f"{shape[0]} classes, each " if len(shape) == 3 else "") + f"{shape[-2]} tokens {shape[-1]} wide"
                for shape in shapes
            )
    return found


def check_prompts(checkpoint: Mapping[str, Tensor], learner: Mapping[str, Tensor], keys: str) -> None:
    """Raises InputError if a checkpoint's prompts are of other number, length, depth or width than the learner's.

    A checkpoint without any is left to strict loading, which lists its tensors.

    Args:
        keys: names the configuration's keys in the message.
    """
    found, wanted = describe_prompts(checkpoint), describe_prompts(learner)
    differing = [group for group in sorted({*found, *wanted}) if found.get(group) != wanted.get(group)]
    if found and differing:
        raise InputError(
            "The checkpoint does not fit the configuration: "
            + "; ".join(
                f"{group} has {found.get(group, 'none')}, expected {wanted.get(group, 'none')}" for group in differing
            )
            + f". Set {keys} and MODEL.BACKBONE.NAME to what it was trained with."
        )


def check_adapters(checkpoint: Mapping[str, Tensor], learner: Mapping[str, Tensor]) -> None:
    """Raises InputError if all that tells a checkpoint from the learner are adapters, which consistency adds."""
    differing = sorted(checkpoint.keys() ^ learner.keys())
    adapters = [{name for name in names if name.startswith("adapters.")} for names in (checkpoint, learner)]
    if not differing or set(differing) not in adapters:
        return
    if adapters[0]:
        has, remedy = "has adapters", "set TRAINER.OBJECTIVE to consistency, by which it was trained"
    else:
        has = "has no adapters"
        remedy = (
            "it was not trained by consistency: choose the trainer (--trainer) of the prompts alone, like MaPLe or "
            "BMIP, and leave TRAINER.OBJECTIVE empty"
        )
    raise InputError(f"The checkpoint {has} ({', '.join(differing)}); {remedy}.")
