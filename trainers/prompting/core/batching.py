"""Which classes the text tower encodes together: of similar length, and no more at once than memory allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .memory import kind_of

# Fixed overhead per group, in token-equivalents: work that does not grow with the group, on a GPU the launching of
# kernels (docs/PERFORMANCE.md, "On a GPU").
GROUP_COST = {"cpu": 64, "cuda": 16384}
# Most tokens of a group. On a CPU larger activations come fresh from the operating system every time.
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

    The groups do not depend on the memory that happens to be free: another cut may change the last bit of a result.

    Args:
        lengths: tokens of each class's sentence, in label order.
        device: that encodes.
        chunk: most classes in a group; None leaves it to the number of tokens.
    """
    kind = kind_of(device)
    order = sorted(range(len(lengths)), key=lambda label: lengths[label])
    groups = []
    for classes in _by_length(order, lengths, GROUP_COST[kind]):
        most = max(1, LARGEST_GROUP[kind] // lengths[classes[-1]])
        for part in _even_parts(classes, most if chunk is None else min(most, chunk)):
            groups.append(ClassGroup(tuple(sorted(part)), lengths[part[-1]]))
    return groups


def images_together(groups: Sequence[ClassGroup], device: torch.device, chunk: int | None = None) -> int:
    """For how many images, which each give their own prompts, all of these groups can be encoded at once.

    Args:
        chunk: most pairs of an image and a class; None leaves it to the number of tokens.
    """
    kind = kind_of(device)
    pairs = max(len(group.classes) for group in groups)
    tokens = max(group.length * len(group.classes) for group in groups)
    most = LARGEST_GROUP[kind] // tokens if chunk is None else min(LARGEST_GROUP[kind] // tokens, chunk // pairs)
    return max(1, most)


def held_batches(sizes: Sequence[int], held: int) -> int:
    """How many of the last batches have no more than `held` classes or pairs; the last one is always held.

    The last ones are those whose gradient is computed first, so that their memory is free again when the activations
    of the others are computed for the second time.
    """
    return max(1, sum(total <= held for total in itertools.accumulate(reversed(sizes))))


def _by_length(order: list[int], lengths: Sequence[int], group_cost: int) -> list[list[int]]:
    """The cut of `order`, ascending in length, with the least cost: padded tokens, plus a fixed cost per group."""
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
