"""From a dataset's lists of images to loaders of batches."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils.worker import _generate_state
from torchvision import transforms as T

from ..own.image_cache import ImageCache
from ..utils import read_image
from .datasets import build_dataset
from .samplers import build_sampler
from .transforms import build_transform, interpolation_mode

if TYPE_CHECKING:
    from PIL.Image import Image
    from yacs.config import CfgNode

    from .datasets import Datum


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Callable | Sequence[Callable] | None = None,
    is_train: bool = True,
    dataset_wrapper: type[Dataset] | None = None,
) -> DataLoader:
    """Build a loader.

    A training loader drops an incomplete last batch, unless that is all there is.

    Args:
        cfg: ``DATALOADER`` and ``USE_CUDA`` are read here.
        sampler_type: see :func:`build_sampler`, also for ``n_domain`` and ``n_ins``.
        data_source: the images.
        batch_size: images per batch.
        tfm: transform, or several.
        is_train: training or evaluation.
        dataset_wrapper: used in place of :class:`DatasetWrapper`.

    Raises:
        ValueError: ``data_source`` holds no image.
    """
    if not data_source:
        purpose = "training" if is_train else "evaluation"
        raise ValueError(f"the dataset {cfg.DATASET.NAME!r} has no image for {purpose}")
    sampler = build_sampler(
        sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
    )
    wrapper = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    # A wrapper that reads items in its own way would not reseed its workers.
    keeps_workers = is_train and _reads_as_usual(wrapper) and cfg.DATALOADER.NUM_WORKERS > 0
    return (PersistentLoader if keeps_workers else DataLoader)(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        sampler=sampler,
        batch_size=batch_size,
        drop_last=is_train and len(data_source) >= batch_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=cfg.USE_CUDA and torch.cuda.is_available(),
        persistent_workers=keeps_workers,
    )


def _reads_as_usual(wrapper: type[Dataset]) -> bool:
    return wrapper.__getitem__ is DatasetWrapper.__getitem__


class PersistentLoader(DataLoader):
    """A loader whose workers live on from epoch to epoch, and draw the random numbers that fresh ones would.

    Starting workers takes longer than many a few-shot epoch. Workers that are merely kept draw numbers that depend on
    how many epochs they have lived, so that a resumed run would go on with other augmentations.
    """

    def __iter__(self) -> Iterator[Any]:
        if self._iterator is not None and self._iterator._num_yielded < len(self):
            # The last epoch was left early, and workers may still be busy with it.
            self._iterator = None
        if self._iterator is not None:
            # The draw with which DataLoader seeds fresh workers, here for those that are there.
            self.dataset.worker_seed.random_()
            # Workers that another loader starts for this dataset are seeded by that loader.
            self.dataset.seeded_with = int(self.dataset.worker_seed)
        return super().__iter__()


def _choose_transform(cfg: CfgNode, custom: Any, is_train: bool) -> Any:
    if custom is None:
        return build_transform(cfg, is_train=is_train)
    print(f"* Using custom transform for {'training' if is_train else 'testing'}")
    return custom


class DataManager:
    """The dataset that ``cfg`` names, and its loaders.

    Attributes:
        dataset: the dataset.
        train_loader_x: labelled training images.
        train_loader_u: unlabelled training images, or ``None``.
        val_loader: validation images, or ``None``.
        test_loader: test images.

    Args:
        cfg: configuration.
        custom_tfm_train: transform used in place of the configured one for training.
        custom_tfm_test: the same for evaluation.
        dataset_wrapper: used in place of :class:`DatasetWrapper`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Callable | Sequence[Callable] | None = None,
        custom_tfm_test: Callable | Sequence[Callable] | None = None,
        dataset_wrapper: type[Dataset] | None = None,
    ) -> None:
        self.dataset = build_dataset(cfg)
        tfm_train = _choose_transform(cfg, custom_tfm_train, is_train=True)
        tfm_test = _choose_transform(cfg, custom_tfm_test, is_train=False)

        def train_loader(images: list[Datum], opts: CfgNode) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=opts.SAMPLER,
                data_source=images,
                batch_size=opts.BATCH_SIZE,
                n_domain=opts.N_DOMAIN,
                n_ins=opts.N_INS,
                tfm=tfm_train,
                is_train=True,
                dataset_wrapper=dataset_wrapper,
            )

        def test_loader(images: list[Datum] | None) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=images,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        opts_x, opts_u = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TRAIN_U
        data = self.dataset
        self.train_loader_x = train_loader(data.train_x, opts_x)
        self.train_loader_u = (
            train_loader(data.train_u, opts_x if opts_u.SAME_AS_X else opts_u) if data.train_u else None
        )
        self.val_loader = test_loader(data.val) if data.val else None
        self.test_loader = test_loader(data.test)
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        """Length of ``cfg.DATASET.SOURCE_DOMAINS``, so 0 for datasets without domains."""
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self.dataset.lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print the numbers of classes and images."""
        data = self.dataset
        rows: list[list[Any]] = [["Dataset", cfg.DATASET.NAME]]
        rows += [["Source", cfg.DATASET.SOURCE_DOMAINS]] if cfg.DATASET.SOURCE_DOMAINS else []
        rows += [["Target", cfg.DATASET.TARGET_DOMAINS]] if cfg.DATASET.TARGET_DOMAINS else []
        rows += [["# classes", f"{self.num_classes:,}"]]
        for name in ("train_x", "train_u", "val", "test"):
            images = getattr(data, name)
            rows += [[f"# {name}", f"{len(images):,}"]] if images else []
        print(tabulate(rows))


class DatasetWrapper(Dataset):
    """Reads and transforms one image per index.

    An item is a dict with ``label``, ``domain``, ``impath``, ``index``, and ``img``; with several transforms also
    ``img2``, ``img3``…; under ``DATALOADER.RETURN_IMG0`` also ``img0``, the image without augmentation. Under
    ``DATALOADER.K_TRANSFORMS`` above 1, a training ``img`` is a list of that many independent results.

    Args:
        cfg: ``DATALOADER`` and ``INPUT`` are read.
        data_source: the images.
        transform: one function of a PIL image, or a list of them; ``None`` leaves PIL images, which the default
            collation rejects.
        is_train: training or evaluation.

    Raises:
        ValueError: ``K_TRANSFORMS`` above 1 without a transform.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Callable | Sequence[Callable] | None = None,
        is_train: bool = False,
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.worker_seed = torch.zeros((), dtype=torch.int64).share_memory_()
        self.seeded_with = 0
        self.cache = None
        shared = cfg.DATALOADER.NUM_WORKERS == 0 or multiprocessing.get_start_method() == "fork"
        if is_train and shared and cfg.DATALOADER.CACHE_GB > 0 and _reads_as_usual(type(self)):
            self.cache = ImageCache.that_fits([datum.impath for datum in data_source], cfg.DATALOADER.CACHE_GB * 2**30)
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to apply")
        steps = [T.Resize(cfg.INPUT.SIZE, interpolation=interpolation_mode(cfg)), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(steps)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Return one item.

        Raises:
            FileNotFoundError: the image is missing.
            OSError: it cannot be read. Both name its path.
        """
        self._reseed_worker()
        datum = self.data_source[idx]
        image = read_image(datum.impath) if self.cache is None else self.cache.read(idx)
        item = {"label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx}
        if self.transform is None:
            item["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for number, transform in enumerate(self.transform, start=1):
                item["img" if number == 1 else f"img{number}"] = self._augment(transform, image)
        else:
            item["img"] = self._augment(self.transform, image)
        if self.return_img0:
            item["img0"] = self.to_tensor(image)
        return item

    def _reseed_worker(self) -> None:
        """In the first item of an epoch, seed a kept worker as DataLoader seeds a fresh one."""
        worker, base = get_worker_info(), int(self.worker_seed)
        if worker is None or base == self.seeded_with:
            return
        self.seeded_with = base
        random.seed(base + worker.id)
        torch.manual_seed(base + worker.id)
        np.random.seed(_generate_state(base, worker.id))

    def _augment(self, transform: Callable, image: Image) -> Any:
        if self.k_tfm == 1:
            return transform(image)
        return [transform(image) for _ in range(self.k_tfm)]
