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

from trainers.prompting.errors import InputError

SUBSETS = ("all", "base", "new")
MAX_VAL_SHOTS = 4


class Item(NamedTuple):
    """One image of a split: absolute path, 0-based label, class name."""

    path: str
    label: int
    name: str


def generator(seed: int) -> random.Random:
    """The random stream of Dassl's `set_random_seed(seed)`; a negative seed means unseeded, as in Dassl."""
    return random.Random(seed) if seed >= 0 else random.Random()


def by_label(items: Iterable[Item]) -> dict[int, list[Item]]:
    """The items of each label, in order of first appearance."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return groups


def sample_fewshot(items: list[Item], shots: int, rng: random.Random) -> list[Item]:
    """`shots` items of every class, or all items when `shots` < 1.

    Classes come in order of first appearance, a class's items in the order drawn. A smaller class is kept whole, in
    its own order, and draws nothing from `rng`.
    """
    if shots < 1:
        return items
    groups = by_label(items).values()
    return [item for group in groups for item in (rng.sample(group, shots) if len(group) >= shots else group)]


def sample_train_val(
    train: list[Item], val: list[Item], shots: int, rng: random.Random
) -> tuple[list[Item], list[Item]]:
    """`shots` per class for training, then at most four for validation, from one stream in that order."""
    return sample_fewshot(train, shots, rng), sample_fewshot(val, min(shots, MAX_VAL_SHOTS), rng)


def subsample_classes(lists: Iterable[list[Item]], subset: str) -> tuple[list[Item], ...]:
    """Keep one half of the classes of every list: base = the first ceil(n/2) labels of the first list, new = the rest.

    Kept labels are renumbered from 0 in ascending order; "all" returns the lists as they are.
    """
    lists = tuple(lists)
    base, new = _halves(lists, subset)
    return lists if subset == "all" else _keep(lists, base if subset == "base" else new)


def subsample_classes_ratio(
    lists: Iterable[list[Item]], subset: str, ratio: int, rng: random.Random
) -> tuple[list[Item], ...]:
    """Open-world mixture: `subsample_classes`, but "new" holds `ratio` percent base classes.

    The mixture has as many classes as "base", if there are enough new ones: 100 gives base classes only, 0 new classes
    only. Base classes are drawn before new ones, and labels are numbered in the order drawn.
    Source: BMIP's `subsample_classes_ratio`, except for `rng`. The authors' code continues the global generator after
    the few-shot draws, so its classes depend on the existence of a cache file.
    """
    lists = tuple(lists)
    if not 0 <= ratio <= 100:
        raise InputError(
            f"DATASET.SUBSAMPLE_RATIO is {ratio}; set it to 0..100, the percentage of base classes that are kept "
            "among the classes to evaluate."
        )
    if subset != "new":
        return subsample_classes(lists, subset)
    base, new = _halves(lists, subset)
    from_new = min(len(base) - math.floor(len(base) * ratio / 100), len(new))
    return _keep(lists, rng.sample(base, len(base) - from_new) + rng.sample(new, from_new))


def _halves(lists: tuple[list[Item], ...], subset: str) -> tuple[list[int], list[int]]:
    if subset not in SUBSETS:
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES is {subset!r}; set it to one of {', '.join(SUBSETS)}.")
    labels = sorted({item.label for item in lists[0]})
    middle = math.ceil(len(labels) / 2)
    return labels[:middle], labels[middle:]


def _keep(lists: tuple[list[Item], ...], labels: list[int]) -> tuple[list[Item], ...]:
    """Drop items of other labels; a kept label becomes its position in `labels`."""
    number = {label: position for position, label in enumerate(labels)}
    return tuple(
        [item._replace(label=number[item.label]) for item in items if item.label in number] for items in lists
    )
