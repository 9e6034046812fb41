"""CLIP's input from images of any kind: files, PIL images, arrays and tensors, and folders named after classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minidassl.own.image_cache import SUFFIXES, UnreadableImage, check_image, fault, is_image, read_image, to_rgb

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from ..core.design import Images
from ..errors import InputError

KINDS = "a path, a PIL image, a uint8 array [height, width(, 3)], or a tensor [3, height, width]"


def open_image(image: Any, number: int | None = None) -> Image.Image:
    """Decode an image as RGB.

    Args:
        image: a path; a PIL image; an array `[height, width]` or `[height, width, 3]` of uint8; or a tensor
            `[3, height, width]` of uint8, or of floats from 0 to 1.
        number: its place in a list, from 0, for messages.

    Raises:
        InputError: it cannot be read, or is of another kind; the message names the path or the number.
    """
    if isinstance(image, (str, os.PathLike)):
        return _read(image)
    name = "The image" if number is None else f"Image {number}"
    if isinstance(image, Image.Image):
        try:
            check_image(image)
            return to_rgb(image)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes an image when it is first used
            raise InputError(f"{name} cannot be used: {'; '.join(fault(error))}.") from error
    if isinstance(image, (np.ndarray, Tensor)) and 0 in image.shape:
        raise InputError(f"{name} has no pixels: it is {list(image.shape)}; give {KINDS}.")
    if isinstance(image, Tensor) and image.dim() == 3 and image.shape[0] == 3:
        if image.is_floating_point():
            if not (image.min() >= 0 and image.max() <= 1):
                raise InputError(
                    f"{name} is a tensor with values from {image.min():.3g} to {image.max():.3g}; give floats from 0 "
                    "to 1, before any normalisation, or uint8."
                )
            image = (255 * image.detach().cpu().float()).round().to(torch.uint8)
        image = image.cpu().permute(1, 2, 0).numpy()
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name} is a {type(image).__name__}; give {KINDS}.")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(f"{name} is an array {list(image.shape)} of {image.dtype}; give {KINDS}.")
    return Image.fromarray(image).convert("RGB")


def _read(path: str | os.PathLike[str], size_only: bool = False) -> Any:
    """`read_image` of the trainers; raises InputError if it cannot be read."""
    try:
        return read_image(path, size_only)
    except FileNotFoundError as error:
        raise InputError(f"There is no image {str(path)!r}; check the path.") from error
    except UnreadableImage as error:
        raise InputError(f"The image {str(path)!r} cannot be read: {error.reason}; {error.remedy}.") from error


def list_of(images: Any) -> list[Any]:
    """Any sequence of images as a list, whose files are opened but not decoded.

    Raises:
        InputError: it is a single image or has no length, or a file is missing or no usable image.
    """
    single = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3
    single = single or (isinstance(images, Tensor) and images.dim() == 3)
    if single or isinstance(images, (str, os.PathLike, Image.Image)) or not hasattr(images, "__len__"):
        raise InputError(f"images is a {type(images).__name__}; give a list of images, be it one of a single image.")
    listed = list(images)
    for image in listed:
        if isinstance(image, (str, os.PathLike)):
            _read(image, size_only=True)
    return listed


def evaluation_transform(images: Images | int) -> Callable[[Image.Image], Tensor]:
    """CLIP's preprocessing: resize the shorter side, crop the centre; to a tensor `[3, side, side]`.

    Args:
        images: how a backbone wants them (`images_of`); a number is the side of OpenAI's.
    """
    images = _images(images)
    resize = T.Resize(images.side, InterpolationMode(images.interpolation))
    return T.Compose([resize, T.CenterCrop(images.side), *_tensor_steps(images)])


def training_transform(
    images: Images | int, scale: tuple[float, float], flip: bool
) -> Callable[[Image.Image], Tensor]:
    """The augmentation of the field, crops of a share of the area and mirror images; to a tensor `[3, side, side]`.

    Args:
        images: see `evaluation_transform`.
    """
    images = _images(images)
    crop = T.RandomResizedCrop(images.side, scale=scale, interpolation=InterpolationMode(images.interpolation))
    return T.Compose([crop, *([T.RandomHorizontalFlip()] if flip else []), *_tensor_steps(images)])


def _images(images: Images | int) -> Images:
    return Images(images) if isinstance(images, int) else images


def _tensor_steps(images: Images) -> tuple[Callable, Callable]:
    return T.ToTensor(), T.Normalize(images.mean, images.std)


class TransformedImages(Dataset):
    """Images as tensors `[3, height, width]`, each with its label."""

    def __init__(self, images: Sequence[Any], transform: Callable, labels: Sequence[int]):
        self.images, self.transform, self.labels = images, transform, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(open_image(self.images[index], index)), self.labels[index]


def read_image_folder(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Paths and class names from a folder with one folder per class, which has images at any depth.

    Classes and files are sorted by name; hidden entries and files without an image suffix do not count.

    Raises:
        InputError: there is no such folder, it has no folders, or one of them has no image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"There is no folder {str(folder)!r}; check the path.")
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InputError(f"The folder {str(folder)!r} has no folders; it needs one of images for each class.")
    images, labels = [], []
    for entry in classes:
        files = list_images(entry)
        if not files:
            raise InputError(
                f"The folder {str(entry)!r} has no images ({', '.join(sorted(SUFFIXES))}); put those of this class "
                "into it, or move it elsewhere."
            )
        images += files
        labels += [entry.name] * len(files)
    return images, labels


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Sorted paths of all files with an image suffix, at any depth below a folder; hidden ones do not count."""
    root = Path(folder)
    found = (path for path in root.rglob("*") if is_image(path) and path.is_file())
    return sorted(
        str(path) for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
