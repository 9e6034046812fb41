"""The recipes of `PromptClassifier`: those of train.py, with settings by name instead of keys."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from minidassl.own.optim import OPTIM, optim_settings

from ..declaration import CROSS_ENTROPY, Method, Settings, read_settings, setting, tree_of
from ..errors import InputError, check_name, nearest
from ..methods import METHODS, in_order
from ..recipes import read_recipe

TINY = "tiny"
# Names of the parameters in messages; the learner's settings are items of `settings`.
_PARAMETERS = {"backbone": "backbone", "precision": "precision", "epochs": "epochs", "settings": "method, settings"}
_parameter = functools.partial(setting, help="", root=True)


def in_python(field: str, owner: type | None) -> str:
    """The name of a setting in Python, for messages."""
    return _PARAMETERS.get(field, f"settings[{field!r}]")


def method_for(name: str) -> Method:
    """Look up a method that is trained by cross-entropy.

    Raises:
        InputError: there is no such method, or another objective trains it.
    """
    known = {method.name: method for method in in_order() if method.objective == CROSS_ENTROPY}
    if name in known:
        return known[name]
    if name not in METHODS:
        check_name("method", name, known, "docs/METHODS.md")
    method = METHODS[name]
    same = f"set it to {method.prompts}, whose prompts are the same, or " if method.prompts in known else ""
    raise InputError(
        f"method is {name!r}, which is trained by {method.objective}, and this classifier trains by cross-entropy "
        f"alone; {same}train with train.py."
    )


@dataclass(frozen=True)
class Recipe(Settings):
    """The training of a method; its settings are parameters of `PromptClassifier`, which describes them."""

    optimizer: str = _parameter(OPTIM["NAME"], "OPTIM.NAME", choices=("sgd", "adam", "adamw"))
    learning_rate: float = _parameter(OPTIM["LR"], "OPTIM.LR", least=0.0)
    epochs: int = _parameter(OPTIM["MAX_EPOCH"], "OPTIM.MAX_EPOCH", least=0)
    batch_size: int = _parameter(32, "DATALOADER.TRAIN_X.BATCH_SIZE", least=1)
    weight_decay: float = _parameter(OPTIM["WEIGHT_DECAY"], "OPTIM.WEIGHT_DECAY", least=0.0)
    crop_scale: tuple = _parameter((0.08, 1.0), "INPUT.RRCROP_SCALE")
    flip: bool = _parameter(True, key="")
    prediction_batch_size: int = _parameter(100, key="", least=1)
    workers: int = _parameter(0, key="", least=0)
    optim_keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of OPTIM in the recipe

    @property
    def optim(self) -> SimpleNamespace:
        """Input of the builders of optimiser and schedule."""
        return optim_settings(**{**self.optim_keys, **tree_of(self.keyed())["OPTIM"]})

    def check(self) -> None:
        scale = self.crop_scale
        pair = len(scale) == 2 and all(isinstance(share, numbers.Real) for share in scale)
        if not pair or not 0 < scale[0] <= scale[1] <= 1:
            raise self.error("{crop_scale} is {!r}; set it to two parts of an area, such as (0.08, 1).", scale)


def recipe_tree(method: Method, backbone: str) -> dict[str, Any]:
    """A method's recipe for a backbone, as nested mappings."""
    recipes = method.recipes
    return read_recipe(recipes.folder, recipes.tiny if backbone == TINY else recipes.default)


def recipe_of(method: Method, backbone: str) -> Recipe:
    """A method's recipe for a backbone."""
    tree = recipe_tree(method, backbone)
    flip = "random_flip" in tree["INPUT"]["TRANSFORMS"]
    return Recipe(**read_settings(Recipe, tree), flip=flip, optim_keys=tree["OPTIM"])


def configure(method: Method, settings: Mapping[str, Any] | Settings | None, backbone: str) -> Settings:
    """The learner's settings: the recipe's, overruled by `settings`, which may also be the complete dataclass.

    Raises:
        InputError: an unknown setting, or a value that is not allowed.
    """
    if isinstance(settings, method.config):
        return settings
    settings = settings or {}
    if not isinstance(settings, Mapping):
        raise InputError(f"settings is {settings!r}; give a dict of settings, or a {method.config.__name__}.")
    known = method.config.declared()
    for name in settings:
        if name not in known:
            hint = nearest(name, known, f"help({method.config.__name__})")
            raise InputError(f"settings has {name!r}, which {method.name} does not have. {hint}")
    return method.config(**{**method.read(recipe_tree(method, backbone)), **settings})
