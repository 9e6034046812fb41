"""Work on a CUDA device that is recorded once, and launched as one from then on (`torch.cuda.CUDAGraph`).

A step of a few images and classes keeps a GPU busy for less time than the host takes to launch its thousand kernels. A
recording launches them as one: the same kernels on the same memory, hence the same bits. `torch.compile` with its own
graphs would fuse kernels, too, but rounds otherwise, and compiles for minutes for every number of classes.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Hashable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

AUTO, ON, OFF = MODES = ("auto", "on", "off")
WARM_UP = 3  # calls before the recording: the libraries' handles, their choices of kernels, constants of a shape
IN_A_ROW = 4  # batches of one shape after which a test is recorded, which takes about as long as they


@functools.cache
def _stream(device: torch.device, use: str) -> torch.cuda.Stream:
    """One for each use: the libraries keep a workspace for every stream that they have seen."""
    return torch.cuda.Stream(device)


class Branch:
    """A context for work that a replay runs beside the work since the branch was made.

        branch = Branch(device)
        one = ...
        with branch:
            other = ...  # reads nothing of `one`
        both = one + other

    Their backward passes run side by side, too. The order of the program, hence that of sums of gradients, stays the
    same. Outside of a recording it does nothing, because there the host is too slow to fill two streams.
    """

    def __init__(self, device: torch.device):
        self.is_recorded = Recording.is_under_way
        if self.is_recorded:
            self.stream = _stream(device, "branch")
            self.stream.wait_stream(torch.cuda.current_stream())

    def __enter__(self) -> None:
        self.context = torch.cuda.stream(self.stream) if self.is_recorded else contextlib.nullcontext()
        self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)
        if self.is_recorded:
            torch.cuda.current_stream().wait_stream(self.stream)


class NotRecorded(RuntimeError):
    """Work that PyTorch refuses to record; the message says why."""


class Recording:
    """A function of tensors and the gradients that it computes, recorded for the shapes of some inputs.

    Each call copies its inputs to where the recording reads them. Whatever else the function reads must stay where it
    is: it may be written to, not replaced. What is no tensor keeps its value of the recording.

    Args:
        work: the function; it computes the gradients of `parameters` anew, changes nothing else, and returns one
            tensor. It runs some times without being recorded first.
        parameters: frozen ones among them have no gradient.
        inputs: of the function, on the device.
        observed: entries that the function leaves for readers, whose tensors a replay computes again; a call puts its
            own back, in place of those of another pass.

    Raises:
        NotRecorded: some of the work cannot be recorded, such as reading a value on the host.
    """

    is_under_way = False  # for `Branch`

    def __init__(
        self,
        work: Callable[..., Tensor],
        parameters: Sequence[nn.Parameter],
        inputs: Sequence[Tensor],
        observed: MutableMapping[str, Any],
    ):
        self.parameters = list(parameters)
        self.inputs = [given.clone() for given in inputs]
        device = self.inputs[0].device
        with torch.cuda.device(device):
            # PyTorch asks for a stream of its own: a recording's memory starts from blocks that nothing waits for.
            before, stream = torch.cuda.current_stream(), _stream(device, "recording")
            stream.wait_stream(before)
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._clear()
                    work(*self.inputs)
            before.wait_stream(stream)
            self._clear()
            others = dict(observed)
            observed.clear()
            self.graph = torch.cuda.CUDAGraph()
            try:
                self.result = self._recorded(work, stream)
            except RuntimeError as error:
                # The end of a recording that failed raises another error, and leaves its stream in place, and a
                # generator that refuses to draw.
                torch.cuda.set_stream(before)
                generator = torch.cuda.default_generators[torch.cuda.current_device()]
                generator.graphsafe_set_state(generator.clone_state())
                self._clear()
                cause: BaseException = error
                while cause.__context__ is not None:
                    cause = cause.__context__
                raise NotRecorded(str(cause).partition("\n")[0]) from error
            finally:
                self.shown, self.observed = observed, dict(observed)
                observed.update({**others, **self.observed})
        self.gradients = [parameter.grad for parameter in self.parameters]

    def _recorded(self, work: Callable[..., Tensor], stream: torch.cuda.Stream) -> Tensor:
        with warnings.catch_warnings():
            # Prompts that serve both towers get gradients from two streams, which wait for each other.
            warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
            # Other threads go on calling CUDA, such as the one that pins the next batch.
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                Recording.is_under_way = True
                try:
                    return work(*self.inputs)
                finally:
                    Recording.is_under_way = False

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether it was recorded for the shapes of these inputs."""
        return [given.shape for given in inputs] == [recorded.shape for recorded in self.inputs]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result; the gradients stay valid until the next call."""
        for recorded, given in zip(self.inputs, inputs):
            recorded.copy_(given, non_blocking=True)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        self.shown.update(self.observed)
        return self.result.clone()

    def _clear(self) -> None:
        """Let the backward pass allocate the gradients: those of the recording stay where it writes them."""
        for parameter in self.parameters:
            parameter.grad = None


class RecordedTests:
    """A function without gradients, recorded after some batches of the same shape; a copy of it has no recording."""

    def __init__(self) -> None:
        self.is_possible = True
        self.forget()

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordedTests, ()

    def forget(self) -> None:
        """Give the memory of the recording back."""
        self.recording: Recording | None = None
        self.recorded_for: Hashable = None
        self.last: Hashable = None
        self.in_a_row = 0

    def __call__(
        self,
        work: Callable[[Tensor], Tensor],
        images: Tensor,
        place: Hashable,
        observed: MutableMapping[str, Any],
    ) -> Tensor:
        """The function's result.

        Args:
            place: addresses of the tensors that it reads.
            observed: as in `Recording`.
        """
        key = place, images.shape, images.dtype
        if self.recording is not None and key == self.recorded_for:
            return self.recording(images)
        self.in_a_row = self.in_a_row + 1 if key == self.last else 1
        self.last = key
        if self.in_a_row > IN_A_ROW and self.is_possible:
            try:
                # A test may be in inference mode, whose tensors a later one could not write to.
                with torch.inference_mode(False), torch.no_grad():
                    self.recording, self.recorded_for = Recording(work, (), (images,), observed), key
                return self.recording(images)
            except NotRecorded as error:
                self.is_possible = False
                print(f"Tests are not recorded as a CUDA graph: {error}")
        return work(images)
