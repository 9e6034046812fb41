"""The dataset registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...utils.registry import Registry, check_availability

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """Build the dataset that ``cfg.DATASET.NAME`` names.

    Raises:
        ValueError: no such dataset is registered; a dataset registers when its module is imported.
    """
    name = cfg.DATASET.NAME
    check_availability(name, DATASET_REGISTRY.registered_names(), "DATASET.NAME")
    if cfg.VERBOSE:
        print(f"Loading dataset: {name}")
    return DATASET_REGISTRY.get(name)(cfg)
