"""The methods that experiments know by name, and their recipes: the configuration files of configs/trainers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.prompting import recipes
from trainers.prompting.errors import InputError

from . import ROOT, data

if TYPE_CHECKING:
    from trainers.prompting.declaration import Method

BASELINE = "ZeroshotCLIP"
# Recipes of the small CLIP, which go with the built-in data, begin with this.
TINY = "tiny"
BACKBONES = ("rn50", "rn101", "vit_b32", "vit_b16")


class _Declared(Mapping):
    """The declared methods by name, in the order of tables.

    They are read when first asked for, because that imports PyTorch. Methods of one's own join when they are imported.
    """

    def _methods(self) -> dict[str, Method]:
        from trainers.prompting.methods import in_order

        return {method.name: method for method in in_order()}

    def __getitem__(self, name: str) -> Method:
        return self._methods()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods())

    def __len__(self) -> int:
        return len(self._methods())


METHODS: Mapping[str, Method] = _Declared()


def import_modules(modules: Iterable[str]) -> None:
    """Import Python modules of one's own, whose methods are known from then on.

    Raises:
        InputError: there is no such module.
    """
    if modules:
        # Dassl's registry takes seconds to import, and only this needs it.
        import trainers
        from trainers.config import import_module

        trainers.register_all()
        for module in modules:
            import_module(module)


def config_file(trainer: str, recipe: str) -> str:
    """The path of a recipe, from the repository's root; a recipe may also be the path of a YAML file."""
    return recipe if _is_path(recipe) else f"configs/trainers/{trainer}/{recipe}.yaml"


def recipe_exists(trainer: str, recipe: str) -> bool:
    return recipes.is_readable(ROOT / config_file(trainer, recipe))


def variants_of(name: str) -> list[str]:
    """The suffixes of a method's recipes that `METHOD:variant` can name."""
    method = METHODS[name]
    paths = (recipes.recipe_path(method.trainer, one) for one in (method.recipes.default, method.recipes.tiny))
    return sorted({suffix for path in paths if path.is_file() for suffix in recipes.suffixes_of(path)})


def _is_path(recipe: str) -> bool:
    return recipe.endswith((".yaml", ".yml"))


def recipe_name(recipe: str) -> str:
    """Of a recipe that may be a path: its name in records and folders."""
    return Path(recipe).stem if _is_path(recipe) else recipe


def path_as_recipe(recipe: str) -> str:
    """The path of a YAML file from the repository's root, absolute outside it; names of recipes as they are."""
    if not _is_path(recipe):
        return recipe
    path = Path(recipe).absolute()
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def parse(text: str | None) -> tuple[str, str]:
    """Method and variant of METHOD, METHOD:VARIANT or METHOD:FILE.yaml; the variant is empty where none is named.

    Raises:
        InputError: there is no such method, or it has no such variant.
    """
    name, _, variant = (text or "").partition(":")
    if name not in METHODS:
        raise InputError(f"METHOD is {text or 'missing'}; choose one of {', '.join(METHODS)}.")
    if variant and not _is_path(variant) and variant not in (known := variants_of(name)):
        raise InputError(f"METHOD is {text}, but the variants of {name} are {', '.join(known) or 'none'}.")
    return name, path_as_recipe(variant)


def row_name(name: str, variant: str = "") -> str:
    """The row of a method, or of its variant, in tables."""
    return ", ".join([name, *filter(None, [recipe_name(variant).replace("_", " ")])])


def recipe_for(name: str, family: str, dataset: str, shots: int, variant: str = "") -> str:
    """The recipe of a method.

    Args:
        family: "base2new", "cross_dataset", "few_shot" or "zeroshot".
        dataset: the one that the model learns.
        variant: as `parse` gives it.
    """
    method = METHODS[name]
    if _is_path(variant):
        return variant
    known = method.recipes
    if variant:
        return f"{known.tiny if dataset in data.BUILTIN else known.default}_{variant}"
    if dataset in data.BUILTIN:
        return known.tiny
    if family == "base2new" and dataset == "imagenet" and known.base2new_imagenet:
        return known.base2new_imagenet
    if family == "few_shot" and known.few_shot:
        return known.few_shot(dataset, shots)
    if family == "cross_dataset" and known.cross_dataset:
        return known.cross_dataset
    own = f"{known.default}_{dataset}"
    return own if recipe_exists(method.trainer, own) else known.default


def baseline_recipe(recipe: str) -> str:
    """The recipe of zero-shot CLIP on the backbone of another recipe."""
    stem = recipe_name(recipe)
    return next((name for name in (TINY, *BACKBONES) if stem.startswith(name)), METHODS[BASELINE].recipes.default)


def check_recipe(trainer: str, recipe: str) -> None:
    """Raises InputError where there is no such recipe; the message names those that there are."""
    path = ROOT / config_file(trainer, recipe)
    if not path.parent.is_dir():
        raise InputError(
            f"There is no {config_file(trainer, recipe)}; name a YAML file with --cfg, or as METHOD:FILE.yaml."
        )
    recipes.read_files(path)


def method_of(trainer: str, recipe: str) -> tuple[str, str]:
    """Method and variant by the name of a recipe, for records that do not say them."""
    from trainers.prompting.methods import identify

    return identify(trainer, recipe)
