"""Image transforms, chosen by name in ``INPUT.TRANSFORMS`` and applied in a fixed order.

Differences from upstream: only the transforms that the supported projects configure; an unknown name is an error that
lists the known ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from .randaugment import RandAugment

if TYPE_CHECKING:
    from PIL.Image import Image
    from yacs.config import CfgNode

TRANSFORMS = ("random_resized_crop", "random_flip", "randaugment", "normalize")

INTERPOLATION_MODES = ("bilinear", "bicubic", "nearest")


def build_transform(cfg: CfgNode, is_train: bool = True) -> Callable[[Image], torch.Tensor]:
    """Build the transform that ``cfg.INPUT`` describes, from a PIL image to a float tensor [3, height, width].

    It prints its steps. Evaluation resizes the shorter side, crops the centre, and normalises. An unknown transform or
    interpolation is a ``ValueError``.
    """
    opts = cfg.INPUT
    for name in opts.TRANSFORMS:
        if name not in TRANSFORMS:
            raise ValueError(f"INPUT.TRANSFORMS contains {name!r}; choose from {', '.join(TRANSFORMS)}")
    if opts.INTERPOLATION not in INTERPOLATION_MODES:
        raise ValueError(f"INPUT.INTERPOLATION is {opts.INTERPOLATION!r}, choose one of {list(INTERPOLATION_MODES)}")
    print(f"Building transform_{'train' if is_train else 'test'}")
    mode, size = InterpolationMode(opts.INTERPOLATION), opts.SIZE
    if not is_train:
        steps = [
            (f"resize the smaller edge to {max(size)}", T.Resize(max(size), interpolation=mode)),
            (f"{size[0]}x{size[1]} center crop", T.CenterCrop(size)),
        ]
    elif "random_resized_crop" in opts.TRANSFORMS:
        crop = T.RandomResizedCrop(size, scale=opts.RRCROP_SCALE, interpolation=mode)
        steps = [(f"random resized crop (size={size}, scale={opts.RRCROP_SCALE})", crop)]
    else:
        steps = [(f"resize to {size[0]}x{size[1]}", T.Resize(size, interpolation=mode))]
    if is_train and "random_flip" in opts.TRANSFORMS:
        steps.append(("random flip", T.RandomHorizontalFlip()))
    if is_train and "randaugment" in opts.TRANSFORMS:
        number, strength = opts.RANDAUGMENT_N, opts.RANDAUGMENT_M
        steps.append((f"randaugment (n={number}, m={strength})", RandAugment(number, strength)))
    steps.append(("to torch tensor of range [0, 1]", T.ToTensor()))
    if "normalize" in opts.TRANSFORMS:
        normalize = T.Normalize(mean=opts.PIXEL_MEAN, std=opts.PIXEL_STD)
        steps.append((f"normalization (mean={opts.PIXEL_MEAN}, std={opts.PIXEL_STD})", normalize))
    for description, _ in steps:
        print(f"+ {description}")
    return T.Compose([transform for _, transform in steps])
