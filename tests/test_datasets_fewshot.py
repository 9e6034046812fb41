"""Few-shot sampling gives CoOp's images: the reference vectors were taken from the seeded global generator."""

from __future__ import annotations

import random

import pytest

from datasets.fewshot import Item, generator, sample_fewshot, sample_train_val

VECTORS = {
    1: ([[2, 1, 4], [1, 7, 8], [7, 6, 3]], [6, 31, 1, 53, 24, 27, 38, 48, 49, 0, 44, 28, 17, 46, 14, 37]),
    2: ([[0, 1, 8], [5, 2, 4], [4, 3, 0]], [37, 43, 10, 27, 40, 25, 51, 46, 32, 23, 34, 28, 53, 17, 2, 1]),
    3: ([[3, 8, 2], [5, 7, 1], [9, 0, 7]], [16, 35, 14, 12, 45, 30, 34, 58, 54, 25, 40, 9, 57, 49, 48, 33]),
}


def split(*sizes: int, labels: tuple[int, ...] | None = None) -> list[Item]:
    labels = labels or tuple(range(len(sizes)))
    return [
        Item(f"{label}/{index}", label, f"class {label}")
        for label, size in zip(labels, sizes)
        for index in range(size)
    ]


def drawn(items: list[Item], label: int) -> list[int]:
    return [int(item.path.split("/")[1]) for item in items if item.label == label]


@pytest.mark.parametrize("seed", VECTORS)
def test_shots_follow_the_reference_stream(seed):
    threes, sixteen = VECTORS[seed]
    rng = generator(seed)
    shots = sample_fewshot(split(10, 10, 10), 3, rng)
    assert [drawn(shots, label) for label in range(3)] == threes
    assert drawn(sample_fewshot(split(60), 16, rng), 0) == sixteen


def test_train_is_drawn_before_val_and_val_has_at_most_four_shots():
    train, val = split(20, 20), split(9, 9)
    random.seed(5)
    expected = [random.sample(train[start : start + 20], 8) for start in (0, 20)]
    expected_val = [random.sample(val[start : start + 9], 4) for start in (0, 9)]
    assert sample_train_val(train, val, 8, generator(5)) == (sum(expected, []), sum(expected_val, []))


def test_val_has_no_more_shots_than_train():
    _, val = sample_train_val(split(9), split(9), 2, generator(1))
    assert len(val) == 2


def test_a_small_class_is_kept_whole_in_order_and_draws_nothing():
    small_first = sample_fewshot(split(2, 10), 3, generator(1))
    alone = sample_fewshot(split(10, labels=(1,)), 3, generator(1))
    assert drawn(small_first, 0) == [0, 1]
    assert drawn(small_first, 1) == drawn(alone, 1)


def test_classes_come_in_order_of_first_appearance():
    shots = sample_fewshot(split(5, 5, labels=(7, 2)), 1, generator(1))
    assert [item.label for item in shots] == [7, 2]


def test_no_shots_means_the_whole_split():
    items = split(3, 2)
    assert sample_fewshot(items, -1, generator(1)) == items


def test_sampling_leaves_the_global_generator_alone():
    random.seed(3)
    before = random.getstate()
    sample_train_val(split(30), split(30), 4, generator(3))
    assert random.getstate() == before


def test_a_negative_seed_is_unseeded():
    draws = {tuple(sample_fewshot(split(1000), 5, generator(-1))) for _ in range(3)}
    assert len(draws) == 3
