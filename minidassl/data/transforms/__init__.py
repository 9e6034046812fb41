"""Image transforms chosen by name."""

from .transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform, interpolation_mode

__all__ = ["AVAI_CHOICES", "INTERPOLATION_MODES", "build_transform", "interpolation_mode"]
