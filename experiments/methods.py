"""The methods that experiments know by name, and their recipes: the configuration files of configs/trainers."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.prompting import recipes
from trainers.prompting.errors import check_name

from . import ROOT, data

if TYPE_CHECKING:
    from trainers.prompting.declaration import Method

BASELINE = "ZeroshotCLIP"
# Recipes of the small CLIP, which go with the built-in data, begin with this.
TINY = "tiny"
LONGEST_TAG = 40  # of a backbone


class _Methods(Mapping[str, "Method"]):
    """The declared methods by name. Their modules import torch for seconds, so the first look imports them."""

    @staticmethod
    def _declared() -> dict[str, Method]:
        from trainers.prompting.methods import METHODS

        return METHODS

    def __getitem__(self, name: str) -> Method:
        return self._declared()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared())

    def __len__(self) -> int:
        return len(self._declared())


METHODS = _Methods()


def names() -> list[str]:
    """In the order of tables. Methods of one's own join when they are imported."""
    from trainers.prompting.methods import in_order

    return [method.name for method in in_order()]


def identify(trainer: str, recipe: str) -> tuple[str, str]:
    """Method and variant of a trainer and a recipe."""
    from trainers.prompting import methods

    return methods.identify(trainer, recipe)


def config_file(trainer: str, recipe: str) -> str:
    """The path of a recipe, from the repository's root; a recipe may also be the path of a YAML file."""
    if _is_path(recipe):
        return recipe
    folder = METHODS[trainer].recipes.folder if trainer in METHODS else trainer
    return f"configs/trainers/{folder}/{recipe}.yaml"


def variants_of(name: str) -> list[str]:
    """The suffixes of a method's recipes that `METHOD:variant` can name."""
    known = METHODS[name].recipes
    paths = (recipes.recipe_path(known.folder, one) for one in (known.default, known.tiny))
    return sorted({suffix for path in paths if path.is_file() for suffix in recipes.suffixes_of(path)})


def _is_path(recipe: str) -> bool:
    return recipe.endswith(recipes.ENDINGS)


def recipe_name(recipe: str) -> str:
    """Of a recipe that may be a path: its name in records and folders."""
    return Path(recipe).stem if _is_path(recipe) else recipe


def folder_name(recipe: str, tag: str = "") -> str:
    """Of the outputs of a recipe, or of a tagged variant of it."""
    return f"{recipe_name(recipe)}@{tag}" if tag else recipe_name(recipe)


def backbone_tag(backbone: str) -> str:
    """A backbone's name as a tag, for folders and rows of its own; of a long one its end and a hash."""
    plain = re.sub(r"[^\w.]+", "-", backbone, flags=re.ASCII).strip("-.")
    if len(plain) <= LONGEST_TAG:
        return plain
    digest = hashlib.sha256(backbone.encode()).hexdigest()[:8]
    return f"{plain[len(digest) + 1 - LONGEST_TAG :].lstrip('-.')}-{digest}"


def with_backbone(tag: str, backbone: str | None) -> str:
    """The tag of an experiment on a backbone, or without one on that of the recipes."""
    return "_".join(filter(None, (tag, backbone_tag(backbone) if backbone else "")))


def path_as_recipe(recipe: str) -> str:
    """The path of a YAML file from the repository's root, absolute outside it; names of recipes as they are."""
    if not _is_path(recipe):
        return recipe
    path = Path(recipe).absolute()
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def parse(text: str | None) -> tuple[str, str]:
    """Method and variant of METHOD, METHOD:VARIANT or METHOD:FILE.yaml, with InputError if there is none such."""
    name, _, variant = (text or "").partition(":")
    check_name("METHOD", name, names(), "docs/METHODS.md")
    if variant and not _is_path(variant):
        folder = f"configs/trainers/{METHODS[name].recipes.folder}"
        folders = f"An objective of yours needs --import MODULE; ls configs/variants {folder}"
        check_name(f"METHOD is {text}, but the variant of {name}", variant, variants_of(name), folders)
    return name, path_as_recipe(variant)


def row_name(name: str, variant: str = "", tag: str = "") -> str:
    """The row of a method, or of its variant or a tagged experiment, in tables."""
    shown = METHODS[name].shown if name in METHODS else ""
    return ", ".join(filter(None, (shown or name, recipe_name(variant).replace("_", " "), tag)))


def row_of(text: str) -> str:
    """The row of METHOD, METHOD:VARIANT or METHOD:FILE.yaml."""
    name, _, variant = text.partition(":")
    if _is_path(variant) and name in METHODS:
        name, variant = identify(METHODS[name].trainer, recipe_name(variant))
    return row_name(name, variant)


def recipe_for(name: str, family: str, dataset: str, shots: int, variant: str = "") -> str:
    """The recipe of a model that learns a data set; families are base2new, cross_dataset, few_shot and zeroshot."""
    if _is_path(variant):
        return variant
    known, built_in = METHODS[name].recipes, dataset in data.BUILTIN
    usual = (known.remote_sensing if dataset in data.REMOTE_SENSING else "") or known.default

    def own(recipe: str) -> str:
        """The data set's own one in its place, if there is one."""
        its = f"{recipe}_{dataset}"
        return its if recipes.is_readable(recipes.recipe_path(known.folder, its)) else recipe

    if built_in:
        return "_".join(filter(None, (own(known.tiny), variant)))
    if variant:
        return f"{usual}_{variant}"
    if family == "few_shot" and known.few_shot:
        return own(known.few_shot(dataset, shots))
    imagenet = known.base2new_imagenet if dataset == "imagenet" else ""
    special = {"base2new": imagenet, "cross_dataset": known.cross_dataset}.get(family)
    return own(special or usual)
