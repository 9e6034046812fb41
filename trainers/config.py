"""Build the configuration of a run: Dassl's defaults, the methods' own, YAML files with bases, flags, options."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import Registry
from yacs.config import CfgNode

from .objectives import OBJECTIVES, build_objective
from .prompting.core.prompted_clip import AUTOMATIC
from .prompting.errors import InputError
from .prompting.methods import suggestion

# What all methods share and Dassl does not have; CoOp, MaPLe and BMIP declare these in their train.py.
COMMON_DEFAULTS: dict[str, Any] = {
    "DATASET": {
        "SUBSAMPLE_CLASSES": "all",  # all, base or new
        "USE_RATIO": False,  # let SUBSAMPLE_RATIO mix base classes into "new"
        "SUBSAMPLE_RATIO": 100,  # per cent of base classes
        "SKIP_BROKEN": False,  # decode every image first, and leave out those that cannot be
    },
    "MODEL": {
        "INIT_SEED": -1,  # seeds the prompts' initial values apart from SEED; -1: SEED does
        "CLASS_CHUNK": AUTOMATIC,  # classes whose activations a training step holds at once; 0: as memory allows
        "TF32": False,  # fp32 products on CUDA's tensor cores: faster, with 10 bits of mantissa
    },
    # The stand-in's; upstream Dassl has no such memory.
    "DATALOADER": {"CACHE_GB": 2.0},
    "TRAIN": {
        "EARLY_STOPPING": True,  # stop when validation has not improved for PATIENT_COUNT epochs
        "PATIENT_COUNT": 3,
    },
    "TEST": {
        "NO_TEST_EARLY": True,  # no validation during training: no early stopping, no best-on-validation model
        "SAVE_LOGITS": False,  # write the logits of the test beside its record
    },
    "TRAINER": {
        "RECIPE": "",  # name of the method's configuration file, for the record
        "OBJECTIVE": "",  # cross_entropy, self_regulation or consistency; empty: the trainer's own
    },
}

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
    _declare(cfg, COMMON_DEFAULTS)
    for name in TRAINER_REGISTRY.registered_names():
        _declare(cfg, getattr(TRAINER_REGISTRY.get(name), "defaults", {}))
    for objective in OBJECTIVES.values():
        _declare(cfg, objective.defaults)
    return cfg


def _declare(cfg: CfgNode, defaults: Mapping[str, Any]) -> None:
    for key, value in defaults.items():
        if isinstance(value, Mapping):
            if key not in cfg:
                cfg[key] = CfgNode()
            _declare(cfg[key], value)
        else:
            cfg[key] = value


def read_yaml(path: str | Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, CfgNode]]:
    """Read a YAML file and the files that its `_BASE_` names, in the order in which they are to be merged.

    `_BASE_` is a path, or a list of paths, relative to the file that names it; bases come first, so that a file
    overrules its bases.

    Raises:
        InputError: a file that does not exist, is no YAML mapping, or is its own base.
    """
    path = Path(path)
    if path.resolve() in seen:
        raise InputError(f"{path} is its own _BASE_: {' -> '.join(str(file) for file in (*seen, path.resolve()))}.")
    if not path.is_file():
        raise InputError(f"There is no configuration file {path}{_neighbours(path)}.")
    try:
        with path.open() as file:
            node = CfgNode.load_cfg(file)
    except Exception as error:
        raise InputError(f"{path} is not a YAML mapping of configuration keys: {error}") from error
    bases = node.pop("_BASE_", [])
    files = []
    for base in [bases] if isinstance(bases, str) else bases:
        files += read_yaml(path.parent / base, (*seen, path.resolve()))
    return [*files, (path, node)]


def _neighbours(path: Path) -> str:
    there = sorted(file.name for file in path.parent.glob("*.yaml"))
    return f"; {path.parent} has {', '.join(there)}" if there else ""


def build_cfg(args: argparse.Namespace) -> CfgNode:
    """Merge in CoOp's order, later ones overruling: defaults, data set, method, flags, trailing options.

    Args:
        args: the flags of `FLAG_KEYS` (None or empty where not given), `dataset_config_file`, `config_file`, `opts`,
            and optionally `modules`, which are imported first, for what they register.

    Returns:
        The frozen configuration.

    Raises:
        InputError: an unknown key, trainer or data set, a value of the wrong type, a key without effect, an unreadable
            file, a module that cannot be found.
    """
    for module in getattr(args, "modules", ()):
        import_module(module)
    cfg, given = default_cfg(), []
    for name in (args.dataset_config_file, args.config_file):
        for path, node in read_yaml(name) if name else []:
            _make_floats(node, cfg)
            try:
                cfg.merge_from_other_cfg(node)
            except (KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
                raise InputError(f"{path}: {_explain(error)}") from error
            given += _dotted_keys(node)
    cfg.TRAINER.RECIPE = Path(args.config_file).stem if args.config_file else ""
    for flag, key in FLAG_KEYS.items():
        # Unlike upstream's flags, which count only when true, 0 is a seed.
        if getattr(args, flag) not in (None, "", []):
            *path, name = key.split(".")
            functools.reduce(getattr, path, cfg)[name] = getattr(args, flag)
    options = list(args.opts)
    if len(options) % 2:
        raise InputError(f"Options behind the flags come as KEY VALUE pairs, but {' '.join(args.opts)!r} is odd.")
    for key, value in zip(options[::2], options[1::2]):
        try:
            cfg.merge_from_list([key, _float_text(value) if isinstance(_value_at(cfg, key), float) else value])
        except (KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
            raise InputError(f"{key} {value}: {_explain(error)}") from error
    _check_name("TRAINER.NAME (--trainer)", cfg.TRAINER.NAME, TRAINER_REGISTRY)
    _check_name("DATASET.NAME (--dataset-config-file)", cfg.DATASET.NAME, DATASET_REGISTRY)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    own_objective = getattr(trainer, "objective_name", None)
    if own_objective:
        views = build_objective(cfg, own_objective).views
        if cfg.DATALOADER.K_TRANSFORMS == 1:
            cfg.DATALOADER.K_TRANSFORMS = views
        _check_prompt_keys(cfg, trainer.node, own_objective, [*given, *options[::2]])
    cfg.freeze()
    return cfg


def import_module(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--import is {module}, but there is no module {error.name}; add its folder to PYTHONPATH, or correct it."
        ) from error


def _dotted_keys(node: CfgNode, prefix: str = "") -> list[str]:
    """The dotted names of a tree's values."""
    keys = []
    for key, value in node.items():
        keys += _dotted_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
    return keys


