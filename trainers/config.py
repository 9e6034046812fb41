"""Build the configuration of a run: Dassl's defaults, the methods' own, YAML files with bases, flags, options."""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)
from minidassl.own.optim import OPTIM

import numpy as np
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from torch import nn
from yacs.config import CfgNode

from .dassl_keys import DasslKeys
from .early_stopping import NO_PATIENCE
from .prompting.core.clip_weights import images_of_backbone
from .prompting.core.cuda_graph import AUTO, MODES, OFF, ON
from .prompting.core.design import Images, design_of, images_of
from .prompting.core.prompted_clip import AUTOMATIC
from .prompting.declaration import (
    LARGEST_SEED,
    RUN_KEYS,
    SUBSETS,
    Method,
    Settings,
    read_settings,
    setting,
    tree_of,
)
from .prompting.errors import InputError, check_name, worded
from .prompting.methods import METHODS, OBJECTIVES, import_own
from .prompting.objectives.objective import Objective, RunFacts
from .prompting.recipes import CONFIGS, is_plain, read_files, value_at
from .records import flatten

_shared = functools.partial(setting, root=True)


@dataclass(frozen=True)
class Common(Settings):
    """Settings that all methods share and Dassl lacks; CoOp, MaPLe and BMIP declare these in their train.py."""

    classes: str = _shared("all", "DATASET.SUBSAMPLE_CLASSES", "classes", choices=SUBSETS)
    use_ratio: bool = _shared(False, "DATASET.USE_RATIO", 'let SUBSAMPLE_RATIO mix base classes into "new"')
    ratio: int = _shared(100, "DATASET.SUBSAMPLE_RATIO", "per cent of base classes among those", least=0, most=100)
    skip_broken: bool = _shared(False, "DATASET.SKIP_BROKEN", "decode all images first; leave out broken ones")
    init_seed: int = _shared(
        -1,
        "MODEL.INIT_SEED",
        "seed of the prompts' initial values, apart from SEED; -1: SEED",
        least=0,
        most=LARGEST_SEED,
        also=-1,
    )
    class_chunk: int = _shared(
        AUTOMATIC,
        "MODEL.CLASS_CHUNK",
        "classes whose activations a training step holds at once; 0: as memory allows",
        least=0,
    )
    cuda_graph: str = _shared(
        AUTO,
        "MODEL.CUDA_GRAPH",
        "record steps and tests on CUDA once, and launch each as one: auto (where it can be), on (or fail), off",
        choices=MODES,
    )
    tf32: bool = _shared(False, "MODEL.TF32", "fp32 products on CUDA's tensor cores: faster, 10 bits of mantissa")
    # Of the stand-in, and of forks of Dassl.
    adam_eps: float = _shared(OPTIM["EPS"], "OPTIM.EPS", "smallest denominator of adam's steps", least=1e-30, most=1.0)
    # The stand-in's; upstream Dassl has no image cache.
    cache_gb: float = _shared(
        2.0, "DATALOADER.CACHE_GB", "GiB of decoded training images kept in memory; 0: none", least=0.0
    )
    early_stopping: bool = _shared(
        True, "TRAIN.EARLY_STOPPING", "stop after PATIENT_COUNT epochs without a better validation"
    )
    patience: int = _shared(
        3,
        "TRAIN.PATIENT_COUNT",
        "epochs without a better validation result; -1: never stop",
        least=1,
        also=NO_PATIENCE,
    )
    no_test_early: bool = _shared(
        True,
        "TEST.NO_TEST_EARLY",
        "no validation during training: no early stopping, no best-on-validation model",
    )
    save_logits: bool = _shared(False, "TEST.SAVE_LOGITS", "write the logits of the test beside its record")
    recipe: str = _shared("", "TRAINER.RECIPE", "name of the configuration file, for the record")
    tag: str = _shared("", "TRAINER.TAG", "name of an experiment with other settings, for the record")
    objective: str = _shared("", "TRAINER.OBJECTIVE", "name of the objective; empty: the trainer's own")


# Flags of CoOp's command line and the keys that they set.
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}


