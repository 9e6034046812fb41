"""Image transforms, chosen by name in ``INPUT.TRANSFORMS`` and applied in an order that this module fixes.

Differences from upstream: the AutoAugment policies and two of the three RandAugments are absent, and an unknown name
is an error that lists the known ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from .randaugment import RandAugment

if TYPE_CHECKING:
    from PIL.Image import Image
    from yacs.config import CfgNode

AVAI_CHOICES = [
    "random_translation",
    "random_crop",
    "random_resized_crop",
    "random_flip",
    "randaugment",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
    "cutout",
    "normalize",
    "gaussian_noise",
    "instance_norm",
    "center_crop",  # accepted for old files; evaluation crops always, training never
]

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """The torchvision mode that ``cfg.INPUT.INTERPOLATION`` names; ``ValueError`` for an unknown name."""
    name = cfg.INPUT.INTERPOLATION
    if name not in INTERPOLATION_MODES:
        raise ValueError(f"INPUT.INTERPOLATION is {name!r}, choose one of {list(INTERPOLATION_MODES)}")
    return INTERPOLATION_MODES[name]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Image], torch.Tensor] | None:
    """Build the transform for training or evaluation, and print its steps.

    Args:
        cfg: the ``INPUT`` node is read.
        is_train: training transform; otherwise resize the shorter side, crop the centre, and normalise.
        choices: names used in place of ``INPUT.TRANSFORMS``.

    Returns:
        A function from a PIL image to a float tensor [3, height, width]; ``None`` under ``INPUT.NO_TRANSFORM``.

    Raises:
        ValueError: an unknown transform or interpolation.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    chosen = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for name in chosen:
        if name not in AVAI_CHOICES:
            raise ValueError(f"INPUT.TRANSFORMS contains {name!r}, choose from {AVAI_CHOICES}")
    print(f"Building transform_{'train' if is_train else 'test'}")
    steps = _train_steps(cfg.INPUT, chosen, interpolation_mode(cfg)) if is_train else _test_steps(cfg, chosen)
    steps += _tensor_steps(cfg.INPUT, chosen, augment=is_train)
    for description, _ in steps:
        print(f"+ {description}")
    return T.Compose([transform for _, transform in steps])


def _train_steps(opts: CfgNode, chosen: list[str], mode: InterpolationMode) -> list[tuple[str, Callable]]:
    """Steps on the PIL image."""
    size = opts.SIZE
    steps = []
    if "random_crop" not in chosen and "random_resized_crop" not in chosen:
        steps.append((f"resize to {size[0]}x{size[1]}", T.Resize(size, interpolation=mode)))
    if "random_translation" in chosen:
        steps.append(("random translation", RandomTranslation(size)))
    if "random_crop" in chosen:
        crop = T.RandomCrop(size, padding=opts.CROP_PADDING)
        steps.append((f"random crop (padding = {opts.CROP_PADDING})", crop))
    if "random_resized_crop" in chosen:
        crop = T.RandomResizedCrop(size, scale=opts.RRCROP_SCALE, interpolation=mode)
        steps.append((f"random resized crop (size={size}, scale={opts.RRCROP_SCALE})", crop))
    if "random_flip" in chosen:
        steps.append(("random flip", T.RandomHorizontalFlip()))
    if "randaugment" in chosen:
        number, strength = opts.RANDAUGMENT_N, opts.RANDAUGMENT_M
        steps.append((f"randaugment (n={number}, m={strength})", RandAugment(number, strength)))
    if "colorjitter" in chosen:
        strengths = {
            "brightness": opts.COLORJITTER_B,
            "contrast": opts.COLORJITTER_C,
            "saturation": opts.COLORJITTER_S,
            "hue": opts.COLORJITTER_H,
        }
        shown = ", ".join(f"{name}={strength}" for name, strength in strengths.items())
        steps.append((f"color jitter ({shown})", T.ColorJitter(**strengths)))
    if "randomgrayscale" in chosen:
        steps.append(("random gray scale", T.RandomGrayscale(p=opts.RGS_P)))
    if "gaussian_blur" in chosen:
        blur = T.RandomApply([T.GaussianBlur(opts.GB_K)], p=opts.GB_P)
        steps.append((f"gaussian blur (kernel={opts.GB_K})", blur))
    return steps


