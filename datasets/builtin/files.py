"""Write a built-in data set to disk, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from minidassl.own.files import whole_folder, write_whole

from trainers.prompting.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def write_once(folder: Path, split_file: str, write: Callable[[Path, str], None]) -> None:
    """Fill `folder` by `write`, unless it is complete.

    The files go to a temporary folder beside it, which is renamed at the end. Of two runs at once, one renames its
    folder, and the other discards its copy.
    """
    if (folder / split_file).is_file():
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder} holds no {split_file}, so it is not the complete built-in data set, which is written where "
            "there is no such folder; move it elsewhere, or set --root (DATASET.ROOT) to another place."
        )
    print(f"Writing built-in data set to {folder}")
    try:
        with whole_folder(folder) as part:
            write(part, split_file)
    except OSError as error:
        if not (folder / split_file).is_file():
            raise InputError(
                f"{folder} cannot be written ({error}); make room, or set --root (DATASET.ROOT) to a writable folder."
            ) from error


def save_image(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def save_split(splits: dict[str, list[tuple[str, int, str]]], path: Path) -> None:
    """Write rows (path below the image folder, label, class name) in the format of CoOp's split files."""
    write_whole(path, json.dumps(splits, indent=4) + "\n")
