"""Datasets: the registry, one image's description, and the base class."""

from ...utils import Registry
from .base_dataset import DatasetBase, Datum

DATASET_REGISTRY = Registry("DATASET")
build_dataset = DATASET_REGISTRY.build

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset"]
