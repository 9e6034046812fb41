"""Orders in which images are visited; only those are here that the supported projects configure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.utils.data import RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from .datasets import Datum

SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(sampler_type: str, data_source: Sequence[Datum]) -> Sampler:
    """Build a sampler over the indices of ``data_source``.

    Raises:
        ValueError: unknown sampler.
    """
    if sampler_type not in SAMPLERS:
        raise ValueError(f"DATALOADER.*.SAMPLER is {sampler_type!r}; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler_type](data_source)
