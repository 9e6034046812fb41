"""BMIP's maths: one pure function per step, the same for both modalities.

Shapes: `b` prompt tokens, `width` of the receiving tower, `batch` images (vision) or classes (text). Equation numbers
are those of the paper, arXiv 2501.07769.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import attention_to, visible_from


def attention_readout(
    query: Tensor,
    key: Tensor,
    slots: slice,
    counted: Tensor | None,
    *,
    causal: bool,
    relative: bool = False,
) -> Tensor:
    """Attention that each prompt slot receives, averaged over heads and reading tokens.

    Args:
        query: `[batch, heads, readers, head_width]` of the reading tokens, the last ones of the keys: CLS and patches
            in the vision tower, the tokens after the prompts in the text tower.
        key: `[batch, heads, tokens, head_width]`, prompt slots included.
        slots: positions of the `b` prompt tokens among the keys.
        counted: `[batch, readers]` bool, False for readers that do not count (padding after EOT); None counts all.
        causal: a token sees only itself and earlier tokens (text tower).
        relative: multiply each reader's attention by the number of tokens it sees, so that uniform attention reads
            as 1 instead of about 1 / tokens.

    Returns:
        `[batch, b]` in fp32: `a` of the method's step 2.
    """
    readers, tokens = query.shape[2], key.shape[2]
    visible = visible_from(readers, tokens, key.device) if causal else None
    received = attention_to(query, key, slots, visible).float().mean(dim=1)
    if relative:
        seen = torch.full((readers,), tokens, device=key.device) if visible is None else visible.sum(dim=-1)
        received = received * seen[:, None]
    if counted is None:
        return received.mean(dim=1)
    weights = counted.unsqueeze(-1).float()
    return (received * weights).sum(dim=1) / weights.sum(dim=1)


def gate(readout: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Substitution weights `w = sigmoid(scale * a + bias)` in (0, 1); shape of `readout`."""
    return torch.sigmoid(readout * scale + bias)


def substitute(own: Tensor, projected: Tensor, weights: Tensor) -> Tensor:
    """Eq. 10-11: `P' = w * P + (1 - w) * P_other`, one weight per prompt token.

    Args:
        own, projected: `[b, width]`, the modality's own prompts and those projected from the other modality.
        weights: `[..., b]`.

    Returns:
        `[..., b, width]`.
    """
    weights = weights.unsqueeze(-1)
    return weights * own + (1 - weights) * projected


def addition(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = P + P_other`; `[b, width]`."""
    return own + projected


def cross_attention(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = P + softmax(P_other P^T) P_other`, softmax over the last axis; `[b, width]`."""
    return own + torch.softmax(projected @ own.t(), dim=-1) @ projected


def joint(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = [P_other; P]`, both kept; `[2b, width]`."""
    return torch.cat([projected, own])
