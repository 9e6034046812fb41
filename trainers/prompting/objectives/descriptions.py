"""Sentences about classes, from JSON files: an object from class name to a list of sentences."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..core.class_tokens import tokenize_sentences
from ..core.design import design_of
from ..core.templates import template_of
from ..declaration import setting
from ..errors import InputError, worded

DESCRIPTIONS_KEY = "TRAINER.CoPrompt.DESCRIPTIONS"
SHOWN_NAMES = 5
# The shipped descriptions, by registered data-set name, and CoPrompt's names of its own files.
DESCRIPTIONS = Path(__file__).resolve().parents[3] / "datasets" / "descriptions"
PUBLISHED_NAMES = {
    "Caltech101": "caltech",
    "DescribableTextures": "dtd",
    "EuroSAT": "eurosat",
    "FGVCAircraft": "fgvc",
    "Food101": "food101",
    "ImageNet": "imagenet",
    "ImageNetA": "imagenet_a",
    "ImageNetR": "imagenet_r",
    "ImageNetSketch": "imagenet_sketch",
    "ImageNetV2": "imagenetv2",
    "OxfordFlowers": "oxford_flowers",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "SUN397": "sun397",
    "UCF101": "ucf101",
}


def descriptions_setting() -> str:
    """The field of a settings class that names their place."""
    return setting(
        "",
        DESCRIPTIONS_KEY,
        "JSON file, or folder of such files, that describes the classes; empty: the shipped ones",
        root=True,
        shapes_training=False,
    )


def read_descriptions(path: Path, classnames: Sequence[str]) -> list[list[str]]:
    """The sentences of each class, in the order of the class names; their numbers may differ.

    Underscores in names count as spaces. Other names in the file are ignored, since a model is often trained on some
    of a data set's classes.

    Raises:
        InputError: the file holds other content, or it lacks a class or has it twice.
    """
    remedy = f"or name another file in {DESCRIPTIONS_KEY}."
    try:
        # The encoding accepts a byte order mark. Objects become tuples of pairs, lists stay lists.
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"The descriptions in {path} are not JSON in UTF-8 ({error}); correct them, {remedy}"
        ) from error
    if not isinstance(content, tuple):
        raise InputError(
            f"{path} holds no JSON object from class names to lists of sentences; write it as one, {remedy}"
        )
    pairs = [(name.replace("_", " "), sentences) for name, sentences in content]
    known, times = dict(pairs), Counter(name for name, _ in pairs)
    found = {name: known.get(name.replace("_", " ")) for name in classnames}
    missing = [name for name, sentences in found.items() if not sentences]
    if missing:
        more = f" and {len(missing) - SHOWN_NAMES} more" if len(missing) > SHOWN_NAMES else ""
        raise InputError(
            f"{path} has no sentences for {len(missing)} of {len(classnames)} classes: "
            f"{', '.join(missing[:SHOWN_NAMES])}{more}. Add them, {remedy}"
        )
    for name, sentences in found.items():
        if times[name.replace("_", " ")] > 1:
            raise InputError(
                f"{path} has {name!r} more than once (underscores count as spaces); keep one of them, {remedy}"
            )
        if not isinstance(sentences, list) or not all(isinstance(text, str) and text.strip() for text in sentences):
            raise InputError(f"{path}: what stands for {name!r} is not a list of sentences; write one, {remedy}")
    return [found[name] for name in classnames]


def find_descriptions(dataset: str, place: str) -> Path | None:
    """The file of a data set's descriptions; None if `place` is empty and the shipped folder has none.

    Args:
        dataset: registered name.
        place: file, or folder of such files; empty: the shipped folder.

    Raises:
        InputError: there is none at `place`, or it holds no JSON object.
    """
    folder = Path(os.path.expanduser(place)) if place else DESCRIPTIONS
    names = (f"{PUBLISHED_NAMES.get(dataset, dataset)}_prompt.json", f"{dataset}.json")
    in_folder = [folder / name for name in names]
    candidates = [folder] if os.path.isfile(folder) or folder.suffix == ".json" else in_folder
    path = next((path for path in candidates if os.path.isfile(path)), None)
    if path is not None:
        read_descriptions(path, ())
    elif place:
        raise InputError(
            f"{DESCRIPTIONS_KEY} is {place!r}, but there is no {' or '.join(map(str, candidates))}. Correct it, or "
            "leave it empty for the shipped descriptions, or each class's one sentence where none are shipped."
        )
    return path


def describe(dataset: str, place: str, classnames: Sequence[str]) -> Sequence[Sequence[str]]:
    """The sentences of each class, from the file of `find_descriptions`, or from the data set's template."""
    path = find_descriptions(dataset, place)
    if path is not None:
        print(f"Descriptions: {path}")
        return read_descriptions(path, classnames)
    template = template_of(dataset)
    print(f"There are no descriptions of {dataset}; each class is described by {template!r} alone")
    return [[template.format(name.replace("_", " "))] for name in classnames]


def check_lengths(classnames: Sequence[str], by_class: Sequence[Sequence[str]], clip_model: nn.Module) -> None:
    """Raises InputError for a class whose sentences have more tokens than the backbone takes."""
    for name, described in zip(classnames, by_class):
        with worded(lambda field, owner: DESCRIPTIONS_KEY, before=f"A description of {name!r} does not fit. "):
            tokenize_sentences(described, clip_model.context_length, design_of(clip_model))
