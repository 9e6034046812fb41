"""Declarations: each setting of a method or objective is declared once, and everything else is derived from it.

A settings class is a frozen dataclass whose fields are made by `setting`. From its fields come the configuration's
keys with their defaults, the reading of configurations, the settings of `PromptClassifier`, the values read off a
checkpoint's tensors, checks with their messages, and the tables of keys in the documentation. A `Method` names such a
class, its learner and its recipes; `declare` registers it. Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import InputError, SettingError
from .recipes import value_at

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .core.layout import PublishedLayout
    from .core.learner import PromptLearner
    from .objectives.objective import Objective

CROSS_ENTROPY = "cross_entropy"
LARGEST_SEED = 2**32 - 1  # NumPy's
SUBSETS = ("all", "base", "new")  # of the classes: the values of DATASET.SUBSAMPLE_CLASSES
# Bounds against slips of the keyboard, which would take all memory or overflow: of prompt tokens per layer, and of the
# terms of a loss.
MOST_TOKENS, MOST_WEIGHT = 1000, 1e6
# Settings of a run that belong to no method, with their configuration keys; {node} is the method's.
RUN_KEYS = {"backbone": "MODEL.BACKBONE.NAME", "precision": "TRAINER.{node}.PREC", "epochs": "OPTIM.MAX_EPOCH"}
RUN_KEYS |= {"settings": "the keys of TRAINER.{node}"}


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting.

    Attributes:
        name: of the field.
        default: its type is the type of all values.
        key: configuration key below `TRAINER.<node>`, or from the root (`root`); empty: no key sets it.
        help: one line for readers of the configuration.
        least, most: inclusive bounds, of each item of a list.
        also: a value that is allowed out of bounds.
        choices: all allowed values.
        size: number of items of a list; None: any.
        told_by: reads the value off a checkpoint's tensors: a name in `prompt_sizes`, or a function of the state dict.
        root: the key is complete.
        shapes_training: training can only resume from a checkpoint with the same value.
        tested: it affects predictions, so tests need the value of the training.
    """

    name: str
    default: Any
    key: str
    help: str
    least: float | None = None
    most: float | None = None
    also: Any = None
    choices: tuple[Any, ...] | None = None
    size: int | None = None
    told_by: str | Callable[[Mapping[str, Tensor]], Any] | None = None
    root: bool = False
    shapes_training: bool = True
    tested: bool = False

    def dotted(self, node: str) -> str:
        """The complete configuration key in a method's node."""
        return self.key if self.root else f"TRAINER.{node}.{self.key}"

    def checked(self, value: Any, owner: type) -> Any:
        """The value in the default's type.

        Raises:
            SettingError: another type, a value that is no choice, or one out of bounds.
        """
        allowed = self._allowed(value)
        if allowed is None:
            return type(self.default)(value)
        raise SettingError(f"{{{self.name}}} is {{!r}}; set it to {{}}.", value, allowed, owner=owner)

    def _allowed(self, value: Any) -> str | None:
        """None for an allowed value, else a description of the allowed ones."""
        if self.choices is not None:
            return None if value in self.choices else f"one of {', '.join(map(str, self.choices))}"
        if isinstance(self.default, (tuple, list)):
            kind = type((*self.default, "")[0])
            fits = isinstance(value, (tuple, list)) and self.size in (None, len(value))
            if fits and all(self._fits(item, kind) for item in value):
                return None
            return f"a list{f' of {self.size} items' if self.size else ''}, each item {self._words(kind)}"
        kind = type(self.default)
        if self._fits(value, kind) or (self.also is not None and value == self.also and type(value) is kind):
            return None
        return self._words(kind) + ("" if self.also is None else f", or {self.also}")

    def _fits(self, value: Any, kind: type) -> bool:
        """Whether a number, text or switch, or an item of a list, is of a type and in bounds."""
        fits = isinstance(value, _KINDS[kind][0]) and isinstance(value, bool) == (kind is bool)
        # A comparison, because math.isfinite overflows on a huge whole number.
        fits = fits and (kind is not float or abs(value) < math.inf)
        return fits and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def _words(self, kind: type) -> str:
        words = _KINDS[kind][1]
        if self.most is not None:
            return f"{words} between {self.least} and {self.most}"
        return words if self.least is None else f"{words}, {self.least} or more"


# The types of values, and their descriptions, by the default's type.
_KINDS = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a finite number"),
    str: (str, "a text"),
}


def setting(default: Any, key: str, help: str, **more: Any) -> Any:
    """A field of a settings class; the arguments are attributes of `Setting`."""
    return field(default=default, metadata={"key": key, "help": help, **more})


def changed(settings: type[Settings], name: str, default: Any, **more: Any) -> Any:
    """The field `name` of another settings class with another default."""
    (declared,) = (one.metadata for one in dataclasses.fields(settings) if one.name == name)
    return field(default=default, metadata={**declared, **more})


