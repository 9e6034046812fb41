"""The methods by name: learner, settings under their configuration keys, and the recipe they are trained with.

The trainers read their settings from a configuration; here they are plain keyword settings, and what a run's record
says of its configuration is translated into them.
"""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .checkpoints.published import ReleasedLayout, prompt_sizes
from .core.learner import FixedSentence, PromptLearner
from .errors import InputError, suggestion
from .learners import bmip, cocoop, coop, ivlp, maple

TINY = "tiny"
# What a setting may be, in code and in words, by the type of its default.
_ALLOWED = {bool: (bool, "True or False"), int: (numbers.Integral, "a whole number"), str: (str, "a text")}


@dataclass(frozen=True)
class Recipe:
    """How a method is trained, and the settings that it is trained with.

    Attributes:
        optimizer: "sgd" (momentum 0.9) or "adam".
        learning_rate: of the first epoch behind the warm-up; a cosine takes it down to 0.
        epochs: passes over the images, warm-up included.
        batch_size: images per step.
        crop_scale: least and greatest part of an image's area that a random crop keeps.
        flip: mirror half of the images.
        settings: of the learner, where they are not its defaults.
    """

    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int = 4
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def _tiny(optimizer: str, learning_rate: float, **settings: Any) -> Recipe:
    """For the small CLIP, whose images are digits and symbols: no mirror images, and crops that can be read."""
    return Recipe(optimizer, learning_rate, 20, crop_scale=(0.7, 1.0), flip=False, settings=settings)


@dataclass(frozen=True)
class ZeroshotConfig:
    """Settings of CLIP as it is.

    Attributes:
        templates: sentences of a class, with `{}` for its name; the features of several are averaged.
    """

    templates: tuple[str, ...] = ("a photo of a {}.",)

    def __post_init__(self) -> None:
        if isinstance(self.templates, str) or not self.templates:
            raise InputError(
                f"templates is {self.templates!r}; set it to a list of sentences with {{}} for the class."
            )
        object.__setattr__(self, "templates", tuple(self.templates))
        for template in self.templates:
            if "{}" not in template:
                raise InputError(f"The template {template!r} has no place for the class; write {{}} there.")


