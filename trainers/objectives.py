"""Objectives by name, for TRAINER.OBJECTIVE, and the configuration keys that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from yacs.config import CfgNode

from .prompting.core.templates import template_of
from .prompting.errors import InputError
from .prompting.objectives.consistency import Consistency, ConsistencyConfig
from .prompting.objectives.descriptions import KEY, read_descriptions
from .prompting.objectives.objective import Objective
from .prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig
from .records import SETTINGS, changed_settings

CROSS_ENTROPY = "cross_entropy"
OBJECTIVE_KEY = "TRAINER.OBJECTIVE"
# The shipped descriptions, by registered data-set name, and CoPrompt's names of its own files.
DESCRIPTIONS = Path(__file__).resolve().parents[1] / "datasets" / "descriptions"
PUBLISHED_NAMES = {
    "Caltech101": "caltech",
    "DescribableTextures": "dtd",
    "EuroSAT": "eurosat",
    "FGVCAircraft": "fgvc",
    "Food101": "food101",
    "ImageNet": "imagenet",
    "ImageNetA": "imagenet_a",
    "ImageNetR": "imagenet_r",
    "ImageNetSketch": "imagenet_sketch",
    "ImageNetV2": "imagenetv2",
    "OxfordFlowers": "oxford_flowers",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "SUN397": "sun397",
    "UCF101": "ucf101",
}
Builder = TypeVar("Builder", bound=Callable[[CfgNode], Objective])


class Registered(NamedTuple):
    """An objective: how it is made from the configuration, and the keys that it adds, with their defaults."""

    build: Callable[[CfgNode], Objective]
    defaults: Mapping[str, Any]


OBJECTIVES: dict[str, Registered] = {}


def register_objective(name: str, defaults: Mapping[str, Any] | None = None) -> Callable[[Builder], Builder]:
    """Decorate a function of the configuration, or a class with such a constructor, to be TRAINER.OBJECTIVE `name`.

    Args:
        defaults: nested mapping of the configuration keys that it adds, with their defaults.

    Raises:
        InputError: the name is taken.
    """

    def register(build: Builder) -> Builder:
        if name in OBJECTIVES:
            raise InputError(
                f"There is an objective {name!r} already; choose another name than {', '.join(OBJECTIVES)}."
            )
        OBJECTIVES[name] = Registered(build, defaults or {})
        return build

    return register


def build_objective(cfg: CfgNode, own: str = CROSS_ENTROPY) -> Objective:
    """The objective of TRAINER.OBJECTIVE, or a trainer's own where that is empty.

    Raises:
        InputError: it is unknown, is not the one that the trainer is named after, or has a value that is not allowed.
    """
    name = cfg.TRAINER.OBJECTIVE or own
    if name not in OBJECTIVES:
        raise InputError(f"TRAINER.OBJECTIVE is {name!r}; set it to one of {', '.join(sorted(OBJECTIVES))}.")
    if own not in (CROSS_ENTROPY, name):
        raise InputError(
            f"TRAINER.OBJECTIVE is {name!r}, but {cfg.TRAINER.NAME} (--trainer) stands for {own}; leave the key "
            "empty, or choose the trainer of the prompts alone, like IVLP, MaPLe or BMIP."
        )
    # Another code base may have replaced the node by its own keys.
    cfg = cfg.clone()
    cfg.defrost()
    declare_missing(cfg, OBJECTIVES[name].defaults)
    cfg.freeze()
    return OBJECTIVES[name].build(cfg)


def check_tested(objective: Objective, folder: str | Path) -> None:
    """Check that a model is tested with the objective's values that it was trained with, as far as they are known.

    Args:
        folder: of the training run; without the record of its settings, as published files are, nothing is checked.

    Raises:
        InputError: a key of the objective's `tested_keys` differs.
    """
    path = Path(folder) / SETTINGS
    if not objective.tested_keys or not path.is_file():
        return
    settings = objective.settings()
    changed = changed_settings(yaml.safe_load(path.read_text()), {key: settings[key] for key in objective.tested_keys})
    if changed:
        raise InputError(
            f"{path} is of a run with other settings: {'; '.join(changed)}. Its weights were trained for the former; "
            "set the keys to them."
        )


def check_resumed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Check that training goes on by the objective and the settings that it began with.

    Args:
        before: dotted keys and their values, as the checkpoint has them; None where it does not tell.
        now: those of this run.

    Raises:
        InputError: a value differs, or an objective with settings meets a checkpoint that does not tell.
    """
    scratch = "train from scratch (--force, or another --output-dir)."
    if before is None:
        if len(now) > 1:
            raise InputError(
                f"The checkpoint to resume from does not tell by which objective it was trained, but {OBJECTIVE_KEY} "
                f"is {now[OBJECTIVE_KEY]!r}, whose settings must be the same: another version or code wrote it; "
                + scratch
            )
        return
    changed = changed_settings(dict(before), dict(now))
    if changed:
        raise InputError(
            f"The checkpoint to resume from was trained with other settings: {'; '.join(changed)}. Set the keys to "
            f"the former, or {scratch}"
        )


