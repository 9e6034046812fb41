"""Reading of images, and a cache of decoded ones, shared by the worker processes of a loader.

Upstream has none: every epoch reads and decodes every file again.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence
from typing import Any

import psutil
from PIL import Image

CHANNELS = 3
MOST_OF_FREE = 0.5


def read_image(path: str | os.PathLike[str], size_only: bool = False) -> Image.Image | tuple[int, int]:
    """Read an image as RGB, or only its width and height in pixels; an ``OSError`` names an unreadable path."""
    try:
        with Image.open(path) as image:
            return image.size if size_only else image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(
            f'No image at "{path}"; check DATASET.ROOT and that the download is complete'
        ) from None
    except OSError as error:
        raise OSError(f'Cannot read the image "{path}": {error}') from error


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
