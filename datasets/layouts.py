"""Splits from the published files of data sets, for use without a split JSON.

Each function takes the data set's folder, the folder of its images, and a generator, and returns the lists that CoOp
derives, in CoOp's order, with CoOp's class names. Two differences, as in `readers.py`: files of a folder are sorted,
and the split has its own generator. An unreadable line is an error that names file and line; blank lines do not count.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.prompting.errors import InputError

from .fewshot import Item, Splits
from .readers import NOTE, SPLITS, cut_classes, data_error, read_json, read_text, some, unreadable


def class_folders(
    folder: Path,
    images: Path,
    rng: random.Random,
    ignored: Sequence[str] = (),
    renames: Mapping[str, str] | None = None,
) -> Splits:
    """One folder per class, cut 50/20/30; `renames` maps names of folders to those of classes."""
    renames = renames or {}
    names = {name: renames.get(name, name) for name in _folders(images) if name not in ignored}
    return _cut_all(_folder_items(images, names), rng)


def scenes(folder: Path, images: Path, rng: random.Random, renames: Mapping[str, str] | None = None) -> Splits:
    """`class_folders` of remote sensing, whose folders "BareLand" and "bare_land" are both called "bare land".

    `renames` maps such names to those of classes, where these are others.
    """
    names = {name: re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower() for name in _folders(images)}
    renames = renames or {}
    return class_folders(folder, images, rng, renames={name: renames.get(text, text) for name, text in names.items()})


def oxford_pets(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`annotations/{trainval,test}.txt`: "<image> <class 1-37> <species> <breed>"; image names give class names."""

    def item(line: str) -> Item:
        image, label, _, _ = line.split(" ")
        name, _ = image.rsplit("_", 1)
        return Item(str(images / f"{image}.jpg"), int(label) - 1, name.lower())

    expected = '"<class name>_<number> <class id> <species> <breed id>"'
    trainval, test = (_items(folder / "annotations" / f"{part}.txt", item, expected) for part in ("trainval", "test"))
    return _cut_trainval(trainval, test, rng)