def declare_missing(cfg: CfgNode, defaults: Mapping[str, Any]) -> None:
    """Add to a configuration the keys of a nested mapping that it does not have."""
    for key, value in defaults.items():
        if isinstance(value, Mapping):
            declare_missing(cfg.setdefault(key, CfgNode()), value)
        else:
            cfg.setdefault(key, value)


@register_objective(CROSS_ENTROPY)
def cross_entropy(cfg: CfgNode) -> Objective:
    return Objective()


@register_objective(
    "self_regulation",
    {
        "TRAINER": {
            "PROMPTSRC": {
                "TEXT_LOSS_WEIGHT": 25.0,  # of the distance from the frozen CLIP's text features
                "IMAGE_LOSS_WEIGHT": 10.0,  # of the distance from its image features
                "GPA_MEAN": 15.0,  # mean of the Gaussian that weights the epochs' prompts, from 1
                "GPA_STD": 1.0,  # its standard deviation in epochs
                "TEACHER_SENTENCES": 60,  # of the frozen CLIP for each class: 60, or all 80 as in BMIP's released code
            }
        }
    },
)
def self_regulation(cfg: CfgNode) -> SelfRegulation:
    node = cfg.TRAINER.PROMPTSRC
    return SelfRegulation(
        SelfRegulationConfig(
            text_weight=node.TEXT_LOSS_WEIGHT,
            image_weight=node.IMAGE_LOSS_WEIGHT,
            epochs=cfg.OPTIM.MAX_EPOCH,
            mean=node.GPA_MEAN,
            std=node.GPA_STD,
            sentences=node.TEACHER_SENTENCES,
        )
    )


@register_objective(
    "consistency",
    {
        "TRAINER": {
            "W": 8.0,  # CoPrompt's weight of the distances to the teachers
            "DISTILL": "cosine",  # CoPrompt's distance to them: cosine or mse
            "CoPrompt": {
                "IMAGE_ADAPTER_SHARE": 0.1,  # of the adapter's answer in the image features
                "TEXT_ADAPTER_SHARE": 0.2,  # and in the text features
                "DESCRIPTIONS": "",  # JSON file, or folder of such files; empty: the shipped ones
            },
        }
    },
)
def consistency(cfg: CfgNode) -> Consistency:
    node = cfg.TRAINER.CoPrompt
    config = ConsistencyConfig(
        weight=cfg.TRAINER.W,
        distance=cfg.TRAINER.DISTILL,
        image_share=node.IMAGE_ADAPTER_SHARE,
        text_share=node.TEXT_ADAPTER_SHARE,
    )
    place = cfg.DATASET.NAME, node.DESCRIPTIONS
    return Consistency(config, lambda classnames: describe(*place, classnames), lambda: find_descriptions(*place))


def find_descriptions(dataset: str, place: str) -> Path | None:
    """The file of a data set's descriptions; None where none is asked for, and none shipped.

    Args:
        dataset: registered name.
        place: file, or folder of such files; empty stands for the shipped folder, which need not know the data set.

    Raises:
        InputError: there is none at the place that is asked for, or it holds no JSON object.
    """
    folder = Path(place).expanduser() if place else DESCRIPTIONS
    names = (f"{PUBLISHED_NAMES.get(dataset, dataset)}_prompt.json", f"{dataset}.json")
    in_folder = [folder / name for name in names]
    candidates = [folder] if folder.is_file() or folder.suffix == ".json" else in_folder
    path = next((path for path in candidates if path.is_file()), None)
    if path is not None:
        read_descriptions(path, ())
    elif place:
        without = (
            "use the shipped ones" if find_descriptions(dataset, "") else "describe each class by its one sentence"
        )
        raise InputError(
            f"{KEY} is {place!r}, but there is no {' or '.join(map(str, candidates))}. Correct it, or leave it empty "
            f"to {without}."
        )
    return path


def describe(dataset: str, place: str, classnames: Sequence[str]) -> Sequence[Sequence[str]]:
    """The sentences of each class, from the file that `find_descriptions` gives, or from the data set's template.

    Raises:
        InputError: the file that is asked for is not there, or lacks a class.
    """
    path = find_descriptions(dataset, place)
    if path is not None:
        print(f"Descriptions: {path}")
        return read_descriptions(path, classnames)
    template = template_of(dataset)
    print(f"There are no descriptions of {dataset}; each class is described by {template!r} alone")
    return [[template.format(name.replace("_", " "))] for name in classnames]
