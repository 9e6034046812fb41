"""Splits from the published files of data sets, for use without a split JSON.

Each function takes the data set's folder, the folder of its images, and a generator, and returns the lists that CoOp
derives, in CoOp's order, with CoOp's class names. Two differences, as in `readers.py`: files of a folder are sorted,
and the split has its own generator. An unreadable line is an error that names file and line; blank lines do not count.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.prompting.errors import InputError

from .fewshot import Item, by_label
from .readers import GUIDE, SPLITS, Splits, cut_classes, read_class_folders, some, visible

VAL_SHARE = 0.2
# Other entries beside the class folders of ImageNet's variants.
NO_CLASS = ("README.txt",)


def class_folders(ignored: Sequence[str] = (), renames: Mapping[str, str] | None = None) -> Callable[..., Splits]:
    """A reader of one folder per class, cut 50/20/30."""
    return lambda folder, images, rng: read_class_folders(images, rng, tuple(ignored), renames)


def oxford_pets(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`annotations/{trainval,test}.txt`: "<image> <class 1-37> <species> <breed>"; image names give class names."""

    def item(line: str) -> Item:
        image, label, _, _ = line.split(" ")
        name = image.rpartition("_")[0].lower()
        if not name:
            raise ValueError
        return Item(str(images / f"{image}.jpg"), int(label) - 1, name)

    expected = '"<class name>_<number> <class id> <species> <breed id>"'
    trainval, test = (_items(folder / "annotations" / f"{part}.txt", item, expected) for part in ("trainval", "test"))
    return Splits(*_cut_trainval(trainval, rng), test)