def stanford_cars(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`devkit/{cars_train_annos,cars_meta}.mat`, `cars_test_annos_withlabels.mat`; class names begin with the year."""
    names = [str(name[0]) for name in _mat(folder / "devkit" / "cars_meta.mat", "class_names")]

    def items(part: str, path: Path) -> list[Item]:
        found = []
        for number, row in enumerate(_mat(path, "annotations"), start=1):
            try:
                image, label = str(row["fname"][0]), range(1, len(names) + 1).index(row["class"][0, 0])
            except (ValueError, TypeError, IndexError) as error:
                raise data_error(
                    f"{path}: annotation {number} has no image with a class from 1 to {len(names)}, of the names of "
                    f"devkit/cars_meta.mat ({error}); download both again"
                ) from error
            model, _, year = names[label].rpartition(" ")
            found.append(Item(str(images / part / image), label, f"{year} {model}".strip()))
        return found

    trainval = items("cars_train", folder / "devkit" / "cars_train_annos.mat")
    test = items("cars_test", folder / "cars_test_annos_withlabels.mat")
    return _cut_trainval(trainval, test, rng)


def oxford_flowers(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`imagelabels.mat` (1-102 for each image in turn) and `cat_to_name.json`; each class is cut 50/20/30."""
    path = folder / "cat_to_name.json"
    names = read_json(path)
    items = []
    for number, label in enumerate(_mat(folder / "imagelabels.mat", "labels"), start=1):
        if not (isinstance(names, dict) and isinstance(names.get(str(label)), str)):
            raise data_error(f"{path} has no name for class {label} of imagelabels.mat; download it again")
        items.append(Item(str(images / f"image_{number:05d}.jpg"), int(label) - 1, names[str(label)]))
    return _cut_all(items, rng)


def fgvc_aircraft(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`variants.txt` and `images_variant_{train,val,test}.txt`: "<image> <variant>"; nothing is drawn."""
    labels = {name: label for label, name in enumerate(_items(folder / "variants.txt", str, '"<variant>"'))}

    def item(line: str) -> Item:
        image, _, name = line.partition(" ")
        return Item(str(images / f"{image}.jpg"), labels[name], name)

    expected = '"<image id> <a line of variants.txt>"'
    return Splits(*(_items(folder / f"images_variant_{part}.txt", item, expected) for part in SPLITS))


def sun397(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`ClassName.txt`, `Training_01.txt`, `Testing_01.txt`; "/a/apse/indoor" is called "indoor apse"."""
    places = _items(folder / "ClassName.txt", lambda line: line.lstrip("/"), '"/<letter>/<class>"')
    labels = {place: label for label, place in enumerate(places)}

    def item(line: str) -> Item:
        image = line.lstrip("/")
        place = image.rpartition("/")[0]
        return Item(str(images / image), labels[place], " ".join(reversed(place.split("/")[1:])))

    expected = '"/<a line of ClassName.txt>/<image>"'
    trainval, test = (_items(folder / f"{part}_01.txt", item, expected) for part in ("Training", "Testing"))
    return _cut_trainval(trainval, test, rng)


def ucf101(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt`; "ApplyEyeMakeup" is called "Apply_Eye_Makeup"."""
    lists = folder / "ucfTrainTestlist"

    def label_of(line: str) -> tuple[str, int]:
        label, action = line.split(" ")
        return action, int(label) - 1

    labels = dict(_items(lists / "classInd.txt", label_of, '"<class id> <class name>"'))

    def item(line: str) -> Item:
        action, video = line.split(" ")[0].split("/")
        name = "_".join(re.findall("[A-Z][^A-Z]*", action))
        return Item(str(images / name / video.replace(".avi", ".jpg")), labels[action], name)

    expected = '"<class name of classInd.txt>/<video>.avi"'
    trainval, test = (_items(lists / f"{part}list01.txt", item, expected) for part in ("train", "test"))
    return _cut_trainval(trainval, test, rng)


def imagenet(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`classnames.txt` and `images/{train,val}/<wnid>/*`; the validation images serve for validation and test.

    CoOp numbers the folders of train and val separately, so a folder that is missing in one of them shifts all later
    labels against the other; here it is an error.
    """
    names = dict(sorted(_wnid_names(folder).items()))
    train, val = (_listed_items(images / part, names, "classnames.txt") for part in ("train", "val"))
    return Splits(train, val, val)


def imagenet_v2(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`<images>/<number>/*`, with the number of the line of `classnames.txt`, from 0; test images only.

    As in CoOp they are the training list, too, where Dassl reads the class names.
    """
    names = {str(label): name for label, name in enumerate(_wnid_names(folder).values())}
    items = _listed_items(images, names, "classnames.txt")
    return Splits(items, [], items)


def imagenet_variant(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`<images>/<wnid>/*`, and `classnames.txt` with the names of these and further classes; like `imagenet_v2`."""
    folders = _folders(images)
    names = {wnid: name for wnid, name in sorted(_wnid_names(folder).items()) if wnid in folders}
    items = _listed_items(images, names, "classnames.txt")
    return Splits(items, [], items)


def image_folder(folder: Path, images: Path, rng: random.Random) -> Splits:
    """Any pictures: one folder per class, named after it, cut 50/20/30, or such folders below train, val and test.

    One of val and test is enough, and serves for both, as on ImageNet.
    """
    parts = [part for part in SPLITS if (folder / part).is_dir()]
    if "train" not in parts:
        return class_folders(folder, images, rng)
    if len(parts) == 1:
        raise InputError(f"{folder} has train, but neither val nor test; add one of them, or put the classes in it.")
    names = {name: name for name in _folders(folder / "train")}
    found = {part: _listed_items(folder / part, names, "train") for part in parts}
    return Splits(found["train"], found.get("val") or found["test"], found.get("test") or found["val"])


def _folders(images: Path) -> list[str]:
    """Sorted names of the class folders; hidden entries and stray files beside them do not count."""
    folders = [name for name in _visible(images) if (images / name).is_dir()] if images.is_dir() else []
    if not folders:
        raise data_error(f"{images} has no class folders; unpack the images into it, one folder per class")
    return folders


def _visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _folder_items(images: Path, names: Mapping[str, str]) -> list[Item]:
    """All images of class folders, labelled in the order of `names`, from folder to class name.

    Hidden files do not count, nor files without an image's suffix, such as `Thumbs.db`, which are printed.
    """
    # Imported here because it comes with libraries that open images, which no other function needs.
    from minidassl.own.image_cache import is_image

    items, others = [], []
    for label, (folder, name) in enumerate(names.items()):
        entries = sorted(os.listdir(images / folder))
        files = [file for file in entries if is_image(file) and not file.startswith(".")]
        if not files:
            raise data_error(f"{images / folder} has no images; put those of this class into it, or move it elsewhere")
        others += [f"{folder}/{entry}" for entry in entries if not is_image(entry)]
        items += [Item(str(images / folder / file), label, name) for file in files]
    if others:
        print(f"{NOTE}{len(others)} entries of {images} have no image's suffix, and do not count: {some(others)}")
    return items


def _listed_items(images: Path, names: Mapping[str, str], listed_in: str) -> list[Item]:
    """The same; an InputError unless `names` are all class folders, and no others."""
    different = set(names).symmetric_difference(_folders(images))
    if different:
        raise data_error(
            f"{images} and {listed_in} must have the same classes, but differ in {some(different)}; add or remove them"
        )
    return _folder_items(images, names)


def _cut_all(items: list[Item], rng: random.Random) -> Splits:
    print("Splitting into 50% train, 20% val, and 30% test")
    return Splits(*cut_classes(items, rng, 0.5, 0.2))


def _cut_trainval(trainval: list[Item], test: list[Item], rng: random.Random) -> Splits:
    """The published test images; of each class of the others, 20% for validation, and the rest for training."""
    print("Splitting trainval into 80% train and 20% val")
    val, train = cut_classes(trainval, rng, 0.2)
    return Splits(train, val, test)


def _wnid_names(folder: Path) -> dict[str, str]:
    """`classnames.txt`: "<wnid> <class name>"."""

    def pair(line: str) -> tuple[str, str]:
        wnid, name = line.split(" ", 1)
        return wnid, name.strip()

    return dict(_items(folder / "classnames.txt", pair, '"<wnid> <class name>"'))


def _items(path: Path, parse: Callable[[str], Any], expected: str) -> list[Any]:
    """All lines, parsed; an InputError without any, or if `parse` raises a ValueError or a KeyError."""
    items = []
    for number, line in enumerate(map(str.strip, read_text(path).splitlines()), start=1):
        if not line:
            continue
        try:
            items.append(parse(line))
        except (ValueError, KeyError) as error:
            raise data_error(
                f"{path}, line {number} is {line!r}, but a line is {expected}; download the file again"
            ) from error
    if not items:
        raise data_error(f"{path} is empty; download it again")
    return items


def _mat(path: Path, field: str) -> Any:
    """The only row of an array in a MATLAB file."""
    # Imported here because few data sets need it.
    from scipy.io import loadmat

    try:
        return loadmat(str(path))[field][0]
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # of many kinds, depending on the bytes
        raise data_error(
            f"{path} cannot be read as a MATLAB file with {field!r} ({error}); download it and put it there"
        ) from error
