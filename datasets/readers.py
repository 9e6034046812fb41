"""Read and check splits, before training: CoOp's split JSON, and cuts of lists of images.

Differences from CoOp: nothing is written (CoOp saves a derived split, and creates empty folders below a wrong root);
files of a class are sorted, so a derived split does not depend on the file system; a derived split has its own
generator, so later shots equal those of a JSON with the same content. Errors name the file and the remedy, where CoOp
raises an empty AssertionError, KeyError or JSONDecodeError. A split file may come from a stranger: its images are in
the data set's folder, and its labels and names are what a class can have.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from trainers.prompting.errors import InputError

if TYPE_CHECKING:
    from minidassl.own.image_cache import UnreadableImage

from .fewshot import Item, Splits, by_label

SPLITS = ("train", "val", "test")
GUIDE = "docs/DATASETS.md"
SAMPLED_PER_SPLIT = 100
SHOWN = 5
NOTE = "Note: "  # begins a line about data that are used all the same
# Control characters, and halves of surrogate pairs, some of which stand for bytes of file names that are no UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NO_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")


def data_error(problem: str) -> InputError:
    """An InputError about files on disk, whose remedy the page on data sets explains."""
    return InputError(f"{problem}, see {GUIDE}.")


def read_split_json(path: Path, image_dir: Path) -> Splits:
    """Read `{"train": [[path below image_dir, label, class name], …], "val": …, "test": …}` in file order."""
    content = read_json(path)
    splits = []
    for split in SPLITS:
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise data_error(f"{path} has no list of images {split!r}; download it again")
        splits.append([_item(row, index, split, path, image_dir) for index, row in enumerate(rows)])
    return Splits(*splits)


def unreadable(path: Path, error: OSError) -> InputError:
    """Of a missing file, or of one that the system does not read."""
    if isinstance(error, FileNotFoundError):
        return data_error(f"{path} is not there; download it and put it there")
    return data_error(f"{path} cannot be read: {error.strerror or error}; check its permissions, and the disk")


def read_text(path: Path, errors: str = "strict") -> str:
    """The content of a text file in UTF-8; an InputError if it cannot be read. `errors` is that of Python's `open`."""
    try:
        return path.read_text(encoding="utf-8", errors=errors)
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise data_error(f"{path} is no text in UTF-8; download it again") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file; an InputError if it is none, or is nested deeper than Python's stack."""
    text = read_text(path, errors="replace")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise data_error(f"{path} is nested too deeply for a list of images; download the file again") from error
    except ValueError as error:
        start = text.lstrip()[:40]
        kind = "an HTML page, perhaps the download service's error message" if start[:1] == "<" else "no valid JSON"
        raise data_error(f"{path} is {kind} ({error}; it starts with {start!r}); download the file again") from error


def _item(row: object, index: int, split: str, path: Path, image_dir: Path) -> Item:
    # By type: Python also takes true, 1.9 and "1" for the label 1, and the keys of an object for a row.
    if not (isinstance(row, list) and [type(value) for value in row] == [str, int, str]):
        raise data_error(
            f"{path}: row {index} of {split!r} is {reprlib.repr(row)}; a row is [image path, label, class name], of "
            "which the label is a whole number"
        )
    if _NO_PATH.search(row[0]):
        raise data_error(f"{path}: row {index} of {split!r} has the image path {row[0]!r}; rename the image")
    return Item(str(image_dir / row[0]), *row[1:])


def cut_classes(items: list[Item], rng: random.Random, *shares: float) -> list[list[Item]]:
    """Shuffle each class, in order of first appearance, and cut it into these shares and the rest.

    Python's `round`, half to even, gives the counts.
    """
    parts: list[list[Item]] = [[] for _ in range(len(shares) + 1)]

    def counts_of(images: int) -> list[int]:
        counts = [round(images * share) for share in shares]
        return [*counts, images - sum(counts)]

    for group in by_label(items):
        counts = counts_of(len(group))
        if 0 in counts:
            enough = next(images for images in itertools.count(1) if 0 not in counts_of(images))
            raise data_error(
                f"Class {group[0].name!r} has {len(group)} images, too few for every split; add images until it has "
                f"{enough} or more, or move the class elsewhere"
            )
        rng.shuffle(group)
        images = iter(group)
        for part, count in zip(parts, counts):
            part += itertools.islice(images, count)
    return parts