def default_cfg() -> CfgNode:
    """Dassl's defaults, those that all methods share, and those of every registered method and objective."""
    cfg = get_cfg_default()
    declare_missing(cfg, Common().keyed() | declared_keys(TRAINER_REGISTRY.registered_names()))
    return cfg


def _check_trainer(name: str, trainers: Collection[str]) -> None:
    """Raise InputError for a name of no trainer, or of a method that another method's trainer trains."""
    method = METHODS.get(name)
    if method is not None and name not in trainers:
        recipe = CONFIGS / "trainers" / method.recipes.folder / f"{method.recipes.default}.yaml"
        raise InputError(
            f"TRAINER.NAME (--trainer) is {name!r}, a method whose trainer is {method.trainer!r}; set it to that, and "
            f"--config-file to a recipe of the method, such as {recipe}."
        )
    check_name("TRAINER.NAME (--trainer)", name, trainers, "docs/METHODS.md")


def method_of(trainer: str) -> Method | None:
    """The method of a registered trainer; None for other projects' trainers."""
    return getattr(TRAINER_REGISTRY.get(trainer), "method", None)


def declared_keys(trainers: Iterable[str]) -> dict[str, Any]:
    """The dotted keys of some trainers' methods and of all objectives, with their defaults."""
    keyed: dict[str, Any] = {}
    for method in filter(None, map(method_of, trainers)):
        keyed |= method.keys
    for objective in OBJECTIVES.values():
        keyed |= objective.Config().keyed()
    return keyed


def declare_missing(cfg: CfgNode, keyed: Mapping[str, Any]) -> None:
    """Add to a configuration the dotted keys that it lacks, with their defaults."""
    for key, default in keyed.items():
        *path, name = key.split(".")
        node = cfg
        for part in path:
            node = node.setdefault(part, CfgNode())
        node.setdefault(name, default)


def objective_of(cfg: CfgNode, method: Method) -> type[Objective]:
    """The objective of TRAINER.OBJECTIVE, or a method's own where that is empty.

    Raises:
        InputError: it is unknown, or the method is named after another one.
    """
    name = cfg.TRAINER.OBJECTIVE or method.objective
    check_name("TRAINER.OBJECTIVE", name, sorted(OBJECTIVES), "docs/METHODS.md")
    owner = OBJECTIVES[name].only_for
    if owner and name != method.objective:
        raise InputError(
            f"TRAINER.OBJECTIVE is {name!r}, which trains no other prompts than those of {owner}; choose that "
            "trainer (--trainer), or another objective."
        )
    if not method.any_objective and name != method.objective:
        raise InputError(
            f"TRAINER.OBJECTIVE is {name!r}, but {cfg.TRAINER.NAME} (--trainer) stands for {method.objective}; leave "
            "the key empty, or choose the trainer of the prompts alone, like IVLP, MaPLe or BMIP."
        )
    return OBJECTIVES[name]


def build_objective(cfg: CfgNode, method: Method) -> Objective:
    """The objective with its settings; raises InputError for a value that is not allowed."""
    objective = objective_of(cfg, method)
    settings = method.config_of(objective)
    config = settings(**read_settings(settings, cfg))
    return objective(config, RunFacts(cfg.OPTIM.MAX_EPOCH, cfg.DATASET.NAME))


def settings_of(cfg: CfgNode, method: Method) -> Settings:
    """The settings of a method's learner; raises InputError for a value that is not allowed."""
    with worded(key_names(cfg, method)):
        return method.config(**method.read(cfg)).for_dataset(cfg.DATASET.NAME)


def key_names(cfg: CfgNode, method: Method) -> Callable[[str, type | None], str]:
    """Names settings by their configuration keys, for messages."""

    def name_of(field: str, owner: type | None) -> str:
        objective = OBJECTIVES.get(cfg.TRAINER.OBJECTIVE or method.objective, Objective)
        for settings in (method.config, method.config_of(objective), Common, DasslKeys):
            one = settings.declared().get(field)
            if one is not None and owner in (None, settings):
                return one.dotted(method.node)
        return RUN_KEYS.get(field, field).format(node=method.node)

    return name_of


