"""One row per data set: its name, its folder, and the source of its splits.

Folders, file names and class-name renames are CoOp's. A new data set is a row here and a file
`configs/datasets/<name>.yaml`; a new layout is a function of `layouts.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from . import layouts
from .builtin import digits, icons, symbols
from .fewshot import Splits


@dataclass(frozen=True)
class Row:
    """A data set of three splits, at `<DATASET.ROOT>/<folder>`."""

    name: str  # in Dassl's registry, and in the name of the split JSON
    folder: str
    images: str = "images"  # folder of the images below `folder`; "." when it is `folder` itself
    derive: Callable[[Path, Path, random.Random], Splits] | None = None  # reads the splits without a split JSON
    has_split_file: bool = True  # a split JSON is used if it exists; CoOp publishes those of its data sets
    split: str = ""  # the split JSON's name, where it is not CoOp's
    test_only: bool = False  # all images are test images, and the training list, where Dassl reads class names
    val_is_test: bool = False
    one_name_twice: bool = False  # CLIP's names of ImageNet have "missile" and "sunglasses" twice
    write: Callable[[Path, str], None] | None = None  # a built-in set: fills its folder, including the split file
    # Classes, and images of train, val and test, by the CoOp paper and the data sets' own pages; given for the sets of
    # the field's tables.
    published: tuple[int, int, int, int] | None = None
    # Classes, and images in all, by the data set's own page; given where nobody publishes splits.
    total: tuple[int, int] | None = None
    remote_sensing: bool = False  # aerial and satellite images, whose averages are their own
    domain_of: str = ""  # data set of the models that domain generalization tests here

    @property
    def split_file(self) -> str:
        return self.split or f"split_zhou_{self.name}.json"


_without_split_file = partial(Row, has_split_file=False)
_imagenet = partial(_without_split_file, one_name_twice=True)
_variant_of_imagenet = partial(_imagenet, derive=layouts.imagenet_variant, test_only=True, domain_of="ImageNet")
# Of remote sensing, BMIP's authors publish YAML files, and their loaders in compiled form alone. Folders, names of
# split files and class names are those of the loaders, but for UCM, RSITMD and NaSCTG2, which have none.
_AREAS = {
    "center": "center area",
    "commercial": "commercial area",
    "commerical": "commercial area",  # as the authors spell the folder
    "dense residential": "dense residential area",
    "industrial": "industrial area",
    "medium residential": "medium residential area",
    "residential": "residential area",
    "sparse residential": "sparse residential area",
}
# As the names of their images have the classes of RSICD and RSITMD.
_JOINED = {
    "bareland": "bare land",
    "baseballfield": "baseball field",
    "basketballcourt": "basketball court",
    "denseresidential": "dense residential area",
    "mediumresidential": "medium residential area",
    "railwaystation": "railway station",
    "sparseresidential": "sparse residential area",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}
_BENCHMARK = {"parkinglot": "parking lot", "sandbeach": "sand beach"}


def _scenes(
    name: str, *, folder: str = "", images: str = "images", renames: dict[str, str] | None = None, **facts: Any
) -> Row:
    derive = partial(layouts.scenes, renames=renames) if renames else layouts.scenes
    return Row(name, folder or name, images, derive, remote_sensing=True, **facts)


ROWS = (
    _imagenet(
        "ImageNet", "imagenet", derive=layouts.imagenet, val_is_test=True, published=(1000, 1281167, 50000, 50000)
    ),
    Row(
        "Caltech101",
        "caltech-101",
        "101_ObjectCategories",
        partial(
            layouts.class_folders,
            ignored=("BACKGROUND_Google", "Faces_easy"),
            renames={"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"},
        ),
        published=(100, 4128, 1649, 2465),
    ),
    Row("OxfordPets", "oxford_pets", derive=layouts.oxford_pets, published=(37, 2944, 736, 3669)),
    Row("StanfordCars", "stanford_cars", ".", layouts.stanford_cars, published=(196, 6509, 1635, 8041)),
    Row("OxfordFlowers", "oxford_flowers", "jpg", layouts.oxford_flowers, published=(102, 4093, 1633, 2463)),
    Row("Food101", "food-101", derive=layouts.class_folders, published=(101, 50500, 20200, 30300)),
    _without_split_file(
        "FGVCAircraft", "fgvc_aircraft", derive=layouts.fgvc_aircraft, published=(100, 3334, 3333, 3333)
    ),
    Row("SUN397", "sun397", "SUN397", layouts.sun397, published=(397, 15880, 3970, 19850)),
    Row("DescribableTextures", "dtd", derive=layouts.class_folders, published=(47, 2820, 1128, 1692)),
    Row(
        "EuroSAT",
        "eurosat",
        "2750",
        partial(
            layouts.class_folders,
            renames={
                "AnnualCrop": "Annual Crop Land",
                "HerbaceousVegetation": "Herbaceous Vegetation Land",
                "Highway": "Highway or Road",
                "Industrial": "Industrial Buildings",
                "Pasture": "Pasture Land",
                "PermanentCrop": "Permanent Crop Land",
                "Residential": "Residential Buildings",
                "SeaLake": "Sea or Lake",
            },
        ),
        published=(10, 13500, 5400, 8100),
    ),
    Row("UCF101", "ucf101", "UCF-101-midframes", layouts.ucf101, published=(101, 7639, 1898, 3783)),
    _variant_of_imagenet(
        *("ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val"),
        derive=layouts.imagenet_v2,
        published=(1000, 0, 0, 10000),
    ),
    _variant_of_imagenet("ImageNetSketch", "imagenet-sketch", published=(1000, 0, 0, 50889)),
    _variant_of_imagenet("ImageNetA", "imagenet-adversarial", "imagenet-a", published=(200, 0, 0, 7500)),
    _variant_of_imagenet("ImageNetR", "imagenet-rendition", "imagenet-r", published=(200, 0, 0, 30000)),
    _scenes("RESISC45", split="split_chen_RESISC45.json", total=(45, 31500)),
    _scenes("AID", images="AID_dataset", split="split_chen_aid.json", renames=_AREAS, total=(30, 10000)),
    _scenes(
        "UCM",
        images="Images",
        renames={
            "baseballdiamond": "baseball diamond",
            "denseresidential": "dense residential",
            "golfcourse": "golf course",
            "mediumresidential": "medium residential",
            "mobilehomepark": "mobile home park",
            "parkinglot": "parking lot",
            "sparseresidential": "sparse residential",
            "storagetanks": "storage tanks",
            "tenniscourt": "tennis court",
        },
        total=(21, 2100),
    ),
    _scenes("WHURS19", split="split_chen_WHURS19.json", renames=_AREAS, total=(19, 1005)),
    _scenes("PatternNet", split="split_chen_patternnet.json", total=(38, 30400)),
    _scenes(
        "MLRSNet",
        images="Images",
        split="split_chen_mlrsnet.json",
        renames={"harbor&port": "harbor and port", "swimmimg pool": "swimming pool"},
        total=(46, 109161),
    ),
    _scenes("OPTIMAL", images="Images", split="split_chen_optimal.json", total=(31, 1860)),
    # Of these two, whose images are in one folder, others have made class folders, and nobody publishes their sizes.
    _scenes("RSICD", images="RSICD", split="split_chen_RSICD.json", renames={**_AREAS, **_JOINED}),
    _scenes("RSITMD", renames={**_AREAS, **_JOINED}),
    _scenes("RSICB128", split="split_chen_RSICB128.json", renames=_BENCHMARK, total=(45, 36707)),
    _scenes("RSICB256", split="split_chen_RSICB256.json", renames=_BENCHMARK, total=(35, 24747)),
    _scenes(
        "NaSCTG2",
        folder="NaSC-TG2",
        renames={"circularfarmland": "circular farmland", "rectangularfarmland": "rectangular farmland"},
        total=(10, 20000),
    ),
    Row("ImageFolder", ".", ".", layouts.image_folder),
    Row("Digits", "digits", write=digits.write),
    # A new domain shift of Symbols is a style in `builtin/drawing.py` and a row here.
    Row("Symbols", "symbols", write=partial(symbols.write, style="outline")),
    Row("SymbolsSketch", "symbols-sketch", write=partial(symbols.write, style="sketch"), domain_of="Symbols"),
    Row("SymbolsInverse", "symbols-inverse", write=partial(symbols.write, style="inverse"), domain_of="Symbols"),
    Row("SymbolsNoise", "symbols-noise", write=partial(symbols.write, style="noise"), domain_of="Symbols"),
    Row("SymbolsTilt", "symbols-tilt", write=partial(symbols.write, style="tilt"), domain_of="Symbols"),
    Row("Icons", "icons", write=partial(icons.write, family="Phosphor")),
    Row("IconsRemix", "icons-remix", write=partial(icons.write, family="Remix"), domain_of="Icons"),
    Row("IconsMaterial", "icons-material", write=partial(icons.write, family="Material"), domain_of="Icons"),
    Row("IconsFluent", "icons-fluent", write=partial(icons.write, family="Fluent"), domain_of="Icons"),
    Row("IconsFontAwesome", "icons-font-awesome", write=partial(icons.write, family="FontAwesome"), domain_of="Icons"),
)