def _fixed_sentence(config: ZeroshotConfig, clip_model: nn.Module) -> PromptLearner:
    return FixedSentence(*config.templates)


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: the trainer's.
        node: its configuration node, `TRAINER.<node>`.
        config: dataclass of the learner's settings.
        learner: the learner, from settings and CLIP.
        keys: settings that can be chosen, with the configuration key of each; keys of the node have no dot in front.
        recipe, tiny_recipe: with OpenAI's CLIPs, and with the small one.
        sizes: settings that a checkpoint's prompts tell, with their names in `released.prompt_sizes`.
        fixed: settings that make the learner this method's.
        released: names in the checkpoints of the method's authors.
        needs_vit: the vision tower must be a ViT.
    """

    name: str
    node: str
    config: type
    learner: Callable[[Any, nn.Module], PromptLearner]
    keys: Mapping[str, str]
    recipe: Recipe
    tiny_recipe: Recipe
    sizes: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    released: ReleasedLayout | None = None
    needs_vit: bool = True

    def recipe_for(self, backbone: str) -> Recipe:
        """The recipe for a backbone's name."""
        return self.tiny_recipe if backbone == TINY else self.recipe

    def configure(self, settings: Mapping[str, Any] | Any | None, backbone: str) -> Any:
        """The learner's settings: the recipe's, overruled by `settings`, which may also be the dataclass, complete.

        Raises:
            InputError: an unknown setting, or a value that is not allowed.
        """
        if dataclasses.is_dataclass(settings):
            if not isinstance(settings, self.config):
                raise InputError(
                    f"settings is a {type(settings).__name__}; {self.name} takes a {self.config.__name__} or a dict."
                )
            return settings
        if not isinstance(settings or {}, Mapping):
            raise InputError(f"settings is {settings!r}; give a dict of settings, or a {self.config.__name__}.")
        given = dict(settings or {})
        defaults = {option.name: option.default for option in dataclasses.fields(self.config)}
        for name, value in given.items():
            if name not in self.keys:
                raise InputError(
                    f"settings has {name!r}, which {self.name} does not have; it has {', '.join(self.keys)}."
                    + suggestion(str(name), self.keys)
                )
            allowed = _ALLOWED.get(type(defaults[name]))
            if allowed and not (isinstance(value, allowed[0]) and isinstance(value, bool) == (allowed[0] is bool)):
                raise InputError(f"settings[{name!r}] is {value!r}; set it to {allowed[1]}.")
        with_defaults = {**self.recipe_for(backbone).settings, **given, **self.fixed}
        return self.in_own_words(lambda: self.config(**with_defaults))

    def plain_settings(self, config: Any) -> dict[str, Any]:
        """The settings that can be chosen, of a complete dataclass."""
        return {name: getattr(config, name) for name in self.keys}

    def build(self, config: Any, clip_model: nn.Module) -> PromptLearner:
        """The learner; raises InputError where the settings do not suit the CLIP."""
        return self.in_own_words(lambda: self.learner(config, clip_model))

    def in_own_words(self, work: Callable[[], Any]) -> Any:
        """Do some work whose errors name configuration keys, and name the settings in their place."""
        try:
            return work()
        except InputError as error:
            raise InputError(self.without_keys(str(error))) from error

    def without_keys(self, message: str) -> str:
        """A message with settings in the place of configuration keys."""
        names = {key.rpartition(".")[2]: f"settings[{name!r}]" for name, key in self.keys.items()}
        names.update({"MODEL.BACKBONE.NAME": "backbone", "PREC": "precision"})
        keys = "|".join(re.escape(key) for key in sorted(names, key=len, reverse=True))
        pattern = rf"\b(?:TRAINER\.(?:\w+|<METHOD>)\.)?(?:GATE\.)?({keys})\b"
        return re.sub(pattern, lambda match: names[match[1]], message)

    def recorded_settings(self, configuration: Mapping[str, Any], node_name: str = "") -> dict[str, Any]:
        """The settings that a run was trained with, from the `configuration` of its record.

        Args:
            node_name: of the trainer, where it is not the method's.
        """
        node = configuration["TRAINER"].get(node_name or self.node, {})
        found = {}
        for name, key in self.keys.items():
            value: Any = configuration if key.startswith("SHARE.") else node
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                found[name] = value
        connected = bmip.AGGREGATIONS.get(str(node.get("CONNECT_METHOD")))
        if "aggregation" in found and connected:
            # The authors' key for the same.
            found["aggregation"] = node["CONNECT_METHOD"]
        return found

    def settings_of(self, state_dict: Mapping[str, Tensor], released: bool) -> dict[str, Any]:
        """The settings that the tensors of a checkpoint tell, under the learner's names.

        Args:
            released: the checkpoint is one of the method's authors.
        """
        sizes = prompt_sizes(state_dict)
        found: dict[str, Any] = {name: sizes.get(size, 0) for name, size in self.sizes.items()}
        if "class_specific" in self.keys:
            found["class_specific"] = any(value.dim() == 3 for value in state_dict.values())
        if self.config is coop.CoOpConfig:
            # All words are prompts, so only their number counts.
            found["context"] = ""
        if "head_width" in self.keys:
            head = state_dict.get("text_heads.0.0.weight")
            found["head_width"] = 0 if head is None else len(head)
        for name, heads in (("share_text", "text_to_vision"), ("share_vision", "vision_to_text")):
            if name in self.keys:
                found[name] = not any(re.match(rf"{heads}\.[1-9]", key) for key in state_dict)
        if released and "variant" in self.keys:
            found["variant"] = "released"
        return found


_BMIP_KEYS = {
    "variant": "VARIANT",
    "aggregation": "AGGREGATION",
    "length": "N_CTX",
    "depth": "PROMPT_DEPTH",
    "context": "CTX_INIT",
    "share_text": "SHARE.SHARE_PARAMETER_TEXT",
    "share_vision": "SHARE.SHARE_PARAMETER_VISUAL",
    "detach": "GATE.DETACH",
    "relative": "GATE.RELATIVE",
    "readout": "GATE.READOUT",
}
_PAIR = {"length": "text_length", "depth": "text_depth"}