def _check_prompt_keys(cfg: CfgNode, node: str, own_objective: str, given: Iterable[str]) -> None:
    """Refuse keys of prompts in the node of the objective, where the prompts are another method's.

    PromptSRC's and CoPrompt's nodes hold keys of their own prompts beside those of their objectives.

    Args:
        node: of the trainer.
        own_objective: of the trainer.
        given: dotted keys that files and options set. Values cannot tell: a key may be set to its default.
    """
    declared = OBJECTIVES[cfg.TRAINER.OBJECTIVE or own_objective].defaults.get("TRAINER", {})
    others = {f"TRAINER.{name}": keys for name, keys in declared.items() if isinstance(keys, Mapping) and name != node}
    unused = []
    for key in dict.fromkeys(given):
        parent, _, name = key.rpartition(".")
        if parent in others and name not in others[parent]:
            unused.append(f"{key} is {_value_at(cfg, key)!r}")
    if unused:
        raise InputError(
            f"{', '.join(unused)}, but {cfg.TRAINER.NAME} (--trainer) has the prompts of TRAINER.{node}, whose keys "
            "alone set their number, depth, words and precision. Set those instead; recipes in "
            f"configs/trainers/{cfg.TRAINER.NAME} do, and docs/METHODS.md says which stands for which published one."
        )


def _make_floats(node: CfgNode, defaults: CfgNode) -> None:
    """Whole numbers for float keys become floats; yacs would refuse them, though the published files have such."""
    for key, value in node.items():
        default = defaults.get(key)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            _make_floats(value, default)
        elif isinstance(default, float) and type(value) is int:
            node[key] = float(value)


def _value_at(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    value: Any = cfg
    for name in key.split("."):
        value = value.get(name) if isinstance(value, CfgNode) else None
    return value


def _float_text(text: str) -> str:
    return f"{text}.0" if re.fullmatch(r"[+-]?\d+", text) else text


def _check_name(key: str, name: str, registry: Registry) -> None:
    known = registry.registered_names()
    if name not in known:
        raise InputError(f"{key} is {name!r}; set it to one of {', '.join(sorted(known))}.{suggestion(name, known)}")


def _explain(error: Exception) -> str:
    message = str(error.args[0] if error.args else error)
    if "Non-existent" in message:
        return f"{message}. The trainers' keys are listed in trainers/*.py (defaults), Dassl's in its documentation."
    return message
