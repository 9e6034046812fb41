"""Data sets, transforms and loaders."""

from .data_manager import DataManager, DatasetWrapper, build_data_loader
from .datasets import DATASET_REGISTRY, build_dataset
from .transforms import build_transform

__all__ = [
    "DATASET_REGISTRY",
    "DataManager",
    "DatasetWrapper",
    "build_data_loader",
    "build_dataset",
    "build_transform",
]
