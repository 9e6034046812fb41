"""Residual adapters of features (Gao et al., arXiv 2110.04544), one for each tower in CoPrompt (arXiv 2306.01195)."""

from __future__ import annotations

from torch import Tensor, nn

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
