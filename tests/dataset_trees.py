"""Small trees in the layout in which each data set of the field is published, without a split JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

# More images than 16 shots need in some classes, fewer in others.
SIZES = (44, 9, 23, 60, 12)


def write_image(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade % 256, 100, 50)).save(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_classes(folder: Path, *names: str, images: int = 10) -> None:
    """Class folders of images, `<folder>/<name>/<number>.png`."""
    for name in names:
        for number in range(images):
            write_image(folder / name / f"{number:02d}.png")


def numbers(sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Class and image number, classes interleaved as far as their sizes allow."""
    sizes = tuple(sizes)
    for image in range(max(sizes)):
        for label, size in enumerate(sizes):
            if image < size:
                yield label, image


def class_folders(images: str, names: tuple[str, ...]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for label, image in numbers(SIZES):
            write_image(folder / images / names[label] / f"{names[label]}_{image:04d}.jpg", label)

    return write


def oxford_pets(folder: Path) -> None:
    names = ("Abyssinian", "american_bulldog", "beagle", "Maine_Coon", "pug")
    for part, sizes in (("trainval", SIZES), ("test", (3,) * 5)):
        lines = []
        for label, image in numbers(sizes):
            name = f"{names[label]}_{image + (100 if part == 'test' else 0)}"
            write_image(folder / "images" / f"{name}.jpg")
            lines.append(f"{name} {label + 1} 1 1")
        write_lines(folder / "annotations" / f"{part}.txt", lines)


def stanford_cars(folder: Path) -> None:
    names = ["AM Hummer SUV 2000", "Acura RL 2012", "Ram C/V Cargo Van 2012", "BMW X5 2007", "FIAT 500 2012"]
    (folder / "devkit").mkdir(parents=True)
    cells = np.empty((1, len(names)), dtype=object)
    cells[0] = names
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cells})
    for part, sizes, path in (
        ("cars_train", SIZES, folder / "devkit" / "cars_train_annos.mat"),
        ("cars_test", (3,) * 5, folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for number, (label, _) in enumerate(numbers(sizes), start=1):
            write_image(folder / part / f"{number:05d}.jpg")
            rows.append((label + 1, f"{number:05d}.jpg"))
        records = np.zeros((1, len(rows)), dtype=[("class", object), ("fname", object)])
        for index, (label, name) in enumerate(rows):
            records[0, index] = (label, name)
        savemat(path, {"annotations": records})


def oxford_flowers(folder: Path) -> None:
    labels = [label + 1 for label, _ in numbers(SIZES)]
    for number in range(1, len(labels) + 1):
        write_image(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    names = {"1": "pink primrose", "2": "hard-leaved pocket orchid", "3": "sweet pea", "4": "moon orchid", "5": "rose"}
    (folder / "cat_to_name.json").write_text(json.dumps(names))


def fgvc_aircraft(folder: Path) -> None:
    names = ("707-320", "727-200", "F/A-18", "Model B200", "Tu-154")
    write_lines(folder / "variants.txt", names)
    for start, part in enumerate(("train", "val", "test")):
        lines = []
        for number, (label, _) in enumerate(numbers(SIZES)):
            image = f"{start}{number:06d}"
            write_image(folder / "images" / f"{image}.jpg")
            lines.append(f"{image} {names[label]}")
        write_lines(folder / f"images_variant_{part}.txt", lines)


def sun397(folder: Path) -> None:
    names = ("/a/abbey", "/a/airplane_cabin", "/a/apse/indoor", "/b/bar", "/c/church/outdoor")
    write_lines(folder / "ClassName.txt", names)
    for part, sizes in (("Training", SIZES), ("Testing", (3,) * 5)):
        lines = [f"{names[label]}/sun_{part}_{image}.jpg" for label, image in numbers(sizes)]
        for line in lines:
            write_image(folder / "SUN397" / line[1:])
        write_lines(folder / f"{part}_01.txt", lines)


def ucf101(folder: Path) -> None:
    names = ("ApplyEyeMakeup", "Archery", "HandstandPushups", "YoYo", "TaiChi")
    folders = ("Apply_Eye_Makeup", "Archery", "Handstand_Pushups", "Yo_Yo", "Tai_Chi")
    lists = folder / "ucfTrainTestlist"
    write_lines(lists / "classInd.txt", (f"{label} {name}" for label, name in enumerate(names, start=1)))
    for part, sizes in (("train", SIZES), ("test", (3,) * 5)):
        lines = []
        for label, image in numbers(sizes):
            video = f"v_{names[label]}_{part}_{image:03d}"
            write_image(folder / "UCF-101-midframes" / folders[label] / f"{video}.jpg")
            lines.append(f"{names[label]}/{video}.avi" + (f" {label + 1}" if part == "train" else ""))
        write_lines(lists / f"{part}list01.txt", lines)


WNIDS = ("n01440764", "n01443537", "n01484850", "n02119789", "n03775546")
WNID_NAMES = ("tench", "goldfish", "great white shark", "kit fox", "mixing bowl")


def write_classnames(folder: Path) -> None:
    # The order of the file is not that of the sorted folders.
    lines = [f"{wnid} {name}" for wnid, name in zip(WNIDS, WNID_NAMES)]
    write_lines(folder / "classnames.txt", reversed(lines))


def imagenet(folder: Path) -> None:
    write_classnames(folder)
    for label, image in numbers(SIZES):
        write_image(folder / "images" / "train" / WNIDS[label] / f"{WNIDS[label]}_{image}.JPEG")
    for label, image in numbers((4,) * 5):
        write_image(folder / "images" / "val" / WNIDS[label] / f"ILSVRC2012_val_{5 * image + label:08d}.JPEG")


def imagenet_v2(folder: Path) -> None:
    wnids = [f"n{number:08d}" for number in range(1000)]
    write_lines(folder / "classnames.txt", (f"{wnid} class number {wnid[-3:]}" for wnid in wnids))
    for label in range(1000):
        write_image(folder / "imagenetv2-matched-frequency-format-val" / str(label) / f"{label}.jpeg", label)


def imagenet_variant(images: str, readme: bool = True) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_classnames(folder)
        for label, image in numbers((6, 2, 9)):
            # Some of the classes only, so that labels are positions among them.
            write_image(folder / images / WNIDS[label + 1] / f"{image}.jpg")
        if readme:
            write_lines(folder / images / "README.txt", ["about"])

    return write


# The folder of each data set, and what writes it. Class folders are in the order of their labels.
TREES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "ImageNet": ("imagenet", imagenet),
    "Caltech101": (
        "caltech-101",
        class_folders("101_ObjectCategories", ("BACKGROUND_Google", "Faces", "Leopards", "ant", "ceiling_fan")),
    ),
    "OxfordPets": ("oxford_pets", oxford_pets),
    "StanfordCars": ("stanford_cars", stanford_cars),
    "OxfordFlowers": ("oxford_flowers", oxford_flowers),
    "Food101": ("food-101", class_folders("images", ("apple_pie", "baklava", "beef_tartare", "tacos", "waffles"))),
    "FGVCAircraft": ("fgvc_aircraft", fgvc_aircraft),
    "SUN397": ("sun397", sun397),
    "DescribableTextures": ("dtd", class_folders("images", ("banded", "braided", "dotted", "woven", "zigzagged"))),
    "EuroSAT": ("eurosat", class_folders("2750", ("AnnualCrop", "Forest", "Highway", "River", "SeaLake"))),
    "UCF101": ("ucf101", ucf101),
    "ImageNetV2": ("imagenetv2", imagenet_v2),
    "ImageNetSketch": ("imagenet-sketch", imagenet_variant("images", readme=False)),
    "ImageNetA": ("imagenet-adversarial", imagenet_variant("imagenet-a")),
    "ImageNetR": ("imagenet-rendition", imagenet_variant("imagenet-r")),
}
FOLDERS = {name: folder for name, (folder, _) in TREES.items()}


def write_tree(root: Path, name: str) -> Path:
    """The tree of one data set below `root`; gives its folder."""
    folder, write = TREES[name]
    write(root / folder)
    return root / folder
