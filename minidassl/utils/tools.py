"""Files, seeds and the environment report."""

from __future__ import annotations

import json
import os
import random
import warnings
from typing import Any

import numpy as np
import PIL
import torch

from ..own.files import write_whole
from ..own.image_cache import read_image

__all__ = [
    "check_isfile",
    "collect_env_info",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "set_random_seed",
    "write_json",
]


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy, torch and every CUDA device; cuDNN's settings stay as they are."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def collect_env_info() -> str:
    """Return torch's report on machine and packages, followed by the version of Pillow."""
    # Imported here: the module is slow to load, and only this function needs it.
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def mkdir_if_missing(dirname: str | os.PathLike[str]) -> None:
    """Create a folder and its parents; an existing one, or an empty name (the current folder), is fine."""
    if dirname:
        os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str | os.PathLike[str]) -> bool:
    """Tell whether ``fpath`` is a file, and warn if it is not."""
    found = os.path.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


def read_json(fpath: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj: Any, fpath: str | os.PathLike[str]) -> None:
    """Write ``obj`` as indented JSON, creating the parent folder where there is none."""
    write_whole(fpath, json.dumps(obj, indent=4, separators=(",", ": ")))


def listdir_nohidden(path: str | os.PathLike[str], sort: bool = False) -> list[str]:
    """List the names in a folder that do not start with a dot; without ``sort`` in the file system's order."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names
