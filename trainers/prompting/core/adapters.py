"""Trained adapters in a frozen CLIP: after a tower, and beside the blocks of both.

The first are CoPrompt's (arXiv 2306.01195), after Gao et al. (arXiv 2110.04544); the second those of Yang et al.,
"MMA: Multi-Modal Adapter for Vision-Language Models", CVPR 2024.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTION = 4  # of the width, in the middle of an adapter


class FeatureAdapter(nn.Module):
    """`share` times a two-layer network's output, plus `1 - share` times the features.

    Args:
        width: of the features.
        share: between 0 and 1.
    """

    def __init__(self, width: int, share: float):
        super().__init__()
        self.share = share
        self.layers = nn.Sequential(
            nn.Linear(width, width // REDUCTION, bias=False),
            nn.ReLU(),
            nn.Linear(width // REDUCTION, width, bias=False),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map `[..., width]` to the same shape."""
        return self.share * self.layers(features) + (1 - self.share) * features


class BlockAdapters(nn.Module):
    """Bottlenecks beside blocks of both towers; those of a layer share their middle.

    Weights start from a normal distribution with the variance 2 / outputs (He et al., arXiv 1502.01852, for the
    backward pass), biases from 0.

    Args:
        layers: from 0.
        widths: of each tower, by its name.
        hidden: width of the middles.
        scale: of what is added, in the forward pass. The gradients of the adapters are those of scale 1; those of the
            layers below are exact.

    Attributes:
        down, up: of each tower, by layer: from its width to the middle, and back.
        shared: by layer, of the middle.
    """

    def __init__(self, layers: Iterable[int], widths: Mapping[str, int], hidden: int, scale: float):
        super().__init__()
        self.scale, self.layers = scale, tuple(layers)

        def by_layer(inputs: int, outputs: int) -> nn.ModuleDict:
            return nn.ModuleDict({str(layer): _linear(inputs, outputs) for layer in self.layers})

        self.down = nn.ModuleDict({tower: by_layer(width, hidden) for tower, width in widths.items()})
        self.up = nn.ModuleDict({tower: by_layer(hidden, width) for tower, width in widths.items()})
        self.shared = by_layer(hidden, hidden)

    def of(self, tower: str) -> dict[int, Callable[[Tensor], Tensor]]:
        """The adapters of a tower, by layer: from `[..., width]` to the same shape and type."""

        def adapter(layer: int) -> Callable[[Tensor], Tensor]:
            parts = (part[str(layer)] for part in (self.down[tower], self.shared, self.up[tower]))
            return functools.partial(bottleneck, *parts, scale=self.scale)

        return {layer: adapter(layer) for layer in self.layers}


def bottleneck(down: nn.Linear, middle: nn.Linear, up: nn.Linear, tokens: Tensor, scale: float) -> Tensor:
    """`scale * up(relu(middle(relu(down(x)))))`, in the type of the tokens `[..., width]`.

    The parts' gradients are as if `scale` were 1, and the tokens' the true ones.
    """
    hidden = torch.relu(_applied(down, _Scaled.apply(tokens, 1.0, scale)))
    return _Scaled.apply(_applied(up, torch.relu(_applied(middle, hidden))), scale, 1.0)


def _applied(linear: nn.Linear, tokens: Tensor) -> Tensor:
    return F.linear(tokens, linear.weight.to(tokens.dtype), linear.bias.to(tokens.dtype))


class _Scaled(torch.autograd.Function):
    """A tensor times one number, whose gradient is taken times another."""

    @staticmethod
    def forward(ctx, tensor: Tensor, forwards: float, backwards: float) -> Tensor:
        ctx.scale = backwards
        return tensor.view_as(tensor) if forwards == 1 else tensor * forwards

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient if ctx.scale == 1 else gradient * ctx.scale, None, None


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return linear
