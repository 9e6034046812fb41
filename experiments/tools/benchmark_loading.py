"""The work of `scripts/tools/benchmark_loading.py`: photographs, their loaders, and seconds per epoch."""

from __future__ import annotations

import contextlib
import io
import tempfile
import timeit
from collections import deque
from pathlib import Path

import minidassl  # noqa: F401  # isort: skip  (first: answers to the name "dassl")
from minidassl.data import build_data_loader
from minidassl.data.datasets import Datum
from minidassl.data.transforms import build_transform

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from trainers.config import default_cfg
from trainers.prompting.recipes import CONFIGS, read_merged

IMAGES, EPOCHS = 160, 3
WIDTH, HEIGHT, BLOCK, NOISE, QUALITY = 500, 375, 16, 12, 90


def write_photos(folder: Path) -> list[Datum]:
    """Smooth colours with some noise: about the file size of a photograph."""
    random = np.random.default_rng(0)
    photos = []
    for index in tqdm(range(IMAGES), desc="writing images"):
        small = random.integers(0, 256, (HEIGHT // BLOCK, WIDTH // BLOCK, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.BICUBIC), dtype=np.float32)
        pixels = (smooth + random.normal(0, NOISE, smooth.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{index}.jpg"
        Image.fromarray(pixels).save(path, quality=QUALITY)
        photos.append(Datum(str(path), label=index % 2))
    return photos


def make_loader(photos: list[Datum], workers: int, cached: bool, kept: bool) -> DataLoader:
    cfg = default_cfg()
    for name in ("clip_vit_b16", "few_shot"):
        cfg.merge_from_other_cfg(CfgNode(read_merged(CONFIGS / "base" / f"{name}.yaml")))
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.CACHE_GB = cfg.DATALOADER.CACHE_GB if cached else 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        transform = build_transform(cfg)
    options = cfg.DATALOADER.TRAIN_X
    loader = build_data_loader(cfg, options.SAMPLER, photos, options.BATCH_SIZE, tfm=transform, is_train=True)
    if kept:
        return loader
    return DataLoader(loader.dataset, options.BATCH_SIZE, sampler=loader.sampler, drop_last=True, num_workers=workers)


def seconds_per_epoch(loader: DataLoader) -> float:
    taken = timeit.repeat(lambda: deque(loader, maxlen=0), number=1, repeat=1 + EPOCHS)
    return min(taken[1:])


def run() -> None:
    """Measure, and print the table."""
    # As in a loader's worker.
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder))
        for workers, kept in ((0, True), (2, False), (2, True), (8, False), (8, True)):
            for cached in (False, True):
                seconds = seconds_per_epoch(make_loader(photos, workers, cached, kept))
                state = ("kept" if kept else "fresh") if workers else ""
                rows.append([workers, state, "memory" if cached else "files", seconds, IMAGES / seconds])
    headers = ["workers", "", "images from", "seconds per epoch", "images per second"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", "", "", ".3f", ".0f")))
