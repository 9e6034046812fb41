"""Batches of classes for the text tower: of similar length, and within the limits of memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from . import memory

# Fixed overhead per group, in token-equivalents: work that does not grow with the group, on a GPU the launching of
# kernels (docs/PERFORMANCE.md, "On a GPU").
GROUP_COST = {"cpu": 64, "cuda": 16384}
# Most tokens of a group. On a CPU the allocator requests larger activations from the operating system every time.
LARGEST_GROUP = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True)
class ClassGroup:
    """Classes that are encoded together.

    Attributes:
        classes: their labels.
        length: tokens of the longest sentence.
    """

    classes: tuple[int, ...]
    length: int


def group_classes(lengths: Sequence[int], device: torch.device, chunk: int | None = None) -> list[ClassGroup]:
    """Sort classes by length and cut them where that saves more padding than a further group costs.

    The groups do not depend on the free memory, because another cut may change the last bit of a result.

    Args:
        lengths: tokens of each class's sentence, in label order.
        device: of the text tower.
        chunk: most classes in a group; None: limited by the number of tokens alone.
    """
    kind = memory.kind_of(device)
    order = sorted(range(len(lengths)), key=lambda label: lengths[label])
    groups = []
    for classes in _by_length(order, lengths, GROUP_COST[kind]):
        most = max(1, LARGEST_GROUP[kind] // lengths[classes[-1]])
        for part in _even_parts(classes, most if chunk is None else min(most, chunk)):
            groups.append(ClassGroup(tuple(sorted(part)), lengths[part[-1]]))
    return groups


def images_together(groups: Sequence[ClassGroup], device: torch.device, chunk: int | None = None) -> int:
    """Number of images, each with its own prompts, for which the text tower encodes a group at once.

    Args:
        chunk: most pairs of an image and a class; None: limited by the number of tokens alone.
    """
    kind = memory.kind_of(device)
    pairs = max(len(group.classes) for group in groups)
    tokens = max(group.length * len(group.classes) for group in groups)
    most = LARGEST_GROUP[kind] // tokens if chunk is None else min(LARGEST_GROUP[kind] // tokens, chunk // pairs)
    return max(1, most)


def held_batches(sizes: Sequence[int], held: int) -> int:
    """Number of last batches with at most `held` classes or pairs together; at least 1.

    The backward pass reaches the last batches first, so their memory is free when the others are recomputed.
    """
    return max(1, sum(total <= held for total in itertools.accumulate(reversed(sizes))))


def _by_length(order: list[int], lengths: Sequence[int], group_cost: int) -> list[list[int]]:
    """The cheapest cut of `order`, which ascends in length: padded tokens plus a fixed cost per group."""
    ends = [
        end for end in range(1, len(order) + 1) if end == len(order) or lengths[order[end - 1]] < lengths[order[end]]
    ]
    best = {0: (0, 0)}  # end of a group: cost of all up to it, start of that group
    for end in ends:
        length = lengths[order[end - 1]]
        best[end] = min((best[start][0] + group_cost + (end - start) * length, start) for start in best)
    groups, end = [], len(order)
    while end:
        start = best[end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]


def _even_parts(classes: list[int], most: int) -> list[list[int]]:
    number = -(-len(classes) // most)
    bounds = [part * len(classes) // number for part in range(number + 1)]
    return [classes[start:end] for start, end in zip(bounds, bounds[1:])]