def build_cfg(args: argparse.Namespace) -> CfgNode:
    """Merge in CoOp's order: defaults, data set, method, flags, trailing options; later ones overrule earlier ones.

    Args:
        args: the flags of `FLAG_KEYS` (None or empty where not given), `dataset_config_file`, `config_file`, `opts`,
            and `modules`, which are imported first, so that they can register trainers and objectives.

    Returns:
        The frozen configuration.

    Raises:
        InputError: an unknown key, trainer or data set, a value of the wrong type, a key without effect, an unreadable
            file, a module that cannot be found.
    """
    for module in args.modules:
        import_own(module)
    cfg, given = default_cfg(), []
    defaults = flatten(cfg)
    for name in (args.dataset_config_file, args.config_file):
        for path, keys in read_files(name) if name else []:
            merge(cfg, keys, str(path))
            given += flatten(keys)
    cfg.TRAINER.RECIPE = Path(args.config_file).stem if args.config_file else ""
    of_files = cfg.MODEL.BACKBONE.NAME
    for flag, key in FLAG_KEYS.items():
        # Unlike upstream's flags, which count only when true, 0 is a seed.
        if getattr(args, flag) not in (None, "", []):
            *path, name = key.split(".")
            functools.reduce(getattr, path, cfg)[name] = getattr(args, flag)
    options = list(args.opts)
    if len(options) % 2:
        pairs = itertools.zip_longest(options[::2], options[1::2])
        bare = next(key for key, value in pairs if value is None or _KEY.fullmatch(value))
        raise InputError(f"{bare} has no VALUE; options after the flags come as KEY VALUE pairs, without '='.")
    for key, value in zip(options[::2], options[1::2]):
        merge(cfg, tree_of({key: value}), f"{key} {value:.100}")
    _check_plain(cfg, defaults)
    check_shared(cfg)
    trainers, data_sets = (sorted(registry.registered_names()) for registry in (TRAINER_REGISTRY, DATASET_REGISTRY))
    _check_trainer(cfg.TRAINER.NAME, trainers)
    check_name("DATASET.NAME (--dataset-config-file)", cfg.DATASET.NAME, data_sets, "docs/DATASETS.md")
    method = method_of(cfg.TRAINER.NAME)
    if method is not None:
        objective = objective_of(cfg, method)
        if cfg.DATALOADER.K_TRANSFORMS == 1:
            cfg.DATALOADER.K_TRANSFORMS = objective.views
        _check_prompt_keys(cfg, method, objective, [*given, *options[::2]])
        if of_files != cfg.MODEL.BACKBONE.NAME:
            with worded(key_names(cfg, method)):
                _prepare_images_for(cfg, set(options[::2]))
    cfg.freeze()
    return cfg


def input_keys(images: Images) -> dict[str, Any]:
    """The keys that say how images are prepared for a CLIP, and their values."""
    sizes, norm = {"SIZE": (images.side, images.side)}, {"PIXEL_MEAN": [*images.mean], "PIXEL_STD": [*images.std]}
    return {f"INPUT.{key}": value for key, value in {**sizes, **norm, "INTERPOLATION": images.interpolation}.items()}


# The keys that follow the backbone.
OF_BACKBONE = frozenset(input_keys(Images(0)))


def _prepare_images_for(cfg: CfgNode, given: Collection[str]) -> None:
    """Set the `input_keys` of a backbone that is not that of the files, except for given ones."""
    images = images_of_backbone(cfg.MODEL.BACKBONE.NAME)
    for key, value in input_keys(images).items() if images else ():
        if key not in given:
            cfg.INPUT[key.rpartition(".")[2]] = value


def check_images(cfg: CfgNode, clip_model: nn.Module) -> None:
    """Raises InputError where images are prepared otherwise than a CLIP wants them."""
    name = f"{cfg.MODEL.BACKBONE.NAME} (MODEL.BACKBONE.NAME)"
    for key, wanted in input_keys(images_of(clip_model)).items():
        value = value_at(cfg, key)
        same = value == wanted if isinstance(wanted, str) else np.allclose(value, wanted, rtol=0, atol=1e-6)
        if not same and key == "INPUT.SIZE":
            side, _ = wanted
            raise InputError(
                f"INPUT.SIZE is {tuple(value)}, but {name} takes images of {side} x {side} pixels; set INPUT.SIZE to "
                f"({side}, {side})."
            )
        if not same and design_of(clip_model).images is not None:
            raise InputError(f"{key} is {value!r}, but {name} was trained with {wanted!r}; set {key} to that.")


