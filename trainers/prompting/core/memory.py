"""Memory: how much is free, how many activations fit, and handing back the unused."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Sequence

import psutil
import torch

# Automatic share of the memory for activations: this part of what is free, and no more bytes than that.
FREE_SHARE = 0.25
MOST_BYTES = {"cpu": 2 * 2**30, "cuda": 8 * 2**30}
# Growth of the process after which unused memory is handed back. What is handed back is fetched again by the next
# group, at a cost, so this is not done for each.
SLACK = 2**30
_resident = 0  # bytes of the process when memory was last handed back


def kind_of(device: torch.device) -> str:
    """The kind of a device in tables of constants: "cpu", or "cuda" for all others."""
    return "cpu" if device.type == "cpu" else "cuda"


def automatic_held(lengths: Sequence[int], bytes_per_token: int, device: torch.device) -> int:
    """How many of the classes with the longest sentences fit into free memory with their activations; at least 1."""
    tokens = min(MOST_BYTES[kind_of(device)], FREE_SHARE * free_memory(device)) / bytes_per_token
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
