"""Image transforms chosen by name."""

from .transforms import TRANSFORMS, build_transform

__all__ = ["TRANSFORMS", "build_transform"]
