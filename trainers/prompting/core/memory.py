"""Free and peak memory, the number of activations that fit, and trimming of the heap."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Sequence

from minidassl.own.jobs.devices import SHARERS

import psutil
import torch

# Budget of activations: this share of the free memory, and at most this many bytes.
FREE_SHARE = 0.25
MOST_BYTES = {"cpu": 2 * 2**30, "cuda": 8 * 2**30}
# Growth of the process after which the heap is trimmed. The next group allocates trimmed memory again, at a cost, so
# trimming after each group would be slow.
SLACK = 2**30
_resident = 0  # bytes of the process after the last trim


def kind_of(device: torch.device) -> str:
    """The kind of a device in tables of constants: "cpu", or "cuda" for all others."""
    return "cpu" if device.type == "cpu" else "cuda"


def automatic_held(lengths: Sequence[int], bytes_per_token: int, device: torch.device) -> int:
    """Number of classes, longest sentences first, whose activations fit into the budget; at least 1."""
    tokens = min(MOST_BYTES[kind_of(device)], FREE_SHARE * free_memory(device)) / bytes_per_token
    sums = itertools.accumulate(sorted(lengths, reverse=True))
    return max(1, sum(1 for total in sums if total <= tokens))


def return_unused_memory(device: torch.device) -> None:
    """Trim the C library's heap whenever the process has grown by SLACK.

    Over hundreds of groups, heap fragmentation adds up to several times the memory in use. Only glibc can trim; on
    other systems nothing happens.
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
    """Bytes that can be allocated on a device, by this one of the runs that share it."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] // int(os.environ.get(SHARERS, 1)) + reusable
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
