"""`Digits`: scikit-learn's handwritten digits as image files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from yacs.config import CfgNode

import datasets
from datasets.builtin import digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    build(root)
    return root


def build(root: object, subset: str = "all", shots: int = -1):
    dataset = CfgNode({"ROOT": str(root), "NUM_SHOTS": shots, "SUBSAMPLE_CLASSES": subset})
    return datasets.DATASET_REGISTRY.get("Digits")(CfgNode({"SEED": 1, "DATASET": dataset}))


def test_every_digit_is_stored_once_with_its_grey_levels(root):
    source = load_digits()
    files = sorted((root / "digits" / "images").rglob("*.png"))
    assert len(files) == len(source.images)
    for file in files[::50]:
        index = int(file.stem)
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert np.array_equal(np.asarray(image), np.round(source.images[index] * 255 / 16))
        assert file.parent.name == NAMES[source.target[index]]


def test_the_splits_share_no_image_and_lose_none(root):
    dataset = build(root)
    paths = [item.impath for items in (dataset.train_x, dataset.val, dataset.test) for item in items]
    assert len(paths) == len(set(paths)) == 1797
    counts = np.bincount([item.label for item in dataset.train_x])
    assert [len(dataset.train_x), len(dataset.val), len(dataset.test)] == [898, 359, 540]
    assert counts.min() >= 87


def test_base_is_zero_to_four_and_new_is_five_to_nine(root):
    assert build(root).classnames == NAMES
    assert build(root, "base").classnames == NAMES[:5]
    assert build(root, "new", shots=1).classnames == NAMES[5:]


def test_writing_again_gives_the_same_split(root, tmp_path):
    digits.write(tmp_path, "split.json")
    written = json.loads((root / "digits" / "split_zhou_Digits.json").read_text())
    assert json.loads((tmp_path / "split.json").read_text()) == written


def test_without_a_root_the_data_goes_into_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "REPOSITORY", tmp_path)
    assert build("").dataset_dir == str(tmp_path / "data" / "digits")
