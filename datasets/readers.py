"""Read and check splits, before training: CoOp's split JSON, and cuts of lists of images.

Differences from CoOp: nothing is written (CoOp saves a derived split, and creates empty folders below a wrong root);
files of a class are sorted, so a derived split does not depend on the file system; a derived split has its own
generator, so later shots equal those of a JSON with the same content. Errors name the file and the remedy, where CoOp
raises an empty AssertionError, KeyError or JSONDecodeError.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minidassl.own.image_cache import read_image

from tqdm import tqdm

from trainers.prompting.errors import InputError

from .fewshot import Item, Splits, by_label

SPLITS = ("train", "val", "test")
GUIDE = "docs/DATASETS.md"
SAMPLED_PER_SPLIT = 100
SHOWN = 5


def data_error(problem: str) -> InputError:
    """An InputError about files on disk, whose remedy the page on data sets explains."""
    return InputError(f"{problem}, see {GUIDE}.")


def read_split_json(path: Path, image_dir: Path) -> Splits:
    """Read `{"train": [[path below image_dir, label, class name], …], "val": …, "test": …}` in file order."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        start = text.lstrip()[:40]
        kind = "an HTML page, perhaps the download service's error message" if start[:1] == "<" else "no valid JSON"
        raise data_error(f"{path} is {kind} ({error}; it starts with {start!r}); download the file again") from error
    splits = []
    for split in SPLITS:
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise data_error(f"{path} has no list of images {split!r}; download it again")
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


def cut_classes(items: list[Item], rng: random.Random, *shares: float) -> list[list[Item]]:
    """Shuffle each class, in order of first appearance, and cut it into these shares and the rest.

    Python's `round`, half to even, gives the counts.
    """
    parts: list[list[Item]] = [[] for _ in range(len(shares) + 1)]
    for group in by_label(items):
        counts = [round(len(group) * share) for share in shares]
        counts.append(len(group) - sum(counts))
        if 0 in counts:
            raise data_error(
                f"Class {group[0].name!r} has {len(group)} images, too few for every split; complete it, or remove it"
            )
        rng.shuffle(group)
        images = iter(group)
        for part, count in zip(parts, counts):
            part += itertools.islice(images, count)
    return parts


def some(things: Iterable[str]) -> str:
    """The first few of sorted names, and the number of the others."""
    names = sorted(things)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def check_splits(splits: Splits, source: str) -> Splits:
    """Check that labels run from 0 without gaps, and that a label has the same name in all splits."""
    names = {item.label: item.name for item in splits.train}
    missing = sorted(set(range(max(names) + 1)) - set(names))
    if missing or min(names) < 0:
        raise data_error(
            f"{source}: the labels of 'train' must run from 0 without gaps, but {missing or min(names)} is out of "
            "line; use the complete file"
        )
    for split, items in zip(SPLITS, splits):
        for item in items:
            if names.get(item.label) != item.name:
                known = f"is {names[item.label]!r}" if item.label in names else "does not occur"
                raise data_error(
                    f"{source}: label {item.label} is {item.name!r} in {split!r} but {known} in 'train'; the three "
                    "splits must share their classes"
                )
    return splits


def check_images(splits: Splits, source: str) -> None:
    """Look for an evenly spread sample of the images, since each check costs a disk access."""
    for split, items in zip(SPLITS, splits):
        for item in items[:: max(1, len(items) // SAMPLED_PER_SPLIT)]:
            if not Path(item.path).is_file():
                raise missing_image(item.path, f"{split!r} of {source}")


def broken_images(paths: Sequence[str], description: str) -> dict[str, str]:
    """Decode images in parallel; returns the broken ones, with the reason."""

    def reason(path: str) -> str | None:
        try:
            read_image(path)
        except (OSError, SyntaxError, ValueError) as error:
            return str(error) if path in str(error) else f"{path}: {error}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
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
    return data_error(
        f"{path} does not exist, though {listed_in} lists it; unpack the images so that this path exists"
    )
