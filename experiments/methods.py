"""The methods that experiments know by name, and their recipes: the configuration files of configs/trainers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trainers.prompting.errors import InputError

from . import ROOT, data

BASELINE = "ZeroshotCLIP"
# Recipes of the small CLIP, which go with the built-in data, begin with this.
TINY = "tiny"
BACKBONES = ("rn50", "rn101", "vit_b32", "vit_b16")


def coop_few_shot(dataset: str, shots: int) -> str:
    """CoOp's schedule for a number of shots, on the ResNet-50 of its main experiments."""
    if dataset == "imagenet" or shots == 1:
        return "rn50_ep50"
    return "rn50_ep100" if shots <= 4 else "rn50"


def promptsrc_few_shot(dataset: str, shots: int) -> str:
    """PromptSRC's two averages over the epochs: most data sets have a broad one, the others one of the last epochs."""
    late = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")
    return "vit_b16_c2_ep50_batch4_4+4ctx_few_shot" + ("_late" if dataset in late else "")


@dataclass(frozen=True)
class Method:
    """A trainer and its published recipes, by protocol.

    Attributes:
        trainer: its registered name, which is also the folder of its recipes and in its outputs' paths.
        cfg: base-to-new, and all protocols without one of their own below. A recipe of this name with _DATASET
            appended holds the settings for one data set, and replaces it there.
        base2new_imagenet: base-to-new on ImageNet.
        cross_dataset: for transfer from ImageNet.
        few_shot: from data set and shots.
        tiny: for the small CLIP.
        learns: it has something to train.
    """

    trainer: str
    cfg: str
    base2new_imagenet: str = ""
    cross_dataset: str = ""
    few_shot: Callable[[str, int], str] | None = None
    tiny: str = TINY
    learns: bool = True

    @property
    def recipes(self) -> set[str]:
        """The names of all its recipes, without variants."""
        cases = (("", 1), ("", 2), ("", 16), ("dtd", 1))
        few_shot = {self.few_shot(*case) for case in cases} if self.few_shot else set()
        return {self.cfg, self.base2new_imagenet, self.cross_dataset, self.tiny, *few_shot} - {""}


