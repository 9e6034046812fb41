"""Masks and indices, made once for each shape, type and device: in every layer they would cost launches of their own.

They stay for the rest of the process, a few KiB each, so that a recorded step may go on reading them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

ROW = 16  # elements: CUDA's attention kernels take rows of a mask that begin at multiples of them, and copy others


def _once(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.cache
    def made(*key: object) -> Tensor:
        # An evaluation in inference mode may come first, and training may need them.
        with torch.inference_mode(False):
            return make(*key)

    _caches.append(made.cache_clear)
    return made


_caches: list[Callable[[], None]] = []


def forget() -> None:
    """Empty all caches, for those who run on tensors that must not outlive them."""
    for clear in _caches:
        clear()


@_once
def causal_mask(queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to the scores `[queries, keys]` of the last tokens as queries: 0, or -inf for later keys."""
    hidden = torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)
    mask = torch.zeros(queries, -(-keys // ROW) * ROW, dtype=dtype, device=device)[:, :keys]
    return mask.masked_fill_(hidden, float("-inf"))


@_once
def slot_values(keys: int, start: int, stop: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Values `[keys, width]` that are 1 at one key each, `start` to `stop`, and one column each, and 0 elsewhere."""
    values = torch.zeros(keys, width, dtype=dtype, device=device)
    values[start:stop, : stop - start].fill_diagonal_(1)
    return values


@_once
def positions(start: int, stop: int, device: torch.device) -> Tensor:
    """The whole numbers from `start` to `stop - 1`."""
    return torch.arange(start, stop, device=device)
