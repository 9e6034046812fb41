"""Few-shot sampling gives CoOp's images, and base, new and mixed classes are those of CoOp and BMIP."""

from __future__ import annotations

import random

import pytest

from datasets.fewshot import Item, Splits, generator, sample_fewshot, subsample_classes
from trainers.prompting.errors import InputError

# Taken from the seeded global generator.
VECTORS = {
    1: ([[2, 1, 4], [1, 7, 8], [7, 6, 3]], [6, 31, 1, 53, 24, 27, 38, 48, 49, 0, 44, 28, 17, 46, 14, 37]),
    2: ([[0, 1, 8], [5, 2, 4], [4, 3, 0]], [37, 43, 10, 27, 40, 25, 51, 46, 32, 23, 34, 28, 53, 17, 2, 1]),
    3: ([[3, 8, 2], [5, 7, 1], [9, 0, 7]], [16, 35, 14, 12, 45, 30, 34, 58, 54, 25, 40, 9, 57, 49, 48, 33]),
}


def images(sizes: dict[int, int]) -> list[Item]:
    """Images of classes, from labels and sizes."""
    return [Item(f"{label}/{i}", label, f"class {label}") for label, size in sizes.items() for i in range(size)]


def drawn(items: list[Item], label: int) -> list[int]:
    return [int(item.path.split("/")[1]) for item in items if item.label == label]


@pytest.mark.parametrize("seed", VECTORS)
def test_shots_follow_the_reference_stream(seed):
    threes, sixteen = VECTORS[seed]
    rng = generator(seed)
    shots = sample_fewshot(images({0: 10, 1: 10, 2: 10}), 3, rng)
    assert [drawn(shots, label) for label in range(3)] == threes
    assert drawn(sample_fewshot(images({0: 60}), 16, rng), 0) == sixteen


def test_classes_come_in_order_of_appearance_and_a_small_one_is_kept_whole_and_draws_nothing():
    shots = sample_fewshot(images({7: 2, 1: 10}), 3, generator(1))
    assert [item.label for item in shots] == [7, 7, 1, 1, 1]
    assert drawn(shots, 7) == [0, 1]
    assert drawn(shots, 1) == drawn(sample_fewshot(images({1: 10}), 3, generator(1)), 1)


def test_sampling_leaves_the_global_generator_alone():
    before = random.getstate()
    sample_fewshot(images({0: 30}), 4, generator(3))
    assert random.getstate() == before


def test_a_negative_seed_is_unseeded():
    draws = {tuple(sample_fewshot(images({0: 1000}), 5, generator(-1))) for _ in range(3)}
    assert len(draws) == 3


def split(classes: int) -> Splits:
    return Splits(images(dict.fromkeys(range(classes), 2)), [], images(dict.fromkeys(range(classes), 1)))


def select(splits: Splits, subset: str, ratio: int | None = None, seed: int = 1) -> Splits:
    return subsample_classes(splits, subset, ratio, generator(seed))


def names(items: list[Item]) -> list[str]:
    """Class names in order of their labels; every label from 0 on must be there, under one name."""
    by_label = {item.label: item.name for item in items}
    assert {(item.label, item.name) for item in items} == set(by_label.items())
    return [by_label[label] for label in range(len(by_label))]


@pytest.mark.parametrize("classes, size", [(7, 4), (10, 5)])
def test_base_is_the_larger_half_and_new_are_the_others_numbered_from_zero(classes, size):
    whole = split(classes)
    for items, base, new in zip(whole, select(whole, "base"), select(whole, "new")):
        assert base + [item._replace(label=item.label + size) for item in new] == items
        assert {item.label for item in base} == (set(range(size)) if items else set())


def test_the_training_images_decide_which_classes_exist():
    new = select(Splits(split(4).train, [], split(6).test), "new")
    assert names(new.train) == names(new.test) == ["class 2", "class 3"]


@pytest.mark.parametrize(
    "classes, ratio, base, new", [(11, 0, 1, 5), (11, 50, 3, 3), (11, 100, 6, 0), (10, 10, 0, 5), (10, 100, 5, 0)]
)
def test_ratio_is_the_percentage_of_base_classes(classes, ratio, base, new):
    half = (classes + 1) // 2
    numbers = [int(name.split()[1]) for name in names(select(split(classes), "new", ratio).train)]
    assert (sum(n < half for n in numbers), sum(n >= half for n in numbers)) == (base, new)


def test_mixed_classes_are_numbered_in_the_order_drawn():
    rng = generator(2)
    drawn = rng.sample(range(6), 3) + rng.sample(range(6, 12), 3)
    assert names(select(split(12), "new", 50, seed=2).test) == [f"class {n}" for n in drawn]


def test_ratio_acts_on_new_only_and_all_changes_nothing():
    whole = split(9)
    assert select(whole, "base", 30) == select(whole, "base")
    assert select(whole, "all", 30) == select(whole, "all") == whole


def test_a_class_among_itself_is_no_test():
    for classes, subset, least in ((1, "all", 2), (2, "base", 4), (3, "new", 4)):
        with pytest.raises(InputError, match=rf"too few classes \({classes}\).*{subset}, which needs {least}"):
            select(split(classes), subset)
    assert select(split(2), "all") == split(2) and len(names(select(split(4), "new").test)) == 2


def test_a_misspelt_subset_and_a_ratio_beyond_a_percentage_name_the_key():
    with pytest.raises(InputError, match=r"DATASET\.SUBSAMPLE_CLASSES is 'bsae'.*all, base, new"):
        select(split(4), "bsae")
    for ratio in (-1, 101):
        with pytest.raises(InputError, match=rf"DATASET\.SUBSAMPLE_RATIO is {ratio}.*0\.\.100"):
            select(split(4), "new", ratio)
