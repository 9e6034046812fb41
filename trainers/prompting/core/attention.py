"""Attention as pure functions, fused where that is faster, and the attention weights of single keys.

Shapes: queries `[batch, heads, queries, head_width]`, keys and values `[batch, heads, keys, head_width]`. A tensor
with a smaller batch is expanded: each of its rows is repeated for consecutive rows of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import constants, memory


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, `[batch, heads, queries, head_width]`.

    Args:
        query, key, value: see the module.
        causal: the queries are those of the last keys, and see only themselves and earlier ones.
        mask: added to the scores, broadcast to `[batch, heads, queries, keys]`, in place of `causal`.
    """
    query, key, value = to_one_batch(query, key, value)
    fused = _is_fused(query)
    # The kernels know the causal mask of as many queries as keys.
    known = causal and fused and query.shape[2] == key.shape[2]
    if causal and not known:
        mask = _causal_mask(query, key)
    if fused:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=known)
    return _weights(query, key, mask) @ value


def attention_to(query: Tensor, key: Tensor, slots: slice, causal: bool = False) -> Tensor:
    """The attention weights that the keys at `slots` receive from each query, `[batch, heads, queries, slots]`.

    A fused kernel computes them without an attention map in memory, as attention over values that are 1 at one slot
    each and 0 elsewhere.

    Args:
        causal: see `attend`.
    """
    query, key = to_one_batch(query, key)
    if not _is_fused(query):
        return _weights(query, key, _causal_mask(query, key) if causal else None)[..., slots]
    number = slots.stop - slots.start
    # As wide as the keys, because the fused kernels require that.
    width = max(number, key.shape[-1])
    values = constants.slot_values(key.shape[2], slots.start, slots.stop, width, key.dtype, key.device)
    return attend(query, key, values.expand(*key.shape[:2], -1, -1), causal)[..., :number]


def to_one_batch(*parts: Tensor) -> list[Tensor]:
    """Parts expanded to the largest batch among them; to an empty batch if one is empty."""
    rows = [len(part) for part in parts]
    batch = max(rows) if min(rows) else 0
    return [_repeated(part, batch) for part in parts]


def _repeated(part: Tensor, batch: int) -> Tensor:
    if len(part) == batch:
        return part
    if len(part) == 1:
        return part.expand(batch, *part.shape[1:])
    return part.repeat_interleave(batch // len(part), dim=0)


def _is_fused(query: Tensor) -> bool:
    # The fused CPU kernels are several times slower than the plain product in types that they convert; torch 1.13 has
    # none.
    fast = memory.kind_of(query.device) == "cuda" or query.dtype == torch.float32
    return fast and hasattr(F, "scaled_dot_product_attention")


def _causal_mask(query: Tensor, key: Tensor) -> Tensor | None:
    """None for a single query, which sees all."""
    queries, keys = query.shape[2], key.shape[2]
    return None if queries == 1 else constants.causal_mask(queries, keys, query.dtype, query.device)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    scores = query * key.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, dim=-1)
