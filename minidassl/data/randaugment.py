"""RandAugment (Cubuk et al., arXiv 1909.13719) with upstream's sixteen operations and strengths.

Draws from Python's and NumPy's global generators in upstream's order, so equal seeds give equal images. Difference
from upstream: one operation does not fail on current NumPy.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

STRONGEST = 30
SOLARIZE_THRESHOLD = 128
GREY = (125, 123, 114)  # of the square that is cut out

Operation = Callable[[Image.Image, float], Image.Image]


def _either_way(strength: float) -> float:
    return -strength if random.random() > 0.5 else strength


def _shifted(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _enhanced(kind: type) -> Operation:
    return lambda image, strength: kind(image).enhance(strength)


def _solarize_add(image: Image.Image, addition: float) -> Image.Image:
    brighter = np.clip(np.asarray(image).astype(int) + addition, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), SOLARIZE_THRESHOLD)


def _cut_out(image: Image.Image, side: float) -> Image.Image:
    width, height = image.size
    x, y = np.random.uniform(width), np.random.uniform(height)
    left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
    image = image.copy()
    ImageDraw.Draw(image).rectangle((left, top, min(width, left + side), min(height, top + side)), GREY)
    return image


# Operation, and its argument at strength 0 and at the strongest: degrees, bits, grey levels, factors or pixels.
OPERATIONS: tuple[tuple[Operation, float, float], ...] = (
    (lambda image, _: ImageOps.autocontrast(image), 0, 1),
    (lambda image, _: ImageOps.equalize(image), 0, 1),
    (lambda image, _: ImageOps.invert(image), 0, 1),
    (lambda image, degrees: image.rotate(_either_way(degrees)), 0, 30),
    (lambda image, bits: ImageOps.posterize(image, int(bits)), 4, 8),
    (ImageOps.solarize, 0, 256),
    (_solarize_add, 0, 110),
    (_enhanced(ImageEnhance.Color), 0.1, 1.9),
    (_enhanced(ImageEnhance.Contrast), 0.1, 1.9),
    (_enhanced(ImageEnhance.Brightness), 0.1, 1.9),
    (_enhanced(ImageEnhance.Sharpness), 0.1, 1.9),
    (lambda image, slope: _shifted(image, (1, _either_way(slope), 0, 0, 1, 0)), 0, 0.3),
    (lambda image, slope: _shifted(image, (1, 0, 0, _either_way(slope), 1, 0)), 0, 0.3),
    (_cut_out, 0, 40),
    (lambda image, pixels: _shifted(image, (1, 0, _either_way(pixels), 0, 1, 0)), 0, 100),
    (lambda image, pixels: _shifted(image, (1, 0, 0, 0, 1, _either_way(pixels))), 0, 100),
)


class RandAugment:
    """Apply `number` operations, drawn with replacement, at one strength from 0 to 30."""

    def __init__(self, number: int, strength: int) -> None:
        if not 0 <= strength <= STRONGEST:
            raise ValueError(f"INPUT.RANDAUGMENT_M is {strength}, set it to 0..{STRONGEST}")
        self.number = number
        self.strength = strength

    def __call__(self, image: Image.Image) -> Image.Image:
        """Map an RGB image to one of the same size."""
        for operation, least, most in random.choices(OPERATIONS, k=self.number):
            image = operation(image, self.strength / STRONGEST * (most - least) + least)
        return image
