"""Count what a GPU is given to do in a step, on any machine: operations of PyTorch that are no views.

A step runs on tensors without data, so that it takes neither its time nor its memory, and every device counts as a GPU
wherever the code decides by its kind (`fake_gpu`): the grouping of classes, their segments, fused attention.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

from minidassl.own import optim

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.prompting.core import constants, memory

FREE_ON_A_GPU = 64 * 2**30  # bytes
# Operations without a kernel of their own that their schemas do not tell from others.
WITHOUT_KERNEL = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::lift_fresh")


def is_launched(operation: torch._ops.OpOverload) -> bool:
    """Whether a device works for an operation: none of its results is a view of an argument, nor memory unset."""
    schema = operation._schema
    if not schema.name.startswith("aten::") or schema.name.startswith(WITHOUT_KERNEL):
        return False
    aliases = [result.alias_info for result in schema.returns]
    return all(alias is None or alias.is_write for alias in aliases)


class Launches(TorchDispatchMode):
    """A context that counts the operations within it, backward passes included, by name, and their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()
        self.bytes = 0  # read and written by them, each tensor once an operation

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        if is_launched(operation):
            self.by_name[operation._schema.name] += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, results)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return results

    @property
    def total(self) -> int:
        return sum(self.by_name.values())


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeTensorMode]:
    """Tensors that are made here have no data, and their device is taken for a GPU with plenty of memory."""
    patches = ((memory, "kind_of", "cuda"), (memory, "free_memory", FREE_ON_A_GPU), (optim, "_on_cuda", True))
    with contextlib.ExitStack() as stack:
        for module, name, value in patches:
            stack.enter_context(mock.patch.object(module, name, lambda _, value=value: value))
        # Constants of this context and of others must not meet.
        stack.callback(constants.forget)
        constants.forget()
        yield stack.enter_context(FakeTensorMode())


def without_data(owner: Any, mode: FakeTensorMode, device: str = "cpu") -> Any:
    """A module, or another object with tensors and modules, whose tensors now have no data.

    Those that were not on the CPU, such as on `meta`, are on `device`, which need not exist.
    """
    made: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            with mode:
                place = "cpu" if tensor.device.type == "cpu" else device
                empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=place)
                is_parameter = isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
        return made[id(tensor)]

    modules = [value for value in (owner, *vars(owner).values()) if isinstance(value, nn.Module)]
    for part in dict.fromkeys([owner, *(part for module in modules for part in module.modules())]):
        for members in (vars(part), vars(part).get("_parameters", {}), vars(part).get("_buffers", {})):
            for name, value in list(members.items()):
                if isinstance(value, torch.Tensor):
                    members[name] = fake(value)
    return owner
