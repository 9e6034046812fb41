"""A CLIP of any library in OpenAI's modules, so that the rest of the core runs it as it runs OpenAI's.

Readers of a library's checkpoints give tensors under OpenAI's names and a `Plan` of what these do not tell. Modules
whose kind differs are exchanged (activations, MLPs of another width, LayerNorms of another epsilon); what OpenAI's
have no place for is folded into their weights, which changes no product by more than rounding: layer scale into the
matrix before it, the patches' bias into their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .design import Design
from .openai_clip import QuickGELU


@dataclass(frozen=True)
class Tower:
    """A transformer.

    Attributes:
        heads: of each layer.
        activation: builds that of the MLPs.
        eps: of all LayerNorms.
    """

    heads: int
    activation: Callable[[], nn.Module] = QuickGELU
    eps: float = 1e-5


@dataclass(frozen=True)
class Plan:
    """Facts of a CLIP that its tensors do not tell.

    Attributes:
        text, vision: the towers; None for a vision tower that no prompts can enter.
        design: of the model.
        visual: that vision tower, called as it is.
        pool: all that comes after the layers of a vision tower that pools, `[batch, tokens, width]` to
            `[batch, embed]`.
        has_ln_pre: the vision tower has a LayerNorm before its layers.
    """

    text: Tower
    vision: Tower | None
    design: Design
    visual: nn.Module | None = None
    pool: nn.Module | None = None
    has_ln_pre: bool = True


@dataclass
class Foreign:
    """A CLIP as read: tensors under OpenAI's names, and `text_bias` and `logit_bias` where it has them."""

    state: dict[str, Tensor]
    plan: Plan
    extra: dict[str, Tensor] = field(default_factory=dict)


def layers_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """The number of layers of a tower."""
    start = f"{prefix}resblocks."
    return 1 + max(int(key[len(start) :].partition(".")[0]) for key in state if key.startswith(start))


def scale_layer(weights: dict[str, Tensor], layer: str, gamma: Tensor) -> None:
    """Fold a layer scale into the linear layer before it."""
    for name, scale in (("weight", gamma[:, None]), ("bias", gamma)):
        weights[f"{layer}.{name}"] = weights[f"{layer}.{name}"] * scale


# Sizes of a vision tower that gives way to another: OpenAI's class would derive the heads from the width.
PLACEHOLDER = (64, 1, 64, 64)


def assemble(
    new_clip: Callable[..., nn.Module], without_prompts: Callable[[type], dict[str, dict]], foreign: Foreign
) -> nn.Module:
    """OpenAI's model with the tensors and modules of another CLIP, in fp32.

    Args:
        new_clip: builds OpenAI's model from its sizes.
        without_prompts: further arguments of a class of the imported `clip`.

    Raises:
        KeyError, RuntimeError, ValueError: tensors lack or have wrong shapes.
    """
    state, plan = foreign.state, foreign.plan
    embed, (vocabulary, text_width) = state["text_projection"].shape[1], state["token_embedding.weight"].shape
    text = len(state["positional_embedding"]), vocabulary, text_width, plan.text.heads
    # No memory and no random numbers for weights that are replaced.
    with torch.device("meta"):
        model = new_clip(embed, *PLACEHOLDER, *text, layers_of(state, "transformer."))
        _change(model.transformer, plan.text, state, "transformer.")
        model.ln_final.eps = plan.text.eps
        for name, tensor in foreign.extra.items():
            model.register_parameter(name, nn.Parameter(torch.empty_like(tensor, device="meta")))
        if plan.vision is not None:
            kind, side = type(model.visual), plan.design.images.side
            width, _, patch, _ = state["visual.conv1.weight"].shape
            layers = layers_of(state, "visual.transformer.")
            visual = kind(side, patch, width, layers, plan.vision.heads, embed, **without_prompts(kind))
            model.visual = visual
            _change(visual.transformer, plan.vision, state, "visual.transformer.")
            visual.ln_pre.eps = visual.ln_post.eps = plan.vision.eps
            positions, has_class = state["visual.positional_embedding"], "visual.class_embedding" in state
            if len(positions) != (side // patch) ** 2 + has_class:
                raise ValueError(f"{len(positions)} positions do not suit images of {side} pixels")
            visual.positional_embedding = nn.Parameter(torch.empty_like(positions, device="meta"))
            if not has_class:
                visual.class_embedding = None
            if not plan.has_ln_pre:
                visual.ln_pre = nn.Identity()
            if plan.pool is not None:
                visual.ln_post, visual.proj = nn.Identity(), None  # the pool has them
    if plan.vision is None:
        model.visual = plan.visual
        model.visual.input_resolution = plan.design.images.side
        state = {**state, **{f"visual.{key}": value for key, value in plan.visual.state_dict().items()}}
    elif plan.pool is not None:
        visual.pool = plan.pool
        state = {**state, **{f"visual.pool.{key}": value for key, value in plan.pool.state_dict().items()}}
    whole = {key: _in_fp32(value.detach()) for key, value in {**state, **foreign.extra}.items()}
    model.load_state_dict(whole, assign=True)
    mask = _causal_mask(model.context_length) if plan.design.causal else None
    for block in model.transformer.resblocks:
        block.attn_mask = mask
    model.design = plan.design
    return model


def _in_fp32(tensor: Tensor) -> Tensor:
    """A copy; counters, such as BatchNorm's, keep their type."""
    return tensor.float().clone() if tensor.is_floating_point() else tensor.clone()


def _change(transformer: nn.Module, tower: Tower, state: Mapping[str, Tensor], prefix: str) -> None:
    for number, block in enumerate(transformer.resblocks):
        hidden, width = state[f"{prefix}resblocks.{number}.mlp.c_fc.weight"].shape
        block.attn.num_heads, block.attn.head_dim = tower.heads, width // tower.heads
        block.ln_1.eps = block.ln_2.eps = tower.eps
        block.mlp.gelu = tower.activation()
        if hidden != block.mlp.c_fc.out_features:
            block.mlp.c_fc, block.mlp.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)


def _causal_mask(length: int) -> Tensor:
    return torch.full((length, length), float("-inf")).triu(1)
