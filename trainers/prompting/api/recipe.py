"""The recipes of `PromptClassifier`: those of train.py, with settings by name instead of keys."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from minidassl.own.optim import optim_settings

import numpy as np

from ..declaration import CROSS_ENTROPY, Method, Settings
from ..errors import InputError, suggestion
from ..methods import METHODS, get_method, in_order
from ..recipes import read_recipe

TINY = "tiny"
OPTIMIZERS = ("sgd", "adam")
# Names of the parameters in messages; the learner's settings are items of `settings`.
_PARAMETERS = {"backbone": "backbone", "precision": "precision", "epochs": "epochs", "settings": "method, settings"}


def in_python(field: str, owner: type | None) -> str:
    """The name of a setting in Python, for messages."""
    return _PARAMETERS.get(field, f"settings[{field!r}]")


def method_for(name: str) -> Method:
    """Look up a method that is trained by cross-entropy.

    Raises:
        InputError: there is no such method, or another objective trains it.
    """
    known = [method.name for method in in_order() if method.objective == CROSS_ENTROPY]
    if name in METHODS and name not in known:
        method = get_method(name)
        raise InputError(
            f"method is {name!r}, which is trained by {method.objective}, and this classifier trains by cross-entropy "
            f"alone; set it to {method.prompts}, whose prompts are the same, or train with train.py."
        )
    if name not in known:
        raise InputError(f"method is {name!r}; set it to one of {', '.join(known)}.{suggestion(str(name), known)}")
    return get_method(name)


@dataclass(frozen=True)
class Recipe:
    """The training of a method; the fields are parameters of `PromptClassifier`, which describes them."""

    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int
    weight_decay: float
    crop_scale: tuple[float, float]
    flip: bool
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # further keys of OPTIM

    @property
    def optim(self) -> SimpleNamespace:
        """Input of the builders of optimiser and schedule."""
        chosen = {"NAME": self.optimizer, "LR": self.learning_rate, "MAX_EPOCH": self.epochs}
        return optim_settings(**{**self.others, **chosen, "WEIGHT_DECAY": self.weight_decay})

    def check(self) -> None:
        """Raises InputError for a value that is not allowed."""
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer is {self.optimizer!r}; set it to one of {', '.join(OPTIMIZERS)}.")
        check_whole_number("epochs", self.epochs, 0)
        check_whole_number("batch_size", self.batch_size, 1)
        if not _is_number(self.learning_rate) or self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate!r}; set it above 0, such as 0.002.")
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            raise InputError(f"weight_decay is {self.weight_decay!r}; set it to 0 or more, such as 5e-4.")
        scale = self.crop_scale
        pair = isinstance(scale, (tuple, list)) and len(scale) == 2 and all(map(_is_number, scale))
        if not pair or not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(f"crop_scale is {scale!r}; set it to two parts of an area, such as (0.08, 1).")
        if not isinstance(self.flip, (bool, np.bool_)):
            raise InputError(f"flip is {self.flip!r}; set it to True or False.")


def recipe_tree(method: Method, backbone: str) -> dict[str, Any]:
    """A method's recipe for a backbone, as nested mappings."""
    return read_recipe(method.trainer, method.recipes.tiny if backbone == TINY else method.recipes.default)


def recipe_of(method: Method, backbone: str) -> Recipe:
    """A method's recipe for a backbone."""
    tree = recipe_tree(method, backbone)
    optim, given = vars(optim_settings(**tree["OPTIM"])), tree["INPUT"]
    chosen = {"NAME", "LR", "MAX_EPOCH", "WEIGHT_DECAY"}
    return Recipe(
        optimizer=optim["NAME"],
        learning_rate=optim["LR"],
        epochs=optim["MAX_EPOCH"],
        batch_size=tree["DATALOADER"]["TRAIN_X"]["BATCH_SIZE"],
        weight_decay=optim["WEIGHT_DECAY"],
        crop_scale=tuple(given.get("RRCROP_SCALE", (0.08, 1.0))),
        flip="random_flip" in given["TRANSFORMS"],
        others={key: value for key, value in optim.items() if key not in chosen},
    )


def configure(method: Method, settings: Mapping[str, Any] | Settings | None, backbone: str) -> Settings:
    """The learner's settings: the recipe's, overruled by `settings`, which may also be the complete dataclass.

    Raises:
        InputError: an unknown setting, or a value that is not allowed.
    """
    if isinstance(settings, Settings):
        if not isinstance(settings, method.config):
            raise InputError(
                f"settings is a {type(settings).__name__}; {method.name} takes a {method.config.__name__} or a dict."
            )
        return settings
    if not isinstance(settings or {}, Mapping):
        raise InputError(f"settings is {settings!r}; give a dict of settings, or a {method.config.__name__}.")
    known = method.config.declared()
    for name in settings or {}:
        if name not in known:
            raise InputError(
                f"settings has {name!r}, which {method.name} does not have; it has {', '.join(known)}."
                + suggestion(str(name), known)
            )
    return method.config(**{**method.read(recipe_tree(method, backbone)), **(settings or {})})


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Raises InputError for anything but a whole number of `least` or more."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is {value!r}; set it to a whole number, {least} or more.")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