def check_shared(cfg: CfgNode) -> None:
    """Check Dassl's keys and those that all methods share; raises InputError for a value that is not allowed."""
    with worded(lambda field, owner: owner.declared()[field].key):
        for settings in (DasslKeys, Common):
            settings(**read_settings(settings, cfg))


def _check_plain(cfg: CfgNode, defaults: Mapping[str, Any]) -> None:
    """Refuse None, which yacs takes for any type, lists of lists, and texts that no name or path can have."""
    for key, value in flatten(cfg).items():
        if not is_plain(value):
            raise InputError(f"{key} holds another list or a huge number; set it to a value like {defaults[key]!r}.")
        items = value if isinstance(value, (list, tuple)) else [value]
        # Also where it has no effect: a record, which has all settings, holds none.
        if any(isinstance(item, float) and not math.isfinite(item) for item in items):
            raise InputError(f"{key} is {value!r}; set it to a finite number.")
        # yacs reads the text "None" as None.
        if value is None and defaults[key] not in (None, "None"):
            raise InputError(f"{key} is None; set it to a value like its default, {defaults[key]!r}.")
        if isinstance(value, str) and _UNPRINTABLE.search(value):
            raise InputError(f"{key} is {value!r}; set it to a text without control characters.")


# Control characters, and bytes that are not UTF-8 as Python has them.
_KEY = re.compile(r"[A-Z0-9_]+(\.[A-Z0-9_]+)+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def merge(cfg: CfgNode, keys: Mapping[str, Any], source: str) -> None:
    """Merge nested keys, as yacs does; `source` begins the message of an InputError."""
    try:
        node = CfgNode(keys)
        _make_typed(node, cfg)
        cfg.merge_from_other_cfg(node)
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        message = str(error.args[0] if error.args else error)
        hint = ". docs/CONFIGURATION.md lists all keys; --import MODULE adds those of your own objectives and methods."
        hint = hint if "Non-existent" in message else ""
        text = f"{source}: {message}{hint}"
        raise InputError(_UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)) from error


def _make_typed(node: CfgNode, defaults: CfgNode) -> None:
    """Turn whole numbers of float keys into floats: published files have them, and yacs would refuse them.

    And booleans of text keys into the words that YAML reads as such, on and off.
    """
    for key, value in node.items():
        default = defaults.get(key)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            _make_typed(value, default)
        elif isinstance(default, float) and re.fullmatch(r"[+-]?\d+", str(value)):
            node[key] = float(str(value))  # of the text, because float() of a huge whole number overflows
        elif isinstance(default, str) and isinstance(value, bool):
            node[key] = ON if value else OFF


def _check_prompt_keys(cfg: CfgNode, method: Method, objective: type[Objective], given: Iterable[str]) -> None:
    """Refuse keys of an objective's own prompts where it trains another method's prompts.

    PromptSRC's and CoPrompt's nodes hold keys of their own prompts beside those of their objectives.

    Args:
        given: dotted keys that files and options set; a key may be set to its default, so its value cannot show that.
    """
    read = set(method.config_of(objective)().keyed())
    # A method of the user's may train by another one's recipes, whose node then tells nothing of its prompts.
    source = METHODS.get(method.recipes.folder, method)
    nodes = {key.rpartition(".")[0] for key in read} - {"TRAINER", f"TRAINER.{method.node}", f"TRAINER.{source.node}"}
    unused = [key for key in dict.fromkeys(given) if key.rpartition(".")[0] in nodes and key not in read]
    if unused:
        raise InputError(
            f"{', '.join(f'{key} is {value_at(cfg, key)!r}' for key in unused)}, but {cfg.TRAINER.NAME} (--trainer) "
            f"has the prompts of TRAINER.{method.node}, whose keys alone set their number, depth, words and "
            f"precision. Set those instead; recipes in configs/trainers/{cfg.TRAINER.NAME} do, and docs/METHODS.md "
            "says which stands for which published one."
        )
