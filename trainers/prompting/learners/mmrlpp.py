"""MMRL++: MMRL whose maps share a matrix in each tower, and whose tokens go on from layer to layer.

Guo and Gu, "MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning for Vision-Language Models",
IJCV 2026, arXiv 2505.10088. What differs between a tower's maps is of low rank, and so is what the projection of the
second image feature adds to CLIP's own. From the second of its layers on, the tokens are mixed with what the layer
before left in the slots.

Differences from the authors' code are those of `mmrl.py`. In tests of transfer, theirs takes another share of the new
tokens for each target than in training; here a test takes that of the training, unless it is told otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.layout import PublishedLayout
from ..core.learner import Readout
from ..declaration import setting
from .mmrl import CLASS_TOKENS, MODALITIES, MMRLConfig, MMRLLearner

MOST_RANK = 10_000


def _rank(name: str):
    """Reads the number of columns of a tensor off a checkpoint."""
    return lambda state_dict: state_dict[name].shape[1] if name in state_dict else 0


@dataclass(frozen=True)
class MMRLppConfig(MMRLConfig):
    """MMRL's settings, and those of the ranks and of the mixture."""

    new_share: float = setting(
        0.9,
        "BETA",
        "share of the layer's own tokens in its slots; the rest is what the layer before left in them",
        least=0.0,
        most=1.0,
    )
    rank: int = setting(
        4,
        "RES_LORA_DIM",
        "rank of what a layer's map adds to the shared one",
        least=1,
        most=MOST_RANK,
        told_by=_rank("text_maps.layers.0.down"),
    )
    projection_rank: int = setting(
        64,
        "PROJ_LORA_DIM",
        "rank of what the second projection adds to CLIP's",
        least=1,
        most=MOST_RANK,
        told_by=_rank("projection_down"),
    )


class ResidualMap(nn.Module):
    """A linear map whose matrix is one that it shares, plus a product of low rank, which starts as zero.

    Args:
        shared: the map with the shared matrix, which a module above holds, and the start of the bias.
        rank: of the product.

    Attributes:
        down: `[outputs, rank]`. up: `[rank, inputs]`. bias: `[outputs]`.
    """

    def __init__(self, shared: nn.Linear, rank: int):
        super().__init__()
        outputs, inputs = shared.weight.shape
        self.down, self.up = low_rank(outputs, inputs, rank)
        self.bias = nn.Parameter(shared.bias.detach().clone())

    def forward(self, weight: Tensor, tokens: Tensor) -> Tensor:
        """Map `[..., inputs]` to `[..., outputs]`, given the shared matrix."""
        return F.linear(tokens, weight + self.down @ self.up, self.bias)


class SharedMaps(nn.Module):
    """The maps of a tower.

    Attributes:
        weight: the shared matrix, `[outputs, inputs]`.
        layers: a `ResidualMap` for each layer.
    """

    def __init__(self, inputs: int, outputs: int, layers: int, rank: int):
        super().__init__()
        first = nn.Linear(inputs, outputs)
        self.weight = nn.Parameter(first.weight.detach().clone())
        self.layers = nn.ModuleList(ResidualMap(first, rank) for _ in range(layers))

    def __getitem__(self, number: int) -> Callable[[Tensor], Tensor]:
        return functools.partial(self.layers[number], self.weight)


def low_rank(outputs: int, inputs: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Factors `[outputs, rank]` and `[rank, inputs]`, the first uniform up to 1 / sqrt(rank), the second zero."""
    down = torch.empty(outputs, rank).uniform_(-(rank**-0.5), rank**-0.5)
    return nn.Parameter(down), nn.Parameter(torch.zeros(rank, inputs))


class MMRLppLearner(MMRLLearner):
    """The space's tokens, the maps to the layers of each tower, and what the second projection adds to CLIP's.

    Attributes:
        shared_tokens: `[b, r]`.
        text_maps, vision_maps: from r to the tower's width.
        projection_down, projection_up: `[d_v, rank]` and `[rank, embed]`.

    Raises:
        InputError: a layer beyond the towers.
    """

    recordable = True

    def maps(self, width: int) -> SharedMaps:
        return SharedMaps(self.config.width, width, len(self.config.layers), self.config.rank)

    def add_projection(self, width: int, embed: int) -> None:
        self.projection_down, self.projection_up = low_rank(width, embed, self.config.projection_rank)

    def slot_projection(self, projection: Tensor) -> Tensor:
        return projection.to(self.projection_up.dtype) + self.projection_down @ self.projection_up

    def entering(self, tokens: Tensor, readout: Readout) -> Tensor:
        """The tokens, but for the first layer mixed with what is left, `[b, width]` or `[batch, b, width]`."""
        if readout.left is None:
            return tokens
        share = self.config.new_share
        return share * tokens + (1 - share) * readout.left()


FACTORS = {"A": "down", "B": "up"}


def _renamed(tower: str, layer: str, part: str) -> str:
    return f"{MODALITIES[tower]}_maps.layers.{layer}.{FACTORS.get(part, part)}"


LAYOUT = PublishedLayout(
    renames=(
        (r"representation_learner\.compound_rep_tokens", lambda: "shared_tokens"),
        (r"representation_learner\.srra_r2([tv])proj\.weight", lambda tower: f"{MODALITIES[tower]}_maps.weight"),
        (r"representation_learner\.srra_r2([tv])proj\.srra\.(\d+)\.(A|B|bias)", _renamed),
        (r"image_encoder\.([AB])", lambda part: f"projection_{FACTORS[part]}"),
    ),
    marker=r"representation_learner\.srra_r2vproj\..+",
    unused=CLASS_TOKENS,
)
