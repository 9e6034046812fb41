"""Which classes the text tower encodes together: of similar length, and no more at once than memory allows."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

# What one more group costs, in tokens of the text tower that could be computed in the same time: the work that does
# not grow with the group, which on a GPU is the launching of kernels (docs/PERFORMANCE.md, "On a GPU").
GROUP_COST = {"cpu": 64, "cuda": 16384}
# Most tokens of a group. On a CPU larger activations come fresh from the operating system every time.
LARGEST_GROUP = {"cpu": 2048, "cuda": 16384}
# Automatic share of the memory for activations: this part of what is free, and no more bytes than that.
FREE_SHARE = 0.25
MOST_BYTES = {"cpu": 2 * 2**30, "cuda": 8 * 2**30}
# Growth of the process behind which unused memory is handed back. What is handed back is fetched again by the next
# group, at a cost, so this is not done for each.
SLACK = 2**30
_resident = 0  # bytes of the process when memory was last handed back


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
    kind = _kind(device)
    order = sorted(range(len(lengths)), key=lambda label: lengths[label])
    groups = []
    for classes in _by_length(order, lengths, GROUP_COST[kind]):
        most = max(1, LARGEST_GROUP[kind] // lengths[classes[-1]])
        for piece in _even_pieces(classes, most if chunk is None else min(most, chunk)):
            groups.append(ClassGroup(tuple(sorted(piece)), lengths[piece[-1]]))
    return groups


def images_together(groups: Sequence[ClassGroup], device: torch.device, chunk: int | None = None) -> int:
    """For how many images, which each give their own prompts, all of these groups can be encoded at once.

    Args:
        chunk: most pairs of an image and a class; None leaves it to the number of tokens.
    """
    kind = _kind(device)
    pairs = max(len(group.classes) for group in groups)
    tokens = max(group.length * len(group.classes) for group in groups)
    most = LARGEST_GROUP[kind] // tokens if chunk is None else min(LARGEST_GROUP[kind] // tokens, chunk // pairs)
    return max(1, most)


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "cuda"


def held_pieces(sizes: Sequence[int], held: int) -> int:
    """How many of the last pieces have no more than `held` classes or pairs; the last one is always held.

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


def _even_pieces(classes: list[int], most: int) -> list[list[int]]:
    number = -(-len(classes) // most)
    bounds = [piece * len(classes) // number for piece in range(number + 1)]
    return [classes[start:end] for start, end in zip(bounds, bounds[1:])]


def automatic_held(lengths: Sequence[int], bytes_per_token: int, device: torch.device) -> int:
    """How many of the classes with the longest sentences fit into free memory with their activations; at least 1."""
    tokens = min(MOST_BYTES[_kind(device)], FREE_SHARE * free_memory(device)) / bytes_per_token
    sums = itertools.accumulate(sorted(lengths, reverse=True))
    return max(1, sum(1 for total in sums if total <= tokens))


def return_unused_memory(device: torch.device) -> None:
    """Hand back to the system what the C library keeps of freed CPU memory, whenever the process has grown by SLACK.

    It keeps holes between blocks, which over hundreds of groups add up to several times what is in use. Only glibc
    does so and can be asked; elsewhere nothing happens.
    """
    global _resident
    if device.type != "cpu" or sys.platform != "linux":
        return
    process = psutil.Process()
    _resident = min(_resident, process.memory_info().rss)
    if process.memory_info().rss > _resident + SLACK:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _resident = process.memory_info().rss


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device now."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    return psutil.virtual_memory().available


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by the process on a CPU, by PyTorch's allocator on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
