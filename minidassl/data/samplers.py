"""Orders in which images are visited.

Differences from upstream: the class and domain samplers have a fixed length, and use no random number before they are
iterated. Upstream's length is that of one random pass, so that an epoch may end before, or without, its "last" batch,
in which the learning rate is stepped. ``SeqDomainSampler`` is absent.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch.utils.data import RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from .datasets import Datum

AVAI_SAMPLERS = ["RandomSampler", "SequentialSampler", "RandomClassSampler", "RandomDomainSampler"]


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] = (),
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler:
    """Build a sampler over the indices of ``data_source``.

    Args:
        sampler_type: one of ``AVAI_SAMPLERS``.
        cfg: unused, part of the common signature.
        data_source: the images.
        batch_size: images per batch; read by the class and domain samplers.
        n_domain: domains per batch (``RandomDomainSampler``); below 1: all.
        n_ins: images per class and batch (``RandomClassSampler``).

    Raises:
        ValueError: unknown sampler, or sizes that do not divide.
    """
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source)
    if sampler_type == "RandomClassSampler":
        return RandomClassSampler(data_source, batch_size, n_ins)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain)
    raise ValueError(f"Unknown sampler type: {sampler_type}; choose one of {AVAI_SAMPLERS} (DATALOADER.*.SAMPLER)")


class _GroupSampler(Sampler):
    """Batches of ``n_groups`` random groups with ``batch_size // n_groups`` images each.

    Images of a group are drawn without replacement until it runs short, then afresh; a group with too few images for
    one batch is drawn with replacement. Draws from Python's global generator.
    """

    def __init__(self, groups: dict[Hashable, list[int]], n_groups: int, batch_size: int) -> None:
        self.groups = groups
        self.n_groups = n_groups
        self.n_per_group = batch_size // n_groups
        n_images = sum(len(indices) for indices in groups.values())
        self.n_batches = max(1, n_images // batch_size)

    def __len__(self) -> int:
        return self.n_batches * self.n_groups * self.n_per_group

    def __iter__(self) -> Iterator[int]:
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for _ in range(self.n_batches):
            for group in random.sample(list(self.groups), self.n_groups):
                yield from self._draw(self.groups[group], waiting[group])

    def _draw(self, members: list[int], waiting: list[int]) -> list[int]:
        if len(members) < self.n_per_group:
            return random.choices(members, k=self.n_per_group)
        if len(waiting) < self.n_per_group:
            waiting[:] = random.sample(members, len(members))
        drawn = waiting[: self.n_per_group]
        del waiting[: self.n_per_group]
        return drawn


class RandomClassSampler(_GroupSampler):
    """Batches of ``batch_size // n_ins`` random classes with ``n_ins`` images each."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_ins: int) -> None:
        groups = _indices_by(data_source, "label")
        if n_ins < 1 or batch_size % n_ins or not 1 <= batch_size // n_ins <= len(groups):
            raise ValueError(
                f"RandomClassSampler: BATCH_SIZE is {batch_size} and N_INS is {n_ins}; BATCH_SIZE must be a multiple "
                f"of N_INS, and BATCH_SIZE / N_INS at most the number of classes, {len(groups)}"
            )
        super().__init__(groups, batch_size // n_ins, batch_size)


class RandomDomainSampler(_GroupSampler):
    """Batches of ``n_domain`` random domains (below 1: all) with equally many images each."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_domain: int) -> None:
        groups = _indices_by(data_source, "domain")
        n_domain = n_domain if n_domain and n_domain > 0 else len(groups)
        if n_domain > len(groups) or batch_size % n_domain:
            raise ValueError(
                f"RandomDomainSampler: BATCH_SIZE is {batch_size} and N_DOMAIN is {n_domain}; BATCH_SIZE must be a "
                f"multiple of N_DOMAIN, and N_DOMAIN at most the number of domains, {len(groups)}"
            )
        super().__init__(groups, n_domain, batch_size)


def _indices_by(data_source: Sequence[Datum], attribute: str) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(groups)
