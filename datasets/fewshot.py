"""Few-shot subsets, and halves of the classes: pure functions, no files.

A few-shot subset is a function of split, seed and number of shots. CoOp caches it in pickles in the data folder; this
project samples it each time, which is instant, needs no writable folder and cannot go stale. The draws are those of
CoOp and Dassl: a private `random.Random(seed)` reproduces the stream of the seeded global generator, so a split JSON
gives the same images, in the same order, as CoOp's first run on it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import NamedTuple

from trainers.prompting.declaration import SUBSETS
from trainers.prompting.errors import InputError


class Item(NamedTuple):
    """One image of a split: absolute path, 0-based label, class name."""

    path: str
    label: int
    name: str


class Splits(NamedTuple):
    train: list[Item]
    val: list[Item]
    test: list[Item]


def generator(seed: int) -> random.Random:
    """The random stream of Dassl's `set_random_seed(seed)`; a negative seed means unseeded, as in Dassl."""
    return random.Random(seed) if seed >= 0 else random.Random()


def by_label(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each label, in order of first appearance."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return list(groups.values())


def sample_fewshot(items: list[Item], shots: int, rng: random.Random) -> list[Item]:
    """`shots` items of every class.

    Classes come in order of first appearance, a class's items in the order drawn. A smaller class is kept whole, in
    its own order, and draws nothing from `rng`.
    """
    sampled = []
    for group in by_label(items):
        sampled += rng.sample(group, shots) if len(group) >= shots else group
    return sampled


def subsample_classes(splits: Splits, subset: str, ratio: int | None, rng: random.Random) -> Splits:
    """Keep half of the classes: base = the first ceil(n/2) labels of the training images, new = the others.

    With a `ratio`, "new" is an open-world mixture instead, with `ratio` percent base classes, and as many classes as
    "base", if there are enough new ones. Labels are renumbered from 0, in ascending order, or in the order drawn, base
    classes first; "all" changes nothing.
    Source: BMIP's `subsample_classes_ratio`, except for `rng`. The authors' code continues the global generator after
    the few-shot draws, so its classes depend on the existence of a cache file.
    """
    if subset not in SUBSETS:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {subset!r}; set it to one of {', '.join(SUBSETS)}.")
    if ratio is not None and not 0 <= ratio <= 100:
        raise InputError(
            f"DATASET.SUBSAMPLE_RATIO is {ratio}; set it to 0..100, the percentage of base classes that are kept "
            "among the classes to evaluate."
        )
    labels = sorted({item.label for item in splits.train})
    least = 2 if subset == "all" else 4  # of one class, every image would be right
    if len(labels) < least:
        raise InputError(
            f"The data set has too few classes ({len(labels)}) for DATASET.SUBSAMPLE_CLASSES {subset}, which needs "
            f"{least}{', two in each half' if least > 2 else ''}: one class among itself is always right. Add classes"
            f"{', or train and test on all (few_shot of launch.py)' if len(labels) >= 2 else ''}."
        )
    if subset == "all":
        return splits
    middle = math.ceil(len(labels) / 2)
    base, new = labels[:middle], labels[middle:]
    if subset == "base":
        kept = base
    elif ratio is None:
        kept = new
    else:
        from_new = min(len(base) - math.floor(len(base) * ratio / 100), len(new))
        kept = rng.sample(base, len(base) - from_new) + rng.sample(new, from_new)
    number = {label: position for position, label in enumerate(kept)}
    return Splits(
        *([item._replace(label=number[item.label]) for item in items if item.label in number] for items in splits)
    )
