"""The part of Dassl that the supported projects use, and the reading of their source that finds it."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

# The environment variables that name checkouts of the projects.
PROJECTS = ("COOP_ROOT", "MAPLE_ROOT", "PROMPTSRC_ROOT", "COPROMPT_ROOT", "BMIP_ROOT", "KGCOOP_ROOT")


@dataclass
class Surface:
    """What projects take from Dassl.

    Attributes:
        imports: names by module.
        keys: configuration keys that are set or read, and that the project does not add itself.
        values: of the keys that choose something by name.
        trainer: attributes of `TrainerX` that its subclasses use without defining them.
        dataset: the same for `DatasetBase`.
        overridden: methods that subclasses of `TrainerX` define.
    """

    imports: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    keys: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    trainer: set[str] = field(default_factory=set)
    dataset: set[str] = field(default_factory=set)
    overridden: set[str] = field(default_factory=set)


USED = Surface(
    imports={
        "dassl.config": {"get_cfg_default"},
        "dassl.data": {"DatasetWrapper"},
        "dassl.data.datasets": {"DATASET_REGISTRY", "DatasetBase", "Datum"},
        "dassl.data.transforms": {"build_transform"},
        "dassl.engine": {"TRAINER_REGISTRY", "TrainerX", "build_trainer"},
        "dassl.metrics": {"compute_accuracy"},
        "dassl.optim": {"build_lr_scheduler", "build_optimizer"},
        "dassl.utils": {
            *("check_isfile", "collect_env_info", "listdir_nohidden", "load_checkpoint", "load_pretrained_weights"),
            *("mkdir_if_missing", "read_json", "set_random_seed", "setup_logger", "write_json"),
        },
    },
    keys={
        *("OUTPUT_DIR", "RESUME", "SEED", "USE_CUDA", "TRAINER.NAME"),
        *("INPUT.INTERPOLATION", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "INPUT.SIZE", "INPUT.TRANSFORMS"),
        *("DATASET.NAME", "DATASET.NUM_SHOTS", "DATASET.ROOT", "DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS"),
        *("DATALOADER.K_TRANSFORMS", "DATALOADER.NUM_WORKERS"),
        *("DATALOADER.TEST.BATCH_SIZE", "DATALOADER.TRAIN_X.BATCH_SIZE"),
        *("MODEL.BACKBONE.NAME", "MODEL.HEAD.NAME", "MODEL.INIT_WEIGHTS"),
        *("OPTIM.LR", "OPTIM.LR_SCHEDULER", "OPTIM.MAX_EPOCH", "OPTIM.NAME"),
        *("OPTIM.WARMUP_CONS_LR", "OPTIM.WARMUP_EPOCH", "OPTIM.WARMUP_TYPE"),
        *("TEST.FINAL_MODEL", "TEST.NO_TEST", "TRAIN.CHECKPOINT_FREQ", "TRAIN.PRINT_FREQ"),
    },
    values={
        "INPUT.INTERPOLATION": {"bicubic"},
        "INPUT.TRANSFORMS": {"normalize", "randaugment", "random_flip", "random_resized_crop"},
        "OPTIM.LR_SCHEDULER": {"cosine"},
        "OPTIM.NAME": {"adam", "sgd"},
        "OPTIM.WARMUP_TYPE": {"constant"},
        "TEST.FINAL_MODEL": {"best_val"},
    },
    trainer={
        *("_models", "batch_idx", "cfg", "device", "dm", "get_model_names", "max_epoch", "model_backward_and_update"),
        *("num_batches", "output_dir", "register_model", "save_model", "test", "update_lr"),
    },
    dataset={"generate_fewshot_dataset"},
    overridden={
        *("__init__", "after_epoch", "build_model", "check_cfg", "forward_backward", "load_model"),
        *("model_inference", "parse_batch_train"),
    },
)

# Upstream Dassl has none of these: keys of YAML files that their own train.py refuses, helper methods, attributes that
# are never set, and a method of the Dassl that ProGrad's authors changed.
NOT_DASSLS = Surface(
    keys={
        *("DATALOADER.MULTILABEL", "DATASET.SUBSAMPLE_RATIO", "DATASET.USE_RATIO", "DEVICE", "TEST.NAME"),
        "TRAIN.STOPPING_COUNT",
    },
    trainer={"dtype", "image_encoder", "prograd_backward_and_update", "prompt_learner", "text_encoder"},
    overridden={"get_features", "get_gauss", "load_pre_trained", "state_dict_add", "state_dict_weighting"},
)

# Keys that choose something of Dassl's by name.
CHOICES = (
    *("INPUT.TRANSFORMS", "INPUT.INTERPOLATION", "OPTIM.NAME", "OPTIM.LR_SCHEDULER", "OPTIM.WARMUP_TYPE"),
    *("DATALOADER.TRAIN_X.SAMPLER", "DATALOADER.TEST.SAMPLER", "TEST.EVALUATOR", "TEST.FINAL_MODEL"),
)


def checkouts() -> list[Path]:
    """The checkouts that the environment names."""
    return [Path(os.environ[name]) for name in PROJECTS if os.environ.get(name)]


def surface_of(root: Path) -> Surface:
    """Read a checkout: its modules and YAML files, without a copy of Dassl that it carries."""
    found, added = Surface(), set()
    inside = [path for path in root.rglob("*.*") if "dassl" not in path.relative_to(root).parts[0].lower()]
    for path in inside:
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            _read_module(tree, found, added)
    for path in inside:
        if path.suffix in (".yaml", ".yml"):
            for key, value in _leaves(yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
                found.keys.add(key)
                if key in CHOICES:
                    found.values[key] |= set(value) if isinstance(value, list) else {value}
    found.keys = {key for key in found.keys if not any(key == own or key.startswith(f"{own}.") for own in added)}
    sections = {key.rpartition(".")[0] for key in found.keys}
    found.keys -= sections | {section.rpartition(".")[0] for section in sections}
    return found


def _leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_module(tree: ast.Module, found: Surface, added: set[str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dassl":
            found.imports[node.module] |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef) and node.name == "extend_cfg":
            targets = (target for each in ast.walk(node) if isinstance(each, ast.Assign) for target in each.targets)
            added |= {key for target in targets if (key := _key(target))}
        elif isinstance(node, ast.Attribute) and (key := _key(node)):
            # Sections are read on the way to their keys, and written in capitals, unlike methods.
            if key.rpartition(".")[2].isupper():
                found.keys.add(key)
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            if "TrainerX" in bases:
                found.trainer |= _inherited(node)
                found.overridden |= _methods(node)
            if "DatasetBase" in bases:
                found.dataset |= _inherited(node)


def _key(node: ast.AST) -> str | None:
    """The dotted key of `cfg.A.B` or `self.cfg.A.B`."""
    parts = ast.unparse(node).removeprefix("self.").split(".") if isinstance(node, ast.Attribute) else []
    return ".".join(parts[1:]) if parts[:1] == ["cfg"] and len(parts) > 1 else None


def _methods(node: ast.ClassDef) -> set[str]:
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef)}


def _inherited(node: ast.ClassDef) -> set[str]:
    """Attributes of `self` that a class uses and neither assigns nor defines."""
    attributes = [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
    ]
    used, assigned = (
        {each.attr for each in attributes if isinstance(each.ctx, kind)} for kind in (ast.Load, ast.Store)
    )
    variables = {
        target.id
        for each in node.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    return used - assigned - variables - _methods(node)