@dataclass(frozen=True)
class Settings:
    """Base of all settings. Fields without a declaration are fixed: no front end sets them.

    Raises:
        SettingError: a value that is not allowed.
    """

    def __post_init__(self) -> None:
        for name, one in self.declared().items():
            object.__setattr__(self, name, one.checked(getattr(self, name), type(self)))
        self.check()

    @classmethod
    def declared(cls) -> dict[str, Setting]:
        """The declared settings by field name, in order."""
        fields = (one for one in dataclasses.fields(cls) if one.metadata)
        return {one.name: Setting(one.name, one.default, **one.metadata) for one in fields}

    def check(self) -> None:
        """Hook: raises SettingError for values that are allowed one by one, but not together."""

    def for_dataset(self, dataset: str) -> Settings:
        """Hook: the settings of a run on a data set, by its registered name, whose sentence may be its own."""
        return self

    def error(self, text: str, *values: object) -> SettingError:
        """An error about these settings; see `SettingError`."""
        return SettingError(text, *values, owner=type(self))

    def plain(self) -> dict[str, Any]:
        """The declared settings with their values."""
        return {name: getattr(self, name) for name in self.declared()}

    def keyed(self, node: str = "") -> dict[str, Any]:
        """The values by complete configuration key."""
        return {one.dotted(node): getattr(self, name) for name, one in self.declared().items() if one.key}


