"""Read splits: CoOp's split JSON, or class folders cut into 50/20/30. All checks come before training.

Differences from CoOp: nothing is written (CoOp saves a derived split, and creates empty folders below a wrong root);
files of a class are sorted, so a derived split does not depend on the file system; a derived split has its own
generator, so later shots equal those of a JSON with the same content. Errors name the file and the remedy, where CoOp
raises an empty AssertionError, KeyError or JSONDecodeError.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import minidassl  # noqa: F401  # isort: skip  (first: answers to the name "dassl")
from minidassl.utils import read_image

from tqdm import tqdm

from trainers.prompting.errors import InputError

from .fewshot import Item

SPLITS = ("train", "val", "test")
GUIDE = "docs/DATASETS.md"
SAMPLED_PER_SPLIT = 100
SHOWN = 5


class Splits(NamedTuple):
    train: list[Item]
    val: list[Item]
    test: list[Item]


def read_split_json(path: Path, image_dir: Path) -> Splits:
    """Read `{"train": [[path below image_dir, label, class name], …], "val": …, "test": …}` in file order."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        start = text.lstrip()[:40]
        kind = "an HTML page, perhaps the download service's error message" if start[:1] == "<" else "no valid JSON"
        raise InputError(
            f"{path} is {kind} ({error}; it starts with {start!r}). Download the file again, see {GUIDE}."
        ) from error
    splits = []
    for split in SPLITS:
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            state = "is empty" if rows == [] else "is missing or no list"
            raise InputError(
                f"{path}: {split!r} {state}; the file needs non-empty lists train, val and test. "
                f"Download it again, see {GUIDE}."
            )
        splits.append([_item(row, index, split, path, image_dir) for index, row in enumerate(rows)])
    return check_splits(Splits(*splits), str(path))


def _item(row: object, index: int, split: str, path: Path, image_dir: Path) -> Item:
    try:
        image, label, name = row
        return Item(str(image_dir / image), int(label), str(name))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: row {index} of {split!r} is {row!r}; a row is [image path, label, class name]."
        ) from error


def read_class_folders(
    image_dir: Path, rng: random.Random, ignored: tuple[str, ...] = (), renames: Mapping[str, str] | None = None
) -> Splits:
    """Cut every class folder of `image_dir` into 50% train, 20% val and 30% test.

    Labels follow the sorted folder names; `renames` maps folder names to class names. Hidden entries, `ignored`
    folders and stray files beside the class folders do not count.
    """
    print("Splitting into 50% train, 20% val, and 30% test")
    folders = [name for name in visible(image_dir) if name not in ignored and (image_dir / name).is_dir()]
    if not folders:
        raise InputError(f"{image_dir} has no class folders; unpack the images into it, see {GUIDE}.")
    classes = {}
    for label, folder in enumerate(folders):
        name, place = (renames or {}).get(folder, folder), image_dir / folder
        classes[place] = [Item(str(place / file), label, name) for file in visible(place)]
    return cut_classes(classes, rng)


def cut_classes(classes: Mapping[object, list[Item]], rng: random.Random) -> Splits:
    """Shuffle each class and cut it at 50% and 70%; Python's `round`, half to even, gives the counts."""
    splits = Splits([], [], [])
    for name, items in classes.items():
        rng.shuffle(items)
        train, val = round(len(items) * 0.5), round(len(items) * 0.2)
        for split, part in zip(splits, (items[:train], items[train : train + val], items[train + val :])):
            if not part:
                raise InputError(
                    f"Class {name} has {len(items)} images, too few for 50% train, 20% val and 30% test; complete it, "
                    f"or remove it, see {GUIDE}."
                )
            split.extend(part)
    return splits


def some(things: Iterable[str]) -> str:
    """The first few of sorted names, and the number of the others."""
    names = sorted(things)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def visible(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def check_splits(splits: Splits, source: str) -> Splits:
    """Check that labels run from 0 without gaps, and that a label has the same name in all splits."""
    names: dict[int, str] = {}
    for item in splits.train:
        names.setdefault(item.label, item.name)
    missing = sorted(set(range(max(names) + 1)) - set(names))
    if missing or min(names) < 0:
        raise InputError(
            f"{source}: the labels of 'train' must run from 0 without gaps, but {missing or min(names)} is out of "
            f"line; use the complete file, see {GUIDE}."
        )
    for split, items in zip(SPLITS, splits):
        for item in items:
            if names.get(item.label) != item.name:
                known = f"is {names[item.label]!r}" if item.label in names else "does not occur"
                raise InputError(
                    f"{source}: label {item.label} is {item.name!r} in {split!r} but {known} in 'train'; the three "
                    f"splits must share their classes, see {GUIDE}."
                )
    return splits


def check_images(splits: Splits, source: str) -> None:
    """Look for an evenly spread sample of the images, since each check costs a disk access."""
    for split, items in zip(SPLITS, splits):
        for item in items[:: max(1, len(items) // SAMPLED_PER_SPLIT)]:
            if not Path(item.path).is_file():
                raise missing_image(item.path, f"{split!r} of {source}")


def broken_images(paths: Sequence[str], description: str, workers: int | None = None) -> dict[str, str]:
    """Decode images in parallel; returns the broken ones, with the reason."""

    def reason(path: str) -> str | None:
        try:
            read_image(path)
        except (OSError, SyntaxError, ValueError) as error:
            return str(error) if path in str(error) else f"{path}: {error}"

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        reasons = list(tqdm(pool.map(reason, paths), total=len(paths), desc=description, leave=False))
    return {path: text for path, text in zip(paths, reasons) if text}


def without_broken(splits: Splits, source: str) -> Splits:
    """The images that can be decoded; prints the number and names of the others.

    Raises:
        InputError: a class has no training image left.
    """
    paths = list(dict.fromkeys(item.path for items in splits for item in items))
    broken = broken_images(paths, "decoding images")
    if not broken:
        return splits
    print(f"Left out {len(broken)} images that cannot be decoded: {', '.join(broken)}")
    kept = Splits(*([item for item in items if item.path not in broken] for items in splits))
    emptied = sorted({item.name for item in splits.train} - {item.name for item in kept.train})
    if emptied:
        raise InputError(
            f"{source}: no training image of {', '.join(emptied)} can be decoded; unpack the images again."
        )
    return kept


def missing_image(path: str, listed_in: str) -> InputError:
    return InputError(
        f"{path} does not exist, though {listed_in} lists it; unpack the images so that this path exists, see {GUIDE}."
    )
