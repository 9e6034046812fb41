"""One row per data set: what it is called, where it lies, and where its splits come from.

Folders, file names and class-name renames are CoOp's. A new data set is a new row here and a file
`configs/datasets/<name>.yaml`; one that needs another reader brings a function beside those of `readers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .builtin import digits, symbols


@dataclass(frozen=True)
class Row:
    """A data set of three splits, at `<DATASET.ROOT>/<folder>`."""

    name: str  # in Dassl's registry, and in the name of the split JSON
    folder: str
    images: str = "images"  # folder of the images below `folder`; "." when it is `folder` itself
    class_folders: bool = False  # without a split JSON, `images` has a folder per class to be cut 50/20/30
    ignored: tuple[str, ...] = ()  # class folders that are left out
    renames: Mapping[str, str] = field(default_factory=dict)  # class folder to class name
    write: Callable[[Path, str], None] | None = None  # a built-in set: fills its folder, split file included

    @property
    def split_file(self) -> str:
        return f"split_zhou_{self.name}.json"


ROWS = (
    Row(
        "Caltech101",
        "caltech-101",
        "101_ObjectCategories",
        class_folders=True,
        ignored=("BACKGROUND_Google", "Faces_easy"),
        renames={"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"},
    ),
    Row("OxfordPets", "oxford_pets"),
    Row("StanfordCars", "stanford_cars", "."),
    Row("OxfordFlowers", "oxford_flowers", "jpg"),
    Row("Food101", "food-101", class_folders=True),
    Row("SUN397", "sun397", "SUN397"),
    Row("DescribableTextures", "dtd", class_folders=True),
    Row(
        "EuroSAT",
        "eurosat",
        "2750",
        class_folders=True,
        renames={
            "AnnualCrop": "Annual Crop Land",
            "Forest": "Forest",
            "HerbaceousVegetation": "Herbaceous Vegetation Land",
            "Highway": "Highway or Road",
            "Industrial": "Industrial Buildings",
            "Pasture": "Pasture Land",
            "PermanentCrop": "Permanent Crop Land",
            "Residential": "Residential Buildings",
            "River": "River",
            "SeaLake": "Sea or Lake",
        },
    ),
    Row("UCF101", "ucf101", "UCF-101-midframes"),
    Row("Digits", "digits", write=digits.write),
    *(Row(name, folder, write=write) for name, folder, write in symbols.VARIANTS),
)
