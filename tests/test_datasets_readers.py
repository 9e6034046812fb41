"""Splits from JSON files, cuts of classes, and what is said when the data is not as it should be."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from datasets.fewshot import Item, Splits
from datasets.readers import check_images, check_splits, cut_classes, read_split_json, read_text
from trainers.prompting.errors import InputError

CONTENT = {
    "train": [["b/2.jpg", 1, "sea"], ["a/1.jpg", 0, "forest"]],
    "val": [["a/3.jpg", 0, "forest"]],
    "test": [["b/4.jpg", 1, "sea"]],
}


@pytest.fixture
def read(tmp_path):
    """Write the given content or text as a split file and read it."""

    def write_and_read(content: object) -> Splits:
        path = tmp_path / "split_zhou_X.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        images = tmp_path / "images"
        return check_splits(read_split_json(path, images), str(path), images)

    return write_and_read


def test_a_split_file_is_read_in_file_order(read, tmp_path):
    splits = read(CONTENT)
    assert [item.label for item in splits.train] == [1, 0]
    assert splits.test[0] == (str(tmp_path / "images/b/4.jpg"), 1, "sea")


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("<!DOCTYPE html><html>Quota exceeded</html>", "an HTML page"),
        ("", "no valid JSON"),
        ([1, 2], "no list of images 'train'"),
        ({**CONTENT, "val": None}, "no list of images 'val'"),
        ({**CONTENT, "test": []}, "no list of images 'test'"),
        ({**CONTENT, "val": [["a/3.jpg", 0]]}, "row 0 of 'val'"),
        ({**CONTENT, "val": [["a/3.jpg", "first", "forest"]]}, "row 0 of 'val'"),
        ({**CONTENT, "train": [["a/1.jpg", 2, "forest"]]}, "without gaps, but there are 1, without 0, and with 2"),
        ({**CONTENT, "test": [["c/4.jpg", 2, "river"]]}, "label 2 is 'river' in 'test' but does not occur"),
        ({**CONTENT, "test": [["b/4.jpg", 1, "lake"]]}, "label 1 is 'lake' in 'test' but is 'sea'"),
    ],
)
def test_a_bad_split_file_is_named_with_its_fault(read, content, complaint):
    with pytest.raises(InputError, match=rf"split_zhou_X\.json.*{complaint}"):
        read(content)


def images(number: int) -> list[Item]:
    return [Item(str(index), 0, "tiny class") for index in range(number)]


@pytest.mark.parametrize("number, counts", [(5, (2, 1, 2)), (7, (4, 1, 2)), (15, (8, 3, 4)), (25, (12, 5, 8))])
def test_a_class_is_cut_with_rounding_half_to_even(number, counts):
    parts = cut_classes(images(number), random.Random(1), 0.5, 0.2)
    assert tuple(map(len, parts)) == counts
    shuffled = images(number)
    random.Random(1).shuffle(shuffled)
    assert sum(parts, []) == shuffled


@pytest.mark.parametrize("number, shares", [(3, (0.5, 0.2)), (2, (0.2,))])
def test_a_class_too_small_to_cut_is_named(number, shares):
    with pytest.raises(
        InputError, match=f"'tiny class' has {number} images, too few .* until it has {number + 1} or more"
    ):
        cut_classes(images(number), random.Random(1), *shares)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: None, "{path} is not there; download it and put it there"),
        (lambda path: path.mkdir(), "{path} cannot be read: Is a directory; check its permissions, and the disk"),
        (lambda path: path.write_bytes(b"\xff\xfe1"), "{path} is no text in UTF-8; download it again"),
    ],
    ids=["missing", "unreadable", "other bytes"],
)
def test_the_remedy_of_a_list_that_cannot_be_read_fits_its_fault(tmp_path, spoil, words):
    path = tmp_path / "list.txt"
    spoil(path)
    with pytest.raises(InputError) as error:
        read_text(path)
    assert str(error.value).startswith(words.format(path=path)) and "Errno" not in str(error.value)


def test_missing_images_are_noticed_without_looking_at_each(tmp_path, read):
    splits = read(CONTENT)
    with pytest.raises(InputError, match=r"images/b/2\.jpg does not exist.*'train'"):
        check_images(splits, "split.json")
    for items in splits:
        for item in items:
            Path(item.path).parent.mkdir(parents=True, exist_ok=True)
            Path(item.path).touch()
    check_images(splits, "split.json")
