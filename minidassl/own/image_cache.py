"""Reading of images, and a cache of decoded ones, shared by the worker processes of a loader.

Upstream has none: every epoch reads and decodes every file again.
"""

from __future__ import annotations

import itertools
import mmap
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
from PIL import Image, UnidentifiedImageError

CHANNELS = 3
MOST_OF_FREE = 0.5
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
# ``check_image`` refuses what Pillow only warns of.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(OSError):
    """A missing or broken image, with the ``reason`` and the ``remedy``; the message has both, and the path.

    PyTorch wraps the error of a loader's worker by calling its class with the worker's whole traceback, of which only
    the message is kept.
    """

    def __init__(self, message: str, reason: str = "", remedy: str = "") -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())
        self.reason, self.remedy = reason, remedy


class MissingImage(UnreadableImage, FileNotFoundError): ...


class UnusableImage(ValueError):
    """A whole image that cannot be used; the message is "reason; remedy"."""


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as those of images do."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def read_image(path: str | os.PathLike[str], size_only: bool = False) -> Image.Image | tuple[int, int]:
    """Read an image as RGB, or only its width and height in pixels; an :class:`UnreadableImage` names the path."""
    try:
        with Image.open(path) as image:
            check_image(image)
            return image.size if size_only else to_rgb(image)
    except FileNotFoundError:
        reason, remedy = "it is not there", "check DATASET.ROOT and that the download is complete"
        raise MissingImage(f'No image at "{path}"; {remedy}', reason, remedy) from None
    except Exception as error:  # of many kinds, depending on the bytes
        reason, remedy = fault(error, path)
        text = f"{reason}; {remedy}, or leave out such images by DATASET.SKIP_BROKEN True"
        raise UnreadableImage(f'Cannot read the image "{path}": {text}', reason, remedy) from error


def fault(error: Exception, path: str | os.PathLike[str] = "") -> tuple[str, str]:
    """The reason of Pillow's error, or of :func:`check_image`, about an image, and the remedy."""
    if isinstance(error, UnusableImage):
        reason, _, remedy = str(error).partition("; ")
        return reason, remedy
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {Image.MAX_IMAGE_PIXELS} pixels", "make it smaller"
    if isinstance(error, UnidentifiedImageError):
        if os.path.getsize(path):
            return "no image in a format that Pillow reads", "replace it by the image, as a JPEG or PNG file"
        return "no image, since the file is empty", "copy or download it again"
    if isinstance(error, IsADirectoryError):
        return "it is a folder", "name the images in it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "check the permissions of the file and its folder, and the disk"
    return str(error) or type(error).__name__, "it is cut off or damaged: copy or download it again"


def check_image(image: Image.Image) -> None:
    """An :class:`UnusableImage` for one without pixels, of very many, or of values that 8 bits cannot hold."""
    width, height = image.size
    if 0 in image.size:
        raise UnusableImage(f"it has no pixels: it is {[width, height]}; replace it")
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise UnusableImage(f"it is {width} x {height}, more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller")
    if image.mode.startswith(("I", "F")) and not _has_16_bits(image):
        raise UnusableImage(
            f"it has 32 bits per pixel (Pillow's mode {image.mode}), in no known range; convert it to 8"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of 8 bits per channel. Grey levels of 16 bits lose the lower 8; Pillow would make all above 255 white."""
    if _has_16_bits(image):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _has_16_bits(image: Image.Image) -> bool:
    # PNG and PGM have no 32 bits, but Pillow may read their 16 as 32.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


class ImageCache:
    """RGB images, decoded at the first read by any process and then kept.

    The memory is an anonymous shared mapping: forked workers fill it for each other, and it does not count towards a
    container's ``/dev/shm``. A process that is not forked reads the files. ``sizes`` are in pixels, (width, height).
    """

    def __init__(self, paths: Sequence[str], sizes: Sequence[tuple[int, int]]) -> None:
        self.paths = list(paths)
        self.sizes = list(sizes)
        self.starts = [0, *itertools.accumulate(CHANNELS * width * height for width, height in sizes)]
        self.buffer: mmap.mmap | None = mmap.mmap(-1, self.starts[-1] + len(self.paths))

    @classmethod
    def that_fits(cls, paths: Sequence[str], most_bytes: float) -> ImageCache | None:
        """A cache for all of ``paths``; ``None`` if they need more than ``most_bytes``, or half the free memory."""
        most_bytes = min(most_bytes, MOST_OF_FREE * psutil.virtual_memory().available)
        sizes, needed = [], 0
        for path in paths:
            sizes.append(read_image(path, size_only=True))
            needed += CHANNELS * sizes[-1][0] * sizes[-1][1]
            if needed > most_bytes:
                return None
        return cls(paths, sizes)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "buffer": None}

    def read(self, index: int) -> Image.Image:
        """The pixels of :func:`read_image` for the image at ``index`` of ``paths``, without its metadata."""
        if self.buffer is None:
            return read_image(self.paths[index])
        start, end, filled = self.starts[index], self.starts[index + 1], self.starts[-1] + index
        if not self.buffer[filled]:
            image = read_image(self.paths[index])
            if image.size != self.sizes[index]:
                return image
            self.buffer[start:end] = image.tobytes()
            # Set last, so that another process never sees half an image.
            self.buffer[filled] = 1
        return Image.frombytes("RGB", self.sizes[index], self.buffer[start:end])
