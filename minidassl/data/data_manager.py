"""Loaders of batches from a dataset's lists of images.

Differences from upstream: training loaders keep their workers; training images stay in memory if they fit; there are
no unlabelled images, no images without augmentation (``img0``), and only the samplers that the supported projects
configure.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler

from ..own.image_cache import ImageCache
from ..own.persistent_loader import PersistentLoader, WorkerSeed
from ..utils import read_image
from .datasets import build_dataset
from .transforms import build_transform

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from .datasets import Datum

SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(sampler_type: str, data_source: Sequence[Datum]) -> Sampler:
    """Build a sampler; an unknown ``sampler_type`` is a ``ValueError``."""
    if sampler_type not in SAMPLERS:
        raise ValueError(
            f"DATALOADER.TRAIN_X.SAMPLER or DATALOADER.TEST.SAMPLER is {sampler_type!r}; choose one of "
            f"{', '.join(SAMPLERS)}"
        )
    return SAMPLERS[sampler_type](data_source)


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    tfm: Callable | None = None,
    is_train: bool = True,
) -> DataLoader:
    """Build a loader of ``data_source``; a ``ValueError`` if that is empty.

    A training loader drops an incomplete last batch, unless it is the only one.
    """
    if not data_source:
        purpose = "training" if is_train else "evaluation"
        raise ValueError(f"the dataset {cfg.DATASET.NAME!r} has no image for {purpose}")
    keeps_workers = is_train and cfg.DATALOADER.NUM_WORKERS > 0
    return (PersistentLoader if keeps_workers else DataLoader)(
        DatasetWrapper(cfg, data_source, transform=tfm, is_train=is_train),
        sampler=build_sampler(sampler_type, data_source),
        batch_size=batch_size,
        drop_last=is_train and len(data_source) >= batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=cfg.USE_CUDA and torch.cuda.is_available(),
        persistent_workers=keeps_workers,
    )


class DataManager:
    """The dataset that ``cfg`` names, and its loaders; ``val_loader`` is ``None`` without validation images."""

    def __init__(self, cfg: CfgNode) -> None:
        data = self.dataset = build_dataset(cfg)
        tfm_train, tfm_test = build_transform(cfg, is_train=True), build_transform(cfg, is_train=False)

        def loader(images: list[Datum] | None, opts: CfgNode, is_train: bool) -> DataLoader:
            tfm = tfm_train if is_train else tfm_test
            return build_data_loader(cfg, opts.SAMPLER, images, opts.BATCH_SIZE, tfm, is_train)

        self.train_loader_x = loader(data.train_x, cfg.DATALOADER.TRAIN_X, is_train=True)
        self.val_loader = loader(data.val, cfg.DATALOADER.TEST, is_train=False) if data.val else None
        self.test_loader = loader(data.test, cfg.DATALOADER.TEST, is_train=False)
        self.num_classes = data.num_classes
        if cfg.VERBOSE:
            rows = [("Dataset", cfg.DATASET.NAME)]
            rows += [("Source", cfg.DATASET.SOURCE_DOMAINS), ("Target", cfg.DATASET.TARGET_DOMAINS)]
            rows += [("# classes", f"{self.num_classes:,}")]
            for name in ("train_x", "val", "test"):
                images = getattr(data, name)
                rows += [(f"# {name}", images and f"{len(images):,}")]
            print(tabulate([row for row in rows if row[1]]))


class DatasetWrapper(Dataset):
    """Reads and transforms one image per index.

    An item is a dict with ``label``, ``domain``, ``impath``, ``index``, and ``img``, a PIL image without a
    ``transform``. Under ``DATALOADER.K_TRANSFORMS`` above 1, a training ``img`` is a list of that many results.
    """

    def __init__(
        self, cfg: CfgNode, data_source: Sequence[Datum], transform: Callable | None = None, is_train: bool = False
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to apply")
        self.worker_seed = WorkerSeed()
        self.cache = None
        shared = cfg.DATALOADER.NUM_WORKERS == 0 or multiprocessing.get_start_method() == "fork"
        if is_train and shared and cfg.DATALOADER.CACHE_GB > 0:
            self.cache = ImageCache.that_fits([datum.impath for datum in data_source], cfg.DATALOADER.CACHE_GB * 2**30)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """One item; a missing or broken image is a ``FileNotFoundError`` or ``OSError`` that names its path."""
        self.worker_seed.apply()
        datum = self.data_source[idx]
        image = read_image(datum.impath) if self.cache is None else self.cache.read(idx)
        if self.transform is not None:
            views = [self.transform(image) for _ in range(self.k_tfm)]
            image = views if self.k_tfm > 1 else views[0]
        return {"label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx, "img": image}
