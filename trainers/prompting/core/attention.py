"""Attention as pure functions, fused where that is faster, and the attention weights of single keys.

Shapes: queries `[batch, heads, queries, head_width]`, keys and values `[batch, heads, keys, head_width]`. A tensor
with a smaller batch is expanded: each of its rows is repeated for consecutive rows of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax attention, `[batch, heads, queries, head_width]`.

    Args:
        query, key, value: see the module.
        visible: bool mask, broadcast to `[batch, heads, queries, keys]`; None: no mask.
    """
    query, key, value = to_one_batch(query, key, value)
    if _is_fused(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    return _weights(query, key, visible) @ value


def attention_to(query: Tensor, key: Tensor, slots: slice, visible: Tensor | None) -> Tensor:
    """The attention weights that the keys at `slots` receive from each query, `[batch, heads, queries, slots]`.

    A fused kernel computes them without an attention map in memory, as attention over values that are 1 at one slot
    each and 0 elsewhere.
    """
    query, key = to_one_batch(query, key)
    if not _is_fused(query):
        return _weights(query, key, visible)[..., slots]
    number = slots.stop - slots.start
    # As wide as the keys, because the fused kernels require that.
    indicator = key.new_zeros(key.shape[-2], max(number, key.shape[-1]))
    indicator[slots, :number].fill_diagonal_(1)
    indicator = indicator.expand(*key.shape[:2], -1, -1)
    return F.scaled_dot_product_attention(query, key, indicator, attn_mask=visible)[..., :number]


def to_one_batch(*parts: Tensor) -> list[Tensor]:
    """Parts expanded to the largest batch among them; to an empty batch if one is empty."""
    rows = [len(part) for part in parts]
    batch = max(rows) if min(rows) else 0
    return [_repeated(part, batch) for part in parts]


def _repeated(part: Tensor, batch: int) -> Tensor:
    if len(part) in (1, batch):
        return part.expand(batch, -1, -1, -1)
    return part.repeat_interleave(batch // len(part), dim=0)


def _is_fused(query: Tensor) -> bool:
    # The fused CPU kernels are several times slower than the plain product in types that they convert; torch 1.13 has
    # none.
    return (query.is_cuda or query.dtype == torch.float32) and hasattr(F, "scaled_dot_product_attention")


def _weights(query: Tensor, key: Tensor, visible: Tensor | None) -> Tensor:
    scores = query * key.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return torch.softmax(scores, dim=-1)


def visible_from(queries: int, keys: int, device: torch.device) -> Tensor | None:
    """The causal mask `[queries, keys]` of queries at the end of the keys; None for a single query, which sees all."""
    if queries == 1:
        return None
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
