"""Folders of images named after their classes, and the preprocessing, which is the trainers'."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.data.transforms import build_transform

import numpy as np
import pytest
import torch
from PIL import Image

from trainers.prompting.api.images import evaluation_transform, open_image, read_image_folder, training_transform
from trainers.prompting.errors import InputError


def write_image(path, size=(8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)


def test_each_folder_is_a_class_and_only_images_count(tmp_path):
    for name in ("sea lion/2.png", "sea lion/1.JPG", "sea lion/deeper/3.webp", "cat/1.png", ".git/1.png"):
        write_image(tmp_path / name)
    (tmp_path / "cat" / "readme.txt").write_text("")
    (tmp_path / "list.csv").write_text("")
    write_image(tmp_path / "cat" / ".thumbnail.png")
    images, labels = read_image_folder(tmp_path)
    names = ["cat/1.png", "sea lion/1.JPG", "sea lion/2.png", "sea lion/deeper/3.webp"]
    assert images == [str(tmp_path / name) for name in names]
    assert labels == ["cat", "sea lion", "sea lion", "sea lion"]


def test_a_folder_without_classes_or_images_is_named(tmp_path):
    with pytest.raises(InputError, match="There is no folder '/no/such'"):
        read_image_folder("/no/such")
    with pytest.raises(InputError, match="has no folders; it needs one of images for each class"):
        read_image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="cat' has no images .*move it elsewhere") as error:
        read_image_folder(tmp_path)
    assert "delete" not in str(error.value)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_file_becomes_rgb(mode, tmp_path):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (8, 6)).save(path)
    assert (open_image(path).mode, open_image(path).size) == ("RGB", (8, 6))


@pytest.mark.parametrize("size", [(50, 31), (20, 64), (32, 32)])
@pytest.mark.parametrize("flip", [True, False])
def test_preprocessing_is_that_of_the_trainers(flip, size, tmp_path):
    write_image(tmp_path / "image.png", size)
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (32, 32)
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.PIXEL_MEAN = [0.48145466, 0.4578275, 0.40821073]
    cfg.INPUT.PIXEL_STD = [0.26862954, 0.26130258, 0.27577711]
    cfg.INPUT.TRANSFORMS = ["random_resized_crop", *(["random_flip"] if flip else []), "normalize"]
    image = open_image(tmp_path / "image.png")
    assert torch.equal(evaluation_transform(32)(image), build_transform(cfg, is_train=False)(image))
    ours, theirs = training_transform(32, cfg.INPUT.RRCROP_SCALE, flip), build_transform(cfg, is_train=True)
    for seed in range(4):
        results = []
        for transform in (ours, theirs):
            torch.manual_seed(seed)
            results.append(transform(image))
        assert torch.equal(*results)