METHODS = {
    "ZeroshotCLIP": Method("ZeroshotCLIP", "vit_b16", learns=False),
    "ZeroshotCLIP2": Method("ZeroshotCLIP2", "vit_b16", learns=False),
    "CoOp": Method(
        "CoOp",
        "vit_b16_ctxv1",
        base2new_imagenet="vit_b16_ep50_ctxv1",
        cross_dataset="vit_b16_ep50_ctxv1",
        few_shot=coop_few_shot,
    ),
    "CoCoOp": Method("CoCoOp", "vit_b16_c4_ep10_batch1_ctxv1"),
    "VPT": Method("VPT", "vit_b16_c2_ep5_batch4_4"),
    "LanguagePrompting": Method("IVLP", "vit_b16_c2_ep5_batch4_4ctx_language_only", tiny="tiny_language_only"),
    "IVLP": Method("IVLP", "vit_b16_c2_ep5_batch4_2+2ctx"),
    # The control: no interaction, with the recipe and the number of parameters of BMIP.
    "IVLP_BMIP_size": Method("IVLP", "vit_b16_ep10_2+2ctx_bmip_size", tiny="tiny_bmip_size"),
    "MaPLe": Method("MaPLe", "vit_b16_c2_ep5_batch4_2ctx", cross_dataset="vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
    "BMIP": Method("BMIP", "vit_b16_c2_ep10_batch4_2ctx"),
    "PromptSRC": Method(
        "PromptSRC",
        "vit_b16_c2_ep20_batch4_4+4ctx",
        cross_dataset="vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets",
        few_shot=promptsrc_few_shot,
    ),
    "CoPrompt": Method("CoPrompt", "coprompt"),
    "PromptSRC_BMIP": Method(
        "PromptSRC_BMIP",
        "vit_b16_c2_ep20_batch4_2ctx",
        cross_dataset="vit_b16_c2_ep20_batch4_2ctx_cross_datasets",
    ),
    "CoPrompt_BMIP": Method("CoPrompt_BMIP", "vit_b16_ep8_batch4_2ctx"),
}


def import_modules(modules: Iterable[str]) -> None:
    """Import Python modules of one's own; the trainers that they register are methods from then on.

    Such a method has the recipe of the only file of its folder in configs/trainers, or `tiny` and one for other data.

    Raises:
        InputError: there is no such module.
    """
    packages = {module.partition(".")[0] for module in modules}
    if not packages:
        return
    # Dassl's registry takes seconds to import, and only this needs it.
    import trainers
    from trainers.config import TRAINER_REGISTRY, import_module

    trainers.register_all()
    for module in modules:
        import_module(module)
    for name in TRAINER_REGISTRY.registered_names():
        if name not in METHODS and TRAINER_REGISTRY.get(name).__module__.partition(".")[0] in packages:
            others = [recipe for recipe in _recipes_in(name) if not recipe.startswith(TINY)]
            METHODS[name] = Method(name, others[0] if len(others) == 1 else TINY)


def config_file(trainer: str, recipe: str) -> str:
    """The path of a recipe, from the repository's root; a recipe may also be the path of a YAML file."""
    return recipe if _is_path(recipe) else f"configs/trainers/{trainer}/{recipe}.yaml"


def recipe_exists(trainer: str, recipe: str) -> bool:
    return (ROOT / config_file(trainer, recipe)).is_file()


def variants_of(name: str) -> list[str]:
    """The suffixes of a method's recipes that `METHOD:variant` can name."""
    stems = {f"{METHODS[name].cfg}_", f"{METHODS[name].tiny}_"}
    found = _recipes_in(METHODS[name].trainer)
    return sorted({recipe[len(stem) :] for recipe in found for stem in stems if recipe.startswith(stem)})


def _recipes_in(trainer: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "configs/trainers" / trainer).glob("*.yaml"))


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
    if variant:
        return f"{method.tiny if dataset in data.BUILTIN else method.cfg}_{variant}"
    if dataset in data.BUILTIN:
        return method.tiny
    if family == "base2new" and dataset == "imagenet" and method.base2new_imagenet:
        return method.base2new_imagenet
    if family == "few_shot" and method.few_shot:
        return method.few_shot(dataset, shots)
    if family == "cross_dataset" and method.cross_dataset:
        return method.cross_dataset
    own = f"{method.cfg}_{dataset}"
    return own if recipe_exists(method.trainer, own) else method.cfg


def baseline_recipe(recipe: str) -> str:
    """The recipe of zero-shot CLIP on the backbone of another recipe."""
    stem = recipe_name(recipe)
    return next((name for name in (TINY, *BACKBONES) if stem.startswith(name)), METHODS[BASELINE].cfg)


def check_recipe(trainer: str, recipe: str) -> None:
    """Raises InputError where there is no such recipe."""
    if not recipe_exists(trainer, recipe):
        known = ", ".join(_recipes_in(trainer))
        remedy = f"choose one of {known}" if known else "name a YAML file with --cfg, or as METHOD:FILE.yaml"
        raise InputError(f"There is no {config_file(trainer, recipe)}; {remedy}.")


def method_of(trainer: str, recipe: str, datasets: Iterable[str]) -> tuple[str, str]:
    """Method and variant by the name of a recipe, for records that do not say them.

    The name adds the variant to that of the method's recipe; a recipe for one of `datasets` alone has none.
    """
    known = {known: name for name, method in METHODS.items() if method.trainer == trainer for known in method.recipes}
    start = max((known for known in known if recipe == known or recipe.startswith(f"{known}_")), key=len, default="")
    if not start:
        return f"{trainer} {recipe}".strip(), ""
    addition = recipe[len(start) + 1 :]
    return known[start], "" if addition in datasets else addition
