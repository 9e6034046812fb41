"""Finds the data sets of `table.py` on disk, lists their images, and draws shots and classes; needs no Dassl.

`datasets.registry` makes Dassl's classes of them.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from trainers.prompting.errors import InputError

from . import fewshot
from .builtin.files import write_once
from .caches import read_cache
from .fewshot import Splits
from .readers import NOTE, check_links, check_splits, data_error, read_split_json
from .table import Row

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_VAL_SHOTS = 4
# Of every derived split, the first of CoOp's seeds, so that all runs of a data set test the same images.
SPLIT_SEED = 1


def locate(row: Row, root: str) -> Path:
    """The data set's folder, which must exist; a missing built-in set is written.

    For built-in sets an empty root means `data` in this repository, so that they work without any argument.
    """
    if not root and row.write is None:
        raise data_error(
            f"DATASET.ROOT is empty, but {row.name} is not built in; set --root to the folder above {row.folder}/"
        )
    base = Path(root).expanduser().absolute() if root else REPOSITORY / "data"
    folder = base / row.folder
    if row.write is not None:
        write_once(folder, row.split_file, row.write)
    elif not folder.is_dir():
        hint = f" (did you mean --root {base.parent}?)" if base.name == row.folder else ""
        raise data_error(
            f"DATASET.ROOT is {root!r}, but {row.name} needs the folder {folder}, which is not there{hint}"
        )
    return folder


def list_images(row: Row, folder: Path) -> tuple[Splits, str]:
    """All images of a data set, from its split JSON or from its published files, and the path of that source."""
    images, split_path = folder / row.images, folder / row.split_file
    if not images.is_dir():
        raise data_error(f"{row.name} needs its images in {images}, which is not there")
    if row.has_split_file and split_path.is_file():
        print(f"Reading split from {split_path}")
        splits = check_splits(read_split_json(split_path, images), str(split_path), images)
        check_links(splits, str(split_path), folder)
        return splits, str(split_path)
    try:
        splits = row.derive(folder, images, random.Random(SPLIT_SEED))
        return check_splits(splits, str(folder), images, row.one_name_twice), str(folder)
    except InputError as error:
        if not (row.has_split_file and row.published):
            raise
        raise InputError(f"{error} Or download {row.split_file} and put it into {folder}.") from error


def few_shot(row: Row, folder: Path, splits: Splits, shots: int, seed: int) -> Splits:
    """The shots of a seed: from CoOp's cache if there is one, else by CoOp's draws.

    The test split is never sampled, nor are validation images that are also the test images, as on ImageNet.
    """
    if shots < 1:
        return splits
    path = folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.pkl"
    if path.is_file():
        print(f"Loading preprocessed few-shot data from {path}")
        return read_cache(path, folder / row.images, splits)
    rng = fewshot.generator(seed)
    print(f"Creating a {shots}-shot dataset")
    small = sum(count < shots for count in Counter(item.label for item in splits.train).values())
    if small:
        print(f"{NOTE}{small} classes have fewer than {shots} training images, and give all of them")
    train, val = fewshot.sample_fewshot(splits.train, shots, rng), splits.val
    if not row.val_is_test:
        val_shots = min(shots, MAX_VAL_SHOTS)
        print(f"Creating a {val_shots}-shot dataset")
        val = fewshot.sample_fewshot(val, val_shots, rng)
    return Splits(train, val, splits.test)


def select(splits: Splits, cfg: Any) -> Splits:
    """The images of the classes that the configuration selects."""
    # Read with defaults: CoOp's train.py declares the first of these keys alone.
    subset = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    ratio = cfg.DATASET.get("SUBSAMPLE_RATIO", 100) if cfg.DATASET.get("USE_RATIO", False) else None
    selected = fewshot.subsample_classes(splits, subset, ratio, fewshot.generator(cfg.SEED))
    if ratio is not None:
        print("USE RATIO TO SUBSAMPLE CLASSES!")
    if subset != "all":
        print(f"SUBSAMPLE {subset.upper()} CLASSES!")
    return selected