def stanford_cars(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`devkit/{cars_train_annos,cars_meta}.mat`, `cars_test_annos_withlabels.mat`; class names begin with the year."""
    names = [str(name[0]) for name in _mat(folder / "devkit" / "cars_meta.mat", "class_names")]

    def items(part: str, path: Path) -> list[Item]:
        found = []
        for row in _mat(path, "annotations"):
            label = int(row["class"][0, 0]) - 1
            if not 0 <= label < len(names):
                raise InputError(
                    f"{path}: class {label + 1} of {row['fname'][0]} is beyond the {len(names)} names of "
                    f"devkit/cars_meta.mat; download both again, see {GUIDE}."
                )
            model, _, year = names[label].rpartition(" ")
            found.append(Item(str(images / part / row["fname"][0]), label, f"{year} {model}".strip()))
        return found

    trainval = items("cars_train", folder / "devkit" / "cars_train_annos.mat")
    test = items("cars_test", folder / "cars_test_annos_withlabels.mat")
    return Splits(*_cut_trainval(trainval, rng), test)


def oxford_flowers(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`imagelabels.mat` (1-102 for each image in turn) and `cat_to_name.json`; each class is cut 50/20/30."""
    path = folder / "cat_to_name.json"
    try:
        names = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no valid JSON ({error}); download it again, see {GUIDE}.") from error
    items = []
    for number, label in enumerate(_mat(folder / "imagelabels.mat", "labels"), start=1):
        if str(label) not in names:
            raise InputError(
                f"{path} has no name for class {label} of imagelabels.mat; download it again, see {GUIDE}."
            )
        items.append(Item(str(images / f"image_{number:05d}.jpg"), int(label) - 1, names[str(label)]))
    print("Splitting data into 50% train, 20% val, and 30% test")
    return cut_classes(by_label(items), rng)


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
    return Splits(*_cut_trainval(trainval, rng), test)


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
    return Splits(*_cut_trainval(trainval, rng), test)


def imagenet(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`classnames.txt` and `images/{train,val}/<wnid>/*`; the validation images serve for validation and test.

    CoOp numbers the folders of train and val separately, so a folder that is missing in one of them shifts all later
    labels against the other; here it is an error.
    """
    names = _wnid_names(folder)
    train, val = (_folder_items(images / part, names) for part in ("train", "val"))
    in_train, in_val = ({item.name for item in items} for items in (train, val))
    for part, missing in (("train", in_val - in_train), ("val", in_train - in_val)):
        if missing:
            raise InputError(
                f"{images / part} lacks {len(missing)} classes that the other part has ({some(missing)}); complete "
                f"it, see {GUIDE}."
            )
    absent = set(names.values()) - in_train
    if absent:
        raise InputError(
            f"{images} has {len(in_train)} of the {len(names)} classes of {folder / 'classnames.txt'}; missing: "
            f"{some(absent)}. Complete it, or remove their lines to use the others alone, see {GUIDE}."
        )
    return Splits(train, val, val)


def imagenet_v2(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`<images>/<number>/*`, with the number of the line of `classnames.txt`, from 0; test images only."""
    names = list(_wnid_names(folder).values())
    numbered = {str(label): name for label, name in enumerate(names)}
    return _test_only(_folder_items(images, numbered, list(numbered)))


def imagenet_variant(folder: Path, images: Path, rng: random.Random) -> Splits:
    """`<images>/<wnid>/*`, and `classnames.txt` with the names of these and further classes; test images only."""
    return _test_only(_folder_items(images, _wnid_names(folder)))


def image_folder(folder: Path, images: Path, rng: random.Random) -> Splits:
    """Any pictures: one folder per class, named after it, cut 50/20/30, or such folders below train, val and test.

    One of val and test is enough, and serves for both, as on ImageNet.
    """
    parts = [part for part in SPLITS if (folder / part).is_dir()]
    if "train" not in parts:
        return read_class_folders(folder, rng)
    if len(parts) == 1:
        raise InputError(f"{folder} has train, but neither val nor test; add one of them, or put the classes in it.")
    names = _class_entries(folder / "train")
    found = {}
    for part in parts:
        entries = _class_entries(folder / part)
        if entries != names:
            raise InputError(
                f"{folder / part} and {folder / 'train'} must have the same classes, but differ in "
                f"{some(set(entries) ^ set(names))}."
            )
        found[part] = _folder_items(folder / part, {name: name for name in names})
    return Splits(found["train"], found.get("val", found.get("test")), found.get("test", found.get("val")))


def _test_only(items: list[Item]) -> Splits:
    """Splits of test images alone; as in CoOp they are the training list, too, where Dassl reads the class names."""
    return Splits(items, [], items)


def _cut_trainval(items: list[Item], rng: random.Random) -> tuple[list[Item], list[Item]]:
    """80% of each class for training and 20% for validation; classes in order of first appearance."""
    print("Splitting trainval into 80% train and 20% val")
    train, val = [], []
    for group in by_label(items).values():
        number = round(len(group) * VAL_SHARE)
        if not number:
            raise InputError(
                f"Class {group[0].name!r} has {len(group)} images for training and validation, too few to hold "
                f"{VAL_SHARE:.0%} out; complete the lists of images, see {GUIDE}."
            )
        rng.shuffle(group)
        val += group[:number]
        train += group[number:]
    return train, val


def _class_entries(images: Path) -> list[str]:
    if not images.is_dir():
        raise InputError(
            f"The folder {images} is not there; unpack the images into it, one folder per class, see {GUIDE}."
        )
    return [name for name in visible(images) if name not in NO_CLASS]


def _folder_items(images: Path, names: Mapping[str, str], entries: Sequence[str] | None = None) -> list[Item]:
    """All images of class folders, labelled in the order of `entries`, by default the sorted folders."""
    items = []
    for label, entry in enumerate(_class_entries(images) if entries is None else entries):
        if not (images / entry).is_dir():
            raise InputError(f"{images / entry} is no class folder; it must be one for label {label}, see {GUIDE}.")
        if entry not in names:
            raise InputError(
                f"{images / entry} has no line in classnames.txt; add it, or remove the folder, see {GUIDE}."
            )
        files = visible(images / entry)
        if not files:
            raise InputError(f"{images / entry} has no images; unpack them again, or remove the folder, see {GUIDE}.")
        items += [Item(str(images / entry / file), label, names[entry]) for file in files]
    if not items:
        raise InputError(f"{images} has no class folders; unpack the images into it, see {GUIDE}.")
    return items


def _wnid_names(folder: Path) -> dict[str, str]:
    """`classnames.txt`: "<wnid> <class name>"."""

    def pair(line: str) -> tuple[str, str]:
        wnid, name = line.split(" ", 1)
        return wnid, name.strip()

    return dict(_items(folder / "classnames.txt", pair, '"<wnid> <class name>"'))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"The file {path} is not there; download it and put it there, see {GUIDE}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); check its permissions, or download it again.") from error


def _items(path: Path, parse: Callable[[str], Any], expected: str) -> list[Any]:
    """All lines, parsed; an InputError without any, or if `parse` raises a ValueError or a KeyError."""
    items = []
    for number, line in enumerate(map(str.strip, _text(path).splitlines()), start=1):
        if not line:
            continue
        try:
            items.append(parse(line))
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{path}, line {number} is {line!r}, but a line is {expected}; download the file again, see {GUIDE}."
            ) from error
    if not items:
        raise InputError(f"{path} is empty; download it again, see {GUIDE}.")
    return items


def _mat(path: Path, field: str) -> Any:
    """The only row of an array in a MATLAB file."""
    if not path.is_file():
        raise InputError(f"The file {path} is not there; download it and put it there, see {GUIDE}.")
    # Imported here because few data sets need it.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(path)[field][0]
    except (MatReadError, KeyError, IndexError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(
            f"{path} is no MATLAB file with {field!r} ({error}); download it again, see {GUIDE}."
        ) from error
