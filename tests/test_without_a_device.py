"""What a GPU would refuse or wait for, found without one: PyTorch's fake tensors carry a CUDA device on any machine.

Every method and objective in every precision that differs for it, with all activations held or some recomputed, in
training and testing. Forward passes run on a fake `cuda` device, where PyTorch itself refuses tensors of several
devices, and reading a value on the host (`item`, `tolist`, `nonzero`). Backward passes need a device, so whole steps
run on a fake CPU that counts as a GPU.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from conftest import CLASSNAMES, make_clip
from helpers.steps import OBJECTIVES, Step, make_step
from test_cuda import LEARNERS as DEEPER
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.tools.launches import fake_gpu
from trainers.prompting.core.clip_weights import PRECISIONS
from trainers.prompting.objectives.decomposition import Decomposition

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


def within_two_layers(value: object) -> object:
    """A setting of depth, or of layers, as deep as the CLIP here."""
    if isinstance(value, tuple):
        return tuple(sorted({min(one, 2) for one in value}))
    return min(value, 2) if isinstance(value, int) else value


LEARNERS = {
    label: (name, {key: within_two_layers(value) for key, value in settings.items()})
    for label, (name, settings) in DEEPER.items()
}
# One of each kind goes through every precision with all activations held and with some recomputed (chunks of classes);
# the others through every precision, and the mixed ones, bf16 and amp, one this way and one that way.
OF_EACH_KIND = ("CoOp", "CoCoOp", "BMIP")
CHUNK_OF = {"fp32": 0, "bf16": 3, "fp16": 3, "amp": 0}
# Operations whose floating-point arguments must have one type on CUDA.
OF_ONE_TYPE = ("mm", "addmm", "bmm", "baddbmm", "convolution", "native_layer_norm", "silu_backward", "embedding")


class AsOnADevice(TorchDispatchMode):
    """A context in which every tensor must be on `device`, and products and norms have arguments of one type."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        for tensor in [*given, *(leaf for leaf in tree_leaves(results) if isinstance(leaf, torch.Tensor))]:
            assert tensor.device.type == self.device, f"{operation} has a tensor on the {tensor.device}"
        name = operation._schema.name.removeprefix("aten::")
        if name in OF_ONE_TYPE or ("scaled_dot_product" in name and "backward" not in name):
            kinds = {tensor.dtype for tensor in given if tensor.is_floating_point()}
            assert len(kinds) <= 1, f"{name} of {kinds}"
        return results


def run_without_data(step: Step) -> None:
    with fake_gpu() as mode:
        step.forget_data(mode, "cuda")
        step.plan()
        with AsOnADevice("cuda"):
            logits = step.test()
            loss = step.loss() if step.parameters else None
    assert logits.dtype == torch.float32 and logits.shape == (step.batch, len(CLASSNAMES))
    if loss is None:
        return
    assert loss.dtype == torch.float32 and loss.requires_grad
    with fake_gpu() as mode:
        step.forget_data(mode, "cpu")
        step.plan()
        with AsOnADevice("cpu"):
            step.train()
    trained = [parameter for parameter in step.parameters if parameter.grad is not None]
    assert len(trained) == len(step.parameters) * (0.5 if isinstance(step.objective, Decomposition) else 1)
    for parameter in trained:
        assert parameter.grad.shape == parameter.shape and parameter.grad.dtype == torch.float32


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    return make_clip(vision_layers=2, transformer_layers=2)


@pytest.mark.parametrize(
    "name, precision, chunk",
    [
        (name, precision, chunk)
        for name, precision, chunk in product(LEARNERS, PRECISIONS, (0, 3))
        if name in OF_EACH_KIND or CHUNK_OF[precision] == chunk
    ],
    ids=lambda value: {0: "all held", 3: "chunked"}.get(value, value),
)
def test_a_method_needs_nothing_of_the_host(small, name, precision, chunk):
    run_without_data(make_step(small, *LEARNERS[name], precision=precision, chunk=chunk, batch=2))


# Cross-entropy is their own, and ProDA's objective needs its prompts: see above. bf16 differs from amp by its type and
# the scaler of gradients alone.
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "bf16"])
@pytest.mark.parametrize("objective", sorted(OBJECTIVES.keys() - {"cross_entropy", "prompt_distribution"}))
@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_an_objective_needs_nothing_of_the_host(small, name, objective, precision):
    run_without_data(make_step(small, *LEARNERS[name], objective=objective, precision=precision, batch=2))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_second_stage_of_decoop_needs_nothing_of_the_host(small, precision):
    objective = "decomposition of sub-classifiers"
    run_without_data(make_step(small, "DeCoOp", {}, objective=objective, precision=precision, batch=2))


def test_faults_are_found():
    with fake_gpu():
        on_device, half = torch.ones(2, 2, device="cuda"), torch.ones(2, 2, device="cuda", dtype=torch.float16)
        with pytest.raises(DataDependentOutputException):
            on_device.sum().item()
        with AsOnADevice("cuda"):
            with pytest.raises(AssertionError, match="a tensor on the cpu"):
                on_device[torch.tensor([0])]
            with pytest.raises((AssertionError, RuntimeError)):
                on_device @ half
            with pytest.raises((AssertionError, RuntimeError)):
                torch.nn.functional.layer_norm(half, (2,), on_device[0])
