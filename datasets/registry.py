"""Registers every data set of `table.py` with Dassl, under CoOp's names.

A data set is built as `CLASS(cfg)` and reads `DATASET.ROOT`, `NUM_SHOTS`, `SUBSAMPLE_CLASSES`, `USE_RATIO`,
`SUBSAMPLE_RATIO` and `SEED`. All checks of the data on disk happen there, before any training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import minidassl  # noqa: F401  # isort: skip  (first: makes `dassl` importable where upstream is not installed)
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

from . import few_shot, list_images, locate, select
from .fewshot import Item
from .readers import check_images, missing_image, without_broken
from .table import ROWS, Row


class TableDataset(DatasetBase):
    """The data set of one row: splits, then shots, then classes, in CoOp's order."""

    row: Row

    def __init__(self, cfg: Any):
        folder = locate(self.row, cfg.DATASET.ROOT)
        self.dataset_dir = str(folder)
        splits, source = list_images(self.row, folder)
        check_images(splits, source)
        # As in CoOp, sets for tests alone keep all images and classes.
        if not self.test_only:
            splits = select(few_shot(self.row, folder, splits, cfg.DATASET.NUM_SHOTS, cfg.SEED), cfg)
        if cfg.DATASET.get("SKIP_BROKEN", False):
            splits = without_broken(splits, self.dataset_dir)
        train, val, test = ([_datum(item, self.row.name) for item in items] for items in splits)
        super().__init__(train_x=train, val=val or None, test=test)


def _datum(item: Item, source: str) -> Datum:
    try:
        return Datum(impath=item.path, label=item.label, classname=item.name)
    except AssertionError as error:  # upstream's check that the file exists, which has no message
        raise missing_image(item.path, source) from error


def register(rows: Iterable[Row]) -> None:
    """Register a class per row, unless its name is taken.

    In a CoOp checkout its own classes may be registered already; they read the same files.
    """
    for row in rows:
        if row.name not in DATASET_REGISTRY.registered_names():
            attributes = {"row": row, "dataset_dir": row.folder, "test_only": row.test_only, "__module__": __name__}
            DATASET_REGISTRY.register(type(row.name, (TableDataset,), attributes))


register(ROWS)
