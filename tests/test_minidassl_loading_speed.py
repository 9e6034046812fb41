"""What makes loading fast changes no pixel: images kept in memory, worker processes kept between epochs."""

from __future__ import annotations

import pickle
import random

from minidassl.config import get_cfg_default
from minidassl.data import DatasetWrapper, build_data_loader
from minidassl.data.datasets import Datum
from minidassl.data.transforms import build_transform
from minidassl.own.image_cache import ImageCache
from minidassl.own.persistent_loader import PersistentLoader

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Datum]:
    """JPEG, PNG with a palette and grey images of different sizes, in noise that no two share."""
    folder, noise, data = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), []
    for number, (mode, suffix) in enumerate([("RGB", "jpg"), ("P", "png"), ("L", "jpg"), ("RGBA", "png")] * 3):
        path = folder / f"{number}.{suffix}"
        pixels = noise.integers(0, 256, (20 + number, 30 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
        data.append(Datum(str(path), label=number % 3))
    return data


def make_cfg(workers: int = 0, cache: float = 2.0):
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (8, 8)
    # They draw from torch, random and, where a square is cut out, numpy.
    cfg.INPUT.TRANSFORMS, cfg.INPUT.RANDAUGMENT_N = ("random_flip", "randaugment"), 12
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.CACHE_GB = cache
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
    cfg.USE_CUDA = False
    return cfg


def make_loader(cfg, photos) -> DataLoader:
    return build_data_loader(cfg, "RandomSampler", photos, batch_size=4, tfm=build_transform(cfg), is_train=True)


def epochs(loader, number: int, seed: int | None = 3) -> list[torch.Tensor]:
    if seed is not None:
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    return [torch.cat([batch["img"] for batch in loader]) for _ in range(number)]


def test_kept_workers_draw_what_fresh_ones_would(photos):
    cfg = make_cfg(workers=2)
    kept, dataset = make_loader(cfg, photos), DatasetWrapper(cfg, photos, build_transform(cfg), is_train=True)
    assert isinstance(kept, PersistentLoader)
    fresh = DataLoader(dataset, batch_size=4, shuffle=True, drop_last=True, num_workers=2)
    torch.testing.assert_close(epochs(kept, 3), epochs(fresh, 3), rtol=0, atol=0)


def test_another_loader_over_the_same_images_seeds_its_own_workers(photos):
    kept = make_loader(make_cfg(workers=2), photos)
    epochs(kept, 3)
    other = DataLoader(kept.dataset, batch_size=4, num_workers=2)
    first, second = epochs(other, 2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("left_early", [False, True])
def test_a_loader_that_begins_in_a_later_epoch_goes_on_as_the_first_would_have(photos, left_early):
    cfg = make_cfg(workers=2)
    loader = make_loader(cfg, photos)
    epochs(loader, 1)
    if left_early:
        next(iter(loader))
    state, later = torch.get_rng_state(), epochs(loader, 1, seed=None)
    torch.set_rng_state(state)
    torch.testing.assert_close(epochs(make_loader(cfg, photos), 1, seed=None), later, rtol=0, atol=0)


def test_evaluation_starts_fresh_workers_and_keeps_no_images(photos):
    loader = build_data_loader(make_cfg(workers=1), data_source=photos, is_train=False)
    assert not isinstance(loader, PersistentLoader) and loader.dataset.cache is None


@pytest.mark.parametrize("workers", [0, 2])
def test_images_from_memory_equal_those_from_files(photos, workers):
    cached, read = (make_loader(make_cfg(workers, cache), photos) for cache in (2.0, 0.0))
    assert cached.dataset.cache and not read.dataset.cache
    torch.testing.assert_close(epochs(cached, 3), epochs(read, 3), rtol=0, atol=0)


def test_a_file_is_decoded_once_whichever_worker_reads_it_first(photos, tmp_path):
    copies = [Datum(str(tmp_path / f"{number}.png"), label=0) for number in range(8)]
    for datum in copies:
        Image.new("RGB", (9, 9), (50, 0, 0)).save(datum.impath)
    cfg = make_cfg(workers=2)
    cfg.INPUT.TRANSFORMS = ("random_flip",)
    loader = make_loader(cfg, copies)
    first = epochs(loader, 1)
    for datum in copies:
        Image.new("RGB", (9, 9), (250, 250, 250)).save(datum.impath)
    later = epochs(loader, 2, seed=None)
    assert max(epoch.max() for epoch in [*first, *later]) == pytest.approx(50 / 255)


def test_images_that_do_not_fit_are_read_from_their_files(photos):
    paths = [datum.impath for datum in photos]
    needed = sum(3 * width * height for width, height in ImageCache.that_fits(paths, 1e9).sizes)
    assert ImageCache.that_fits(paths, needed) is not None
    assert ImageCache.that_fits(paths, needed - 1) is None
    assert make_loader(make_cfg(cache=(needed - 1) / 2**30), photos).dataset.cache is None


def test_a_process_that_was_not_forked_reads_the_files(photos):
    cache = ImageCache.that_fits([datum.impath for datum in photos], 1e9)
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.buffer is None
    assert copy.read(1).tobytes() == cache.read(1).tobytes() == cache.read(1).tobytes()


def test_an_image_that_changes_its_size_is_read_and_not_kept(tmp_path):
    path = str(tmp_path / "image.png")
    Image.new("RGB", (4, 4)).save(path)
    cache = ImageCache.that_fits([path], 1e9)
    Image.new("RGB", (6, 5)).save(path)
    assert cache.read(0).size == cache.read(0).size == (6, 5)


def test_a_missing_image_is_named_before_training(photos):
    with pytest.raises(FileNotFoundError, match="gone.png"):
        make_loader(make_cfg(), [*photos, Datum("gone.png", label=0)])