def tree_of(keyed: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    tree: dict[str, Any] = {}
    for dotted, value in keyed.items():
        *path, last = dotted.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def read_settings(settings: type[Settings], tree: Mapping[str, Any], node: str = "") -> dict[str, Any]:
    """The settings that a configuration sets, by field name."""
    found = {name: value_at(tree, one.dotted(node)) for name, one in settings.declared().items() if one.key}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class UpstreamKey:
    """A key of the authors' configuration that has no setting of its own here.

    Attributes:
        key, default, help: as in `Setting`, below the method's node.
        stands_for: the field that it sets; empty: it has no effect, and only its default is accepted.
        meanings: from the key's value, as text, to the field's value, or None to leave the field alone.
        reason: why it has no effect.
    """

    key: str
    default: Any
    help: str
    stands_for: str = ""
    meanings: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def apply(self, found: dict[str, Any], value: Any, node: str, declared: Setting | None) -> None:
        """Translate the key's value into the field that it stands for, in place.

        Raises:
            InputError: the value is not allowed, or contradicts another key.
        """
        dotted = f"TRAINER.{node}.{self.key}"
        if declared is None:
            if value not in (None, self.default):
                raise InputError(f"{dotted} is {value}, but {self.reason}")
            return
        # yacs reads the text "None" as None.
        if str(value) not in self.meanings:
            raise InputError(
                f"{dotted} is {value!r}; set it to one of {', '.join(self.meanings)}, or leave it and choose "
                f"{declared.dotted(node)}."
            )
        meaning = self.meanings[str(value)]
        if meaning is None:
            return
        if found.get(self.stands_for, declared.default) not in (declared.default, meaning):
            raise InputError(
                f"{dotted} is {value!r} and {declared.dotted(node)} is {found[self.stands_for]!r}, which are two "
                f"{self.stands_for}s; set one of them only."
            )
        found[self.stands_for] = meaning


@dataclass(frozen=True)
class Recipes:
    """Names of a method's recipes, files in `configs/trainers/<trainer>`, by protocol.

    Attributes:
        default: base-to-new, and all protocols without a recipe below. A file `<recipe>_<data set>` replaces it, or
            another one, on that data set.
        base2new_imagenet: base-to-new on ImageNet.
        remote_sensing: instead of `default` on data sets of remote sensing.
        cross_dataset: for transfer from ImageNet.
        few_shot: a function of the data set (a file in configs/datasets) and the number of shots.
        chooses_context: its few-shot scripts choose number, place and sharing of the context tokens, and have a folder
            for each choice.
        tiny: for the small CLIP.
        folder: of the files, in `configs/trainers`, if it is not named after the method's trainer.
    """

    default: str
    base2new_imagenet: str = ""
    remote_sensing: str = ""
    cross_dataset: str = ""
    few_shot: Callable[[str, int], str] | None = None
    chooses_context: bool = False
    tiny: str = "tiny"
    folder: str = ""

    @property
    def all(self) -> set[str]:
        """The names of all of them."""
        cases = (("", 1), ("", 2), ("", 16), ("dtd", 1), ("dtd", 16))
        few_shot = {self.few_shot(*case) for case in cases} if self.few_shot else set()
        others = self.base2new_imagenet, self.remote_sensing, self.cross_dataset, self.tiny
        return {self.default, *others, *few_shot} - {""}


@dataclass(frozen=True)
class Method:
    """A method: a learner, the objective that trains it, and all facts about them that other parts need.

    Attributes:
        name: of the method, and of its trainer unless `trainer` is given.
        summary: the learned parts, in a line for readers of the documentation.
        node: of its configuration, `TRAINER.<node>`.
        config: the learner's settings class.
        learner: builds the learner from settings and CLIP.
        recipes: names of its recipes; or the name of a method, to train by the recipes of that one.
        objective: name of its objective. TRAINER.OBJECTIVE changes it, unless the method is another one's prompts
            trained by this objective, whose name it then has.
        own_objective: its prompts suit no other objective.
        layout: tensor names in the checkpoints that its authors published; None if there are none.
        folder: of its checkpoints, below the output folder: the registered name of its model.
        needs_vit: it prompts the vision tower, which therefore must be a ViT.
        precision: default of its key PREC.
        prompts: name of the method that trains the same prompts by cross-entropy; empty: this one.
        upstream_keys: keys of the authors' configuration without a setting here.
        trainer: registered name of the trainer, if another method's trainer trains it with its own recipe.
        shown: its name in tables, if that has characters that no trainer's name can have.
        objective_config: settings class of its objective in place of the objective's own, with keys in this node.
        learns: it has trainable tensors.
        venue, arxiv: of its publication.
    """

    name: str
    node: str
    config: type[Settings]
    learner: Callable[[Any, nn.Module], PromptLearner]
    recipes: Recipes | str
    summary: str = ""
    objective: str = CROSS_ENTROPY
    own_objective: bool = False
    layout: PublishedLayout | None = None
    folder: str = "prompt_learner"
    needs_vit: bool = True
    precision: str = "fp16"
    prompts: str = ""
    upstream_keys: tuple[UpstreamKey, ...] = ()
    trainer: str = ""
    shown: str = ""
    objective_config: type[Settings] | None = None
    learns: bool = True
    venue: str = ""
    arxiv: str = ""

    PRECISION_KEY: ClassVar[str] = "PREC"

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainer", self.trainer or self.name)
        object.__setattr__(self, "prompts", self.prompts or self.name)
        recipes = self.recipes
        if isinstance(recipes, str):
            if recipes not in METHODS:
                raise InputError(
                    f"{self.name} has recipes={recipes!r}, which is no method; name one of {', '.join(METHODS)}."
                )
            recipes = METHODS[recipes].recipes
        object.__setattr__(self, "recipes", dataclasses.replace(recipes, folder=recipes.folder or self.trainer))

    @property
    def any_objective(self) -> bool:
        """The prompts are its own, so that TRAINER.OBJECTIVE may name another objective."""
        return self.prompts == self.name and not self.own_objective

    def trained_by(self, objective: type[Objective], name: str, **changes: Any) -> Method:
        """Declare a method of the same prompts that another objective trains, with some fields replaced.

        Its recipes are those of this method, unless `changes` has others.
        """
        own = dict(name=name, trainer=name, shown="", objective=objective.name, objective_config=None)
        return declare(dataclasses.replace(self, **{**own, **changes}))

    @property
    def keys(self) -> dict[str, Any]:
        """The configuration keys that it declares, dotted, with their defaults."""
        own = {self.PRECISION_KEY: self.precision, **{one.key: one.default for one in self.upstream_keys}}
        of_objective = self.objective_config().keyed() if self.objective_config else {}
        own = {f"TRAINER.{self.node}.{key}": value for key, value in own.items()}
        return {**self.config().keyed(self.node), **of_objective, **own}

    def config_of(self, objective: type[Objective]) -> type[Settings]:
        """The settings class of an objective that trains it."""
        own = self.objective_config if objective.name == self.objective else None
        return own or objective.Config

    def read(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a configuration sets, by field name.

        Raises:
            InputError: a value of an upstream key that is not allowed.
        """
        found = read_settings(self.config, tree, self.node)
        for one in self.upstream_keys:
            value = value_at(tree, f"TRAINER.{self.node}.{one.key}")
            one.apply(found, value, self.node, self.config.declared().get(one.stands_for))
        return found

    def told(self, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """The settings read off a state dict under the learner's names, by field name."""
        sizes = prompt_sizes(state_dict)
        rules = {name: one.told_by for name, one in self.config.declared().items() if one.told_by}
        return {name: rule(state_dict) if callable(rule) else sizes.get(rule, 0) for name, rule in rules.items()}


def prompt_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Number of layers ("text_depth") and tokens in layer 0 ("text_length") of each tower's prompts.

    Args:
        state_dict: under the learner's names; a tower without prompts gets no entry.
    """
    sizes = {}
    for tower in ("text", "vision"):
        layers = [key for key in state_dict if re.fullmatch(rf"{tower}_prompts\.\d+", key)]
        if layers:
            sizes[f"{tower}_depth"] = 1 + max(int(key.rpartition(".")[2]) for key in layers)
            sizes[f"{tower}_length"] = state_dict[min(layers)].shape[-2]
    return sizes


METHODS: dict[str, Method] = {}


def declare(method: Method) -> Method:
    """Register a method by its name.

    Raises:
        InputError: the name is taken.
    """
    if METHODS.get(method.name, method) != method:
        raise InputError(f"There is a method {method.name!r} already; choose another name than {', '.join(METHODS)}.")
    METHODS[method.name] = method
    return method
