"""Splits from JSON files and class folders, and what is said when the data is not as it should be."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from datasets.fewshot import Item
from datasets.readers import Splits, check_images, cut_classes, read_class_folders, read_split_json
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
        return read_split_json(path, tmp_path / "images")

    return write_and_read


def folders(root: Path, **sizes: int) -> Path:
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for index in range(size):
            (root / name / f"{index:03d}.jpg").touch()
    return root


def test_a_split_file_is_read_in_file_order(read, tmp_path):
    splits = read(CONTENT)
    assert [item.label for item in splits.train] == [1, 0]
    assert splits.test[0] == (str(tmp_path / "images/b/4.jpg"), 1, "sea")


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("<!DOCTYPE html><html>Quota exceeded</html>", "an HTML page"),
        ("", "no valid JSON"),
        ([1, 2], "'train' is missing"),
        ({**CONTENT, "val": None}, "'val' is missing"),
        ({**CONTENT, "test": []}, "'test' is empty"),
        ({**CONTENT, "val": [["a/3.jpg", 0]]}, "row 0 of 'val'"),
        ({**CONTENT, "val": [["a/3.jpg", "first", "forest"]]}, "row 0 of 'val'"),
        ({**CONTENT, "train": [["a/1.jpg", 2, "forest"]]}, r"without gaps, but \[0, 1\]"),
        ({**CONTENT, "test": [["c/4.jpg", 2, "river"]]}, "label 2 is 'river' in 'test' but does not occur"),
        ({**CONTENT, "test": [["b/4.jpg", 1, "lake"]]}, "label 1 is 'lake' in 'test' but is 'sea'"),
    ],
)
def test_a_bad_split_file_is_named_with_its_fault(read, content, complaint):
    with pytest.raises(InputError, match=rf"split_zhou_X\.json.*{complaint}"):
        read(content)


@pytest.mark.parametrize(
    "n, counts",
    [
        (5, (2, 1, 2)),
        (7, (4, 1, 2)),
        (8, (4, 2, 2)),
        (10, (5, 2, 3)),
        (13, (6, 3, 4)),
        (15, (8, 3, 4)),
        (25, (12, 5, 8)),
        (35, (18, 7, 10)),
        (45, (22, 9, 14)),
        (120, (60, 24, 36)),
    ],
)
def test_a_class_is_cut_with_rounding_half_to_even(n, counts):
    items = [Item(str(index), 0, "a") for index in range(n)]
    parts = cut_classes({"a": list(items)}, random.Random(1))
    assert tuple(map(len, parts)) == counts
    assert sorted(sum(parts, [])) == sorted(items)


def test_labels_follow_the_folder_names_and_names_the_renames(tmp_path):
    images = folders(tmp_path, apple=5, Zebra=5, Background=5)
    splits = read_class_folders(images, random.Random(1), ignored=("Background",), renames={"Zebra": "aardvark"})
    assert {(item.label, item.name) for item in splits.train} == {(0, "aardvark"), (1, "apple")}


def test_class_folders_are_cut_in_order_of_sorted_files(tmp_path):
    splits = read_class_folders(folders(tmp_path, a=10, b=10), random.Random(4))
    rng = random.Random(4)
    for part in ("a", "b"):
        files = [f"{index:03d}.jpg" for index in range(10)]
        rng.shuffle(files)
        assert [Path(item.path).name for item in splits.train if item.name == part] == files[:5]


def test_hidden_entries_and_stray_files_are_no_classes(tmp_path):
    images = folders(tmp_path, a=5)
    (images / ".cache").mkdir()
    (images / "readme.txt").touch()
    (images / "a" / ".DS_Store").touch()
    splits = read_class_folders(images, random.Random(1))
    assert {item.name for item in splits.train} == {"a"}
    assert sum(map(len, splits)) == 5


def test_a_class_too_small_to_cut_is_named(tmp_path):
    with pytest.raises(InputError, match="tiny_class has 3 images, too few"):
        read_class_folders(folders(tmp_path, a=5, tiny_class=3), random.Random(1))


def test_an_image_folder_without_classes_is_named(tmp_path):
    with pytest.raises(InputError, match="no class folders"):
        read_class_folders(tmp_path, random.Random(1))


def test_missing_images_are_noticed_without_looking_at_each(tmp_path, read):
    splits = read(CONTENT)
    with pytest.raises(InputError, match=r"images/b/2\.jpg does not exist.*'train'"):
        check_images(splits, "split.json")
    for items in splits:
        for item in items:
            Path(item.path).parent.mkdir(parents=True, exist_ok=True)
            Path(item.path).touch()
    check_images(splits, "split.json")
