"""BMIP's maths: one pure function per step, the same for both modalities.

Shapes: `b` prompt tokens, `width` of the receiving tower, `batch` images (vision) or classes (text). Equation numbers
are those of the paper, arXiv 2501.07769.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import constants
from .attention import attention_to


def attention_readout(
    query: Tensor,
    key: Tensor,
    slots: slice,
    weights: Tensor | None,
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
        weights: `[batch, readers]`, of the readers in the average, 1 in the mean of a row, 0 for those that do not
            count (padding after EOT); None counts all alike.
        causal: a token sees only itself and earlier tokens (text tower).
        relative: multiply each reader's attention by the number of tokens it sees, so that uniform attention reads
            as 1 instead of about 1 / tokens.

    Returns:
        `[batch, b]` in fp32: `a` of the method's step 2.
    """
    readers, tokens = query.shape[2], key.shape[2]
    received = attention_to(query, key, slots, causal).float()
    if relative:
        seen = constants.positions(tokens - readers + 1, tokens + 1, key.device)[:, None] if causal else tokens
        received = received * seen
    if weights is not None:
        received = received * weights[:, None, :, None]
    return received.mean(dim=(1, 2))


def gate(readout: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Substitution weights `w = sigmoid(scale * a + bias)` in (0, 1).

    Args:
        readout: `[..., b]`.
        scale, bias: `[1, 1]` and `[1]`, of a linear layer.

    Returns:
        `[..., b, 1]`.
    """
    return torch.sigmoid(F.linear(readout.unsqueeze(-1), scale, bias))


def substitute(projected: Tensor, difference: Tensor, weights: Tensor) -> Tensor:
    """Eq. 10-11: `P' = w * P + (1 - w) * P_other`, one weight per prompt token.

    Args:
        projected: `P_other` `[b, width]`, the prompts projected from the other modality.
        difference: `P - P_other`, of the modality's own prompts from them.
        weights: `[..., b, 1]`.

    Returns:
        `[..., b, width]`.
    """
    return torch.addcmul(projected, weights, difference)


def addition(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = P + P_other`; `[b, width]`."""
    return own + projected


def cross_attention(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = P + softmax(P_other P^T) P_other`, softmax over the last axis; `[b, width]`."""
    return own + torch.softmax(projected @ own.t(), dim=-1) @ projected


def joint(own: Tensor, projected: Tensor) -> Tensor:
    """Ablation (Table 5): `P' = [P_other; P]`, both kept; `[2b, width]`."""
    return torch.cat([projected, own])
