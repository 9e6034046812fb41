"""Loaders, items and the order of images."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.data import DatasetWrapper, build_data_loader
from minidassl.data.data_manager import DataManager, build_sampler
from minidassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

import numpy as np
import pytest
import torch
from PIL import Image


def make_cfg(**options):
    cfg = get_cfg_default()
    cfg.DATASET.NAME = "ColouredTiles"
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.SIZE = (6, 4)
    cfg.USE_CUDA = False
    cfg.merge_from_list([part for key, value in options.items() for part in (key.replace("__", "."), value)])
    return cfg


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> list[Datum]:
    """Seven one-colour images in three classes."""
    folder = tmp_path_factory.mktemp("tiles")
    data = []
    for number, label in enumerate([0, 1, 2, 0, 1, 2, 0]):
        path = folder / f"{number}.png"
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(path)
        data.append(Datum(path, label, domain=number % 2, classname=f"colour {label}"))
    return data


@pytest.fixture
def registered(tiles, monkeypatch):
    class ColouredTiles(DatasetBase):
        def __init__(self, cfg):
            super().__init__(train_x=tiles, val=tiles[:3], test=tiles * 200)

    monkeypatch.setattr(DATASET_REGISTRY, "_objects", {})
    DATASET_REGISTRY.register(ColouredTiles)


def red(image: torch.Tensor) -> int:
    """Number of the tile that an image [3, height, width] shows."""
    return round(image[0].mean().item() * 255 / 30)


# ------------------------------------------------------------------------------------------------------------ items


def test_an_item_carries_label_domain_path_index_and_image_in_this_order(tiles):
    item = DatasetWrapper(make_cfg(), tiles, transform=lambda image: "tensor")[4]
    assert list(item.items()) == [
        ("label", 1),
        ("domain", 0),
        ("impath", tiles[4].impath),
        ("index", 4),
        ("img", "tensor"),
    ]


def test_a_training_image_can_be_augmented_k_times(tiles):
    cfg = make_cfg(DATALOADER__K_TRANSFORMS=3)
    counter = iter(range(10))
    assert DatasetWrapper(cfg, tiles, lambda image: next(counter), is_train=True)[0]["img"] == [0, 1, 2]
    assert DatasetWrapper(cfg, tiles, lambda image: next(counter), is_train=False)[0]["img"] == 3
    with pytest.raises(ValueError, match="K_TRANSFORMS is 3"):
        DatasetWrapper(cfg, tiles, None, is_train=True)


# ---------------------------------------------------------------------------------------------------------- loaders


def to_array(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def test_a_batch_is_collated_into_tensors_and_a_list_of_paths(tiles):
    batch = next(iter(build_data_loader(make_cfg(), data_source=tiles, batch_size=3, tfm=to_array)))
    assert batch["img"].shape == (3, 3, 8, 8)
    assert all(batch[key].dtype == torch.int64 and batch[key].shape == (3,) for key in ("label", "domain", "index"))
    assert batch["impath"] == [tile.impath for tile in tiles[:3]]
    assert [red(image) for image in batch["img"]] == [0, 1, 2]


@pytest.mark.parametrize(
    "n_images, batch_size, is_train, batches",
    [(7, 4, True, 1), (7, 4, False, 2), (3, 4, True, 1), (3, 4, False, 1), (4, 4, True, 1)],
)
def test_training_drops_an_incomplete_batch_unless_it_is_the_only_one(tiles, n_images, batch_size, is_train, batches):
    loader = build_data_loader(
        make_cfg(), data_source=tiles[:n_images], batch_size=batch_size, tfm=to_array, is_train=is_train
    )
    assert len(loader) == batches == len(list(loader))


@pytest.mark.parametrize("is_train, purpose", [(True, "training"), (False, "evaluation")])
@pytest.mark.parametrize("data_source", [None, []])
def test_a_loader_without_images_says_so(is_train, purpose, data_source):
    with pytest.raises(ValueError, match=f"'ColouredTiles' has no image for {purpose}"):
        build_data_loader(make_cfg(), data_source=data_source, is_train=is_train)


def test_the_manager_builds_all_loaders_and_prints_a_summary(registered, capsys):
    cfg = make_cfg(DATALOADER__TRAIN_X__BATCH_SIZE=2, DATALOADER__TEST__BATCH_SIZE=5)
    manager = DataManager(cfg)
    assert len(manager.train_loader_x) == 3
    assert (len(manager.val_loader), len(manager.test_loader)) == (1, 280)
    assert manager.num_classes == 3
    out = capsys.readouterr().out
    assert out.index("Loading dataset") < out.index("transform_train") < out.index("transform_test")
    summary = [line.split(maxsplit=2) for line in out.splitlines() if line.startswith(("Dataset", "#"))]
    assert summary == [
        ["Dataset", "ColouredTiles"],
        ["#", "classes", "3"],
        ["#", "train_x", "7"],
        ["#", "val", "3"],
        ["#", "test", "1,400"],
    ]


# --------------------------------------------------------------------------------------------------------- samplers


def test_the_order_of_training_images_comes_from_torchs_generator(tiles):
    torch.manual_seed(7)
    first = list(build_sampler("RandomSampler", data_source=tiles))
    torch.manual_seed(7)
    assert list(build_sampler("RandomSampler", data_source=tiles)) == first
    assert sorted(first) == list(range(7)) == list(build_sampler("SequentialSampler", data_source=tiles))


def test_an_unknown_order_names_the_key_and_the_choices(tiles):
    with pytest.raises(ValueError, match="SAMPLER is 'RandomClassSampler'; choose one of RandomSampler"):
        build_sampler("RandomClassSampler", tiles)
