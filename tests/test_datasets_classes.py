"""Base, new and mixed class sets."""

from __future__ import annotations

import pytest

from datasets.fewshot import Item, generator, subsample_classes, subsample_classes_ratio
from trainers.prompting.errors import InputError


def split(classes: int, per_class: int = 2) -> list[Item]:
    return [Item(f"{c}/{i}", c, f"class {c}") for c in range(classes) for i in range(per_class)]


def names(items: list[Item]) -> list[str]:
    """Class names in order of their labels; every label from 0 on must be there, under one name."""
    by_label = {item.label: item.name for item in items}
    assert {(item.label, item.name) for item in items} == set(by_label.items())
    return [by_label[label] for label in range(len(by_label))]


@pytest.mark.parametrize(
    "classes, base, new", [(37, 19, 18), (101, 51, 50), (47, 24, 23), (397, 199, 198), (10, 5, 5)]
)
def test_base_is_the_larger_half(classes, base, new):
    lists = (split(classes), split(classes, 1))
    assert [len(names(items)) for items in subsample_classes(lists, "base")] == [base, base]
    assert [len(names(items)) for items in subsample_classes(lists, "new")] == [new, new]


def test_base_and_new_together_are_all():
    items = split(7)
    (base,), (new,) = subsample_classes([items], "base"), subsample_classes([items], "new")
    assert base + [item._replace(label=item.label + 4) for item in new] == items


def test_all_changes_nothing():
    lists = (split(3), split(3, 1))
    assert subsample_classes(lists, "all") == lists


def test_the_first_list_decides_which_classes_exist():
    train, test = split(4), split(6)
    assert [names(items) for items in subsample_classes([train, test], "new")] == [["class 2", "class 3"]] * 2


def test_a_misspelt_subset_names_key_and_choices():
    with pytest.raises(InputError, match=r"DATASET\.SUBSAMPLE_CLASSES is 'bsae'.*all, base, new"):
        subsample_classes([split(4)], "bsae")


@pytest.mark.parametrize(
    "classes, ratio, base, new", [(11, 0, 1, 5), (11, 50, 3, 3), (11, 100, 6, 0), (10, 10, 0, 5), (10, 100, 5, 0)]
)
def test_ratio_is_the_percentage_of_base_classes(classes, ratio, base, new):
    (chosen,) = subsample_classes_ratio([split(classes)], "new", ratio, generator(1))
    half = (classes + 1) // 2
    numbers = [int(name.split()[1]) for name in names(chosen)]
    assert (sum(n < half for n in numbers), sum(n >= half for n in numbers)) == (base, new)


def test_mixed_classes_are_numbered_in_the_order_drawn():
    rng = generator(2)
    drawn = rng.sample(range(6), 3) + rng.sample(range(6, 12), 3)
    (chosen,) = subsample_classes_ratio([split(12)], "new", 50, generator(2))
    assert names(chosen) == [f"class {n}" for n in drawn]


@pytest.mark.parametrize("subset", ["all", "base"])
def test_ratio_acts_on_new_only(subset):
    lists = (split(9),)
    assert subsample_classes_ratio(lists, subset, 30, generator(1)) == subsample_classes(lists, subset)


@pytest.mark.parametrize("ratio", [-1, 101])
def test_a_ratio_beyond_a_percentage_names_the_key(ratio):
    with pytest.raises(InputError, match=rf"DATASET\.SUBSAMPLE_RATIO is {ratio}.*0\.\.100"):
        subsample_classes_ratio([split(4)], "new", ratio, generator(1))