def some(things: Iterable[str]) -> str:
    """The first few of sorted names, in printable characters, and the number of the others."""
    names = sorted(_UNPRINTABLE.sub("?", thing) for thing in things)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def check_splits(splits: Splits, source: str, image_dir: Path, one_name_twice: bool = False) -> Splits:
    """Check paths, labels and class names, and that no test image is a training image, and return the splits.

    All paths are below `image_dir`. Labels run from 0 without gaps, and have the same name in all splits. CLIP cannot
    tell two classes of one name apart; `one_name_twice` admits them.
    """
    names = {item.label: item.name for item in splits.train}
    if set(names) != (expected := set(range(len(names)))):
        raise data_error(
            f"{source}: the labels of 'train' must run from 0 without gaps, but there are {len(names)}, without "
            f"{min(expected - set(names))}, and with {min(set(names) - expected)}; use the complete file"
        )
    for split, items in zip(SPLITS, splits):
        for item in items:
            if names.get(item.label) != item.name:
                known = f"is {names[item.label]!r}" if item.label in names else "does not occur"
                raise data_error(
                    f"{source}: label {item.label} is {item.name!r} in {split!r} but {known} in 'train'; the "
                    "three splits must share their classes"
                )
    first: dict[str, int] = {}
    for label, name in names.items():
        if not name.strip() or _UNPRINTABLE.search(name):
            raise data_error(f"{source}: the class name of label {label} is {name!r}; give it one in words")
        known = first.setdefault(_as_clip_reads(name), label)
        if known != label and not one_name_twice:
            raise data_error(
                f"{source}: labels {known} and {label} are {names[known]!r} and {name!r}, which CLIP reads as one "
                "name; give each class a name of its own"
            )
    start, outside = f"{image_dir}{os.sep}", f"{os.sep}..{os.sep}"
    for item in itertools.chain(*splits):
        if not item.path.startswith(start) or outside in f"{item.path}{os.sep}"[len(start) - 1 :]:
            raise data_error(
                f"{source} lists {item.path}, which is not below {image_dir}; list images there, without .."
            )
    tested = {item.path for item in splits.test}
    leaked = {item.path for item in splits.train if item.path in tested}
    # Sets for tests alone have one list, from which Dassl reads the class names.
    if leaked and splits.train is not splits.test:
        raise data_error(
            f"{source}: {len(leaked)} test images are also training images: {some(leaked)}; take them out of one list"
        )
    return splits


def _as_clip_reads(name: str) -> str:
    """A class name as CLIP's sentences and tokens have it: no underscores, no capitals, single spaces."""
    return " ".join(name.replace("_", " ").lower().split())


def check_links(splits: Splits, source: str, folder: Path) -> None:
    """Check that no listed image is elsewhere because it, or a folder above it, is a link.

    Links to the data set's folder, and directly in it, are the user's: CoOp's guide recommends them for data that are
    there already. Folders are listed, because a look at each image costs a disk access.
    """
    with os.scandir(folder) as entries:
        own = [folder, *(entry.path for entry in entries if entry.is_symlink())]
    roots = tuple(f"{os.path.realpath(path)}{os.sep}" for path in own)
    listed: dict[str, set[str]] = defaultdict(set)
    for item in itertools.chain(*splits):
        parent, name = os.path.split(item.path)
        listed[parent].add(name)
    for parent, names in listed.items():
        if not os.path.isdir(parent):
            continue  # `check_images` reports what is missing
        with os.scandir(parent) as entries:
            links = [entry.path for entry in entries if entry.name in names and entry.is_symlink()]
        for path in (parent, *links):
            if not f"{os.path.realpath(path)}{os.sep}".startswith(roots):
                raise data_error(
                    f"{source} lists {path}, but a link leads from there out of {folder}; copy the images, or link a "
                    "whole folder directly in that folder"
                )


def check_images(splits: Splits, source: str) -> None:
    """Look for an evenly spread sample of the images, since each check costs a disk access."""
    for split, items in zip(SPLITS, splits):
        for item in items[:: max(1, len(items) // SAMPLED_PER_SPLIT)]:
            if not Path(item.path).is_file():
                raise missing_image(item.path, f"{split!r} of {source}")


def broken_images(paths: Sequence[str], description: str) -> dict[str, UnreadableImage]:
    """Decode images in parallel; returns the broken ones, with their errors."""
    # Imported here because only this opens images.
    from minidassl.own.image_cache import UnreadableImage, read_image

    def error_of(path: str) -> UnreadableImage | None:
        try:
            read_image(path)
        except UnreadableImage as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(tqdm(pool.map(error_of, paths), total=len(paths), desc=description, leave=False, disable=None))
    return {path: error for path, error in zip(paths, errors) if error}


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
            f"{source}: no training image of {', '.join(emptied)} can be decoded; scripts/check_data.py --deep names "
            "the reason of each, and the remedy."
        )
    return kept


def missing_image(path: str, listed_in: str) -> InputError:
    return data_error(
        f"{path} does not exist, though {listed_in} lists it; unpack the images so that this path exists"
    )
