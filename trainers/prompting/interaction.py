"""BMIP's maths: one pure function per step, the same for both modalities.

Shapes: `b` prompt tokens, `width` of the receiving tower, `batch` images (vision) or classes (text). Equation numbers
are those of the paper, arXiv 2501.07769.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_readout(
    query: Tensor,
    key: Tensor,
    slots: slice,
    readers: slice,
    counted: Tensor | None,
    *,
    causal: bool,
    relative: bool = False,
) -> Tensor:
    """How much attention each prompt slot receives, averaged over heads and over the reading tokens.

    Args:
        query, key: `[batch, heads, tokens, head_width]`, prompt slots included.
        slots: positions of the `b` prompt tokens.
        readers: positions of the tokens whose attention is read: CLS and patches in the vision tower, the tokens
            behind the prompts in the text tower.
        counted: `[batch, readers]` bool, False for readers that do not count (padding behind EOT); None counts all.
        causal: a token sees only itself and what stands before it (text tower).
        relative: multiply each reader's attention by the number of tokens it sees, so that uniform attention reads
            as 1 instead of about 1 / tokens.

    Returns:
        `[batch, b]` in fp32: `a` of the method's step 2.
    """
    tokens = key.shape[-2]
    visible = torch.ones(tokens, tokens, dtype=torch.bool, device=key.device)
    visible = (visible.tril() if causal else visible)[readers]
    scores = query[:, :, readers] @ key.transpose(-1, -2) / key.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(~visible, float("-inf"))
    received = torch.softmax(scores, dim=-1, dtype=torch.float32)[..., slots].mean(dim=1)
    if relative:
        received = received * visible.sum(dim=-1, keepdim=True)
    if counted is None:
        return received.mean(dim=1)
    weights = counted.unsqueeze(-1).float()
    return (received * weights).sum(dim=1) / weights.sum(dim=1)


def gate(readout: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Substitution weights `w = sigmoid(L(a))` in (0, 1), `L` being one scale and one bias; shape of `readout`."""
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