def _test_steps(cfg: CfgNode, chosen: list[str]) -> list[tuple[str, Callable]]:
    """Steps on the PIL image."""
    size = cfg.INPUT.SIZE
    resize = T.Resize(max(size), interpolation=interpolation_mode(cfg))
    return [
        (f"resize the smaller edge to {max(size)}", resize),
        (f"{size[0]}x{size[1]} center crop", T.CenterCrop(size)),
    ]


def _tensor_steps(opts: CfgNode, chosen: list[str], augment: bool) -> list[tuple[str, Callable]]:
    """Conversion to a tensor, and steps on it."""
    steps = [("to torch tensor of range [0, 1]", T.ToTensor())]
    if augment and "cutout" in chosen:
        cutout = Cutout(opts.CUTOUT_N, opts.CUTOUT_LEN)
        steps.append((f"cutout (n_holes={opts.CUTOUT_N}, length={opts.CUTOUT_LEN})", cutout))
    if "normalize" in chosen:
        normalize = T.Normalize(mean=opts.PIXEL_MEAN, std=opts.PIXEL_STD)
        steps.append((f"normalization (mean={opts.PIXEL_MEAN}, std={opts.PIXEL_STD})", normalize))
    if augment and "gaussian_noise" in chosen:
        noise = GaussianNoise(opts.GN_MEAN, opts.GN_STD)
        steps.append((f"gaussian noise (mean={opts.GN_MEAN}, std={opts.GN_STD})", noise))
    if "instance_norm" in chosen:
        steps.append(("instance normalization", InstanceNorm()))
    return steps


class RandomTranslation:
    """With probability 0.5 enlarge to 9/8 of ``size`` and crop ``size`` at a random place, else resize to ``size``.

    Always bilinear. Draws from Python's global generator.

    Args:
        size: (height, width) of the result in pixels.
    """

    def __init__(self, size: Sequence[int]) -> None:
        self.size = list(size)

    def __call__(self, image: Image) -> Image:
        if random.uniform(0, 1) > 0.5:
            return F.resize(image, self.size)
        enlarged = [round(side * 1.125) for side in self.size]
        spare_height, spare_width = (large - side for large, side in zip(enlarged, self.size))
        left = round(random.uniform(0, spare_width))
        top = round(random.uniform(0, spare_height))
        return F.crop(F.resize(image, enlarged), top, left, *self.size)


class Cutout:
    """Set squares at uniformly drawn centres to zero; what sticks out of the image is cut off.

    Draws from NumPy's global generator.

    Args:
        n_holes: number of squares.
        length: their side in pixels, rounded down to an even number.
    """

    def __init__(self, n_holes: int, length: int) -> None:
        self.n_holes = n_holes
        self.half = length // 2

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Map [channels, height, width] to the same shape."""
        image = image.clone()
        height, width = image.shape[-2:]
        for _ in range(self.n_holes):
            row, column = np.random.randint(height), np.random.randint(width)
            rows = slice(max(row - self.half, 0), row + self.half)
            columns = slice(max(column - self.half, 0), column + self.half)
            image[:, rows, columns] = 0.0
        return image


class GaussianNoise:
    """With probability 0.5 add independent normal noise to every value.

    Args:
        mean: of the noise.
        std: of the noise.
    """

    def __init__(self, mean: float, std: float) -> None:
        self.mean = mean
        self.std = std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if random.uniform(0, 1) > 0.5:
            return image
        return image + (torch.randn(image.shape) * self.std + self.mean)


class InstanceNorm:
    """Give every channel of an image zero mean and unit standard deviation."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Map [channels, height, width] to the same shape."""
        mean = image.mean(dim=(1, 2), keepdim=True)
        std = image.std(dim=(1, 2), keepdim=True)
        return (image - mean) / (std + 1e-8)