_ALL = (
    Method(
        "BMIP",
        "BMIP",
        bmip.BMIPConfig,
        bmip.BMIPLearner,
        _BMIP_KEYS,
        recipe=Recipe("adam", 0.002, 10),
        tiny_recipe=_tiny("adam", 0.0035, depth=3),
        sizes=_PAIR,
        released=bmip.RELEASED,
    ),
    Method(
        "MaPLe",
        "MAPLE",
        maple.MaPLeConfig,
        maple.MaPLeLearner,
        {"length": "N_CTX", "depth": "PROMPT_DEPTH", "context": "CTX_INIT"},
        recipe=Recipe("sgd", 0.0035, 5),
        tiny_recipe=_tiny("sgd", 0.01, depth=3),
        sizes=_PAIR,
        released=maple.RELEASED,
    ),
    Method(
        "IVLP",
        "IVLP",
        ivlp.IVLPConfig,
        ivlp.IVLPLearner,
        {
            "text_length": "N_CTX_TEXT",
            "text_depth": "PROMPT_DEPTH_TEXT",
            "vision_length": "N_CTX_VISION",
            "vision_depth": "PROMPT_DEPTH_VISION",
            "context": "CTX_INIT",
            "head_width": "HEAD_WIDTH",
        },
        recipe=Recipe("sgd", 0.0035, 5, settings={"text_depth": 12, "vision_depth": 12}),
        tiny_recipe=_tiny("sgd", 0.0035, text_depth=4, vision_depth=4),
        sizes={name: name for name in ("text_length", "text_depth", "vision_length", "vision_depth")},
        released=ivlp.RELEASED,
        needs_vit=False,
    ),
    Method(
        "VPT",
        "VPT",
        ivlp.IVLPConfig,
        ivlp.IVLPLearner,
        {"vision_length": "N_CTX_VISION", "vision_depth": "PROMPT_DEPTH_VISION", "context": "CTX_INIT"},
        recipe=Recipe("sgd", 0.0025, 5, settings={"vision_length": 8, "vision_depth": 12}),
        tiny_recipe=_tiny("sgd", 0.01, vision_length=8, vision_depth=4),
        sizes={name: name for name in ("vision_length", "vision_depth")},
        fixed={"text_length": 0, "text_depth": 0, "node": "TRAINER.VPT"},
        released=ivlp.RELEASED,
    ),
    Method(
        "CoOp",
        "COOP",
        coop.CoOpConfig,
        coop.CoOpLearner,
        {"length": "N_CTX", "context": "CTX_INIT", "class_specific": "CSC", "position": "CLASS_TOKEN_POSITION"},
        recipe=Recipe("sgd", 0.002, 200, batch_size=32, settings={"context": "a photo of a"}),
        tiny_recipe=_tiny("sgd", 0.002, context="a photo of a"),
        sizes={"length": "text_length"},
        released=coop.RELEASED,
        needs_vit=False,
    ),
    Method(
        "CoCoOp",
        "COCOOP",
        coop.CoOpConfig,
        cocoop.CoCoOpLearner,
        {"length": "N_CTX", "context": "CTX_INIT"},
        recipe=Recipe("sgd", 0.002, 10, batch_size=1, settings={"length": 4, "context": "a photo of a"}),
        tiny_recipe=_tiny("sgd", 0.001, context="a photo of a"),
        sizes={"length": "text_length"},
        fixed={"node": "TRAINER.COCOOP"},
        released=cocoop.RELEASED,
        needs_vit=False,
    ),
    Method(
        "ZeroshotCLIP",
        "ZEROSHOTCLIP",
        ZeroshotConfig,
        _fixed_sentence,
        {"templates": "TEMPLATES"},
        recipe=Recipe("sgd", 0.002, 0),
        tiny_recipe=Recipe("sgd", 0.002, 0),
        needs_vit=False,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
# Trainers that train a method's prompts by another objective, or under another name: the method, and the node of its
# settings.
SAME_PROMPTS = {
    "PromptSRC": ("IVLP", "PROMPTSRC"),
    "PromptSRC_BMIP": ("BMIP", "BMIP"),
    "CoPrompt": ("MaPLe", "CoPrompt"),
    "CoPrompt_BMIP": ("BMIP", "BMIP"),
    # In a checkout that has a BMIP of its own (scripts/install_plugin.py).
    "BMIPPlugin": ("BMIP", "BMIPPLUGIN"),
}


def get_method(name: str) -> Method:
    """Look up a method by name.

    Raises:
        InputError: there is none of this name; the message lists them, and guesses.
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; set it to one of {', '.join(METHODS)}.{suggestion(str(name), METHODS)}")
    return METHODS[name]
