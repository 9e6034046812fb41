"""`Digits`: scikit-learn's handwritten digits as image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from test_datasets_registered import build

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_every_digit_is_stored_once_with_its_grey_levels(data_root):
    dataset, source = build("Digits", data_root), load_digits()
    files = sorted((Path(dataset.dataset_dir) / "images").rglob("*.png"))
    assert len(files) == len(source.images)
    for file in files[::50]:
        index = int(file.stem)
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert np.array_equal(np.asarray(image), np.round(source.images[index] * 255 / 16))
        assert file.parent.name == NAMES[source.target[index]]


def test_the_splits_share_no_image_and_lose_none(data_root):
    dataset = build("Digits", data_root)
    splits = (dataset.train_x, dataset.val, dataset.test)
    assert [len(items) for items in splits] == [898, 359, 540]
    assert len({item.impath for items in splits for item in items}) == 1797
    assert dataset.classnames == NAMES
    assert np.bincount([item.label for item in dataset.train_x]).min() >= 87
