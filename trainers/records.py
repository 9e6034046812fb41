"""Files of a run beside Dassl's log and checkpoints, and the checks of a later start against them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidassl.own.files import without_part, write_whole
from minidassl.own.run_folder import RECORD_FILE as RESULT
from minidassl.own.run_folder import checkpoint_folders, is_of_checkpoints

from yacs.config import CfgNode

from .console import WIDTH
from .prompting.errors import InputError
from .prompting.recipes import read_mapping, value_at

SETTINGS = "settings.yaml"
LOG = "log.txt"
LOGITS = "logits.npz"
TENSORBOARD = "tensorboard"
FROM_SCRATCH = "Restore the file, or train from scratch (--force, or another folder)."
OBJECTIVE_KEY = "TRAINER.OBJECTIVE"
_DATA_KEYS = ("SEED", "DATASET.NAME", "DATASET.SUBSAMPLE_CLASSES", "DATASET.NUM_SHOTS")
# Keys that may differ between a run and its continuation: they set places and speed, or concern the last test alone.
# Another number of workers draws other augmentations; it is allowed because machines differ in cores.
_FREE = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "USE_CUDA",
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE_GB",
    "MODEL.CLASS_CHUNK",
    "TRAINER.RECIPE",
    "TRAINER.TAG",
    "DATALOADER.TEST",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TEST.EVALUATOR",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.SPLIT",
    "TEST.SAVE_LOGITS",
)


def write_result(folder: str | Path, result: dict[str, Any]) -> None:
    """Write the record of a finished run or evaluation, `result.json`."""
    write_whole(Path(folder) / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")


def read_result(folder: str | Path) -> dict[str, Any] | None:
    """The record of a finished run or evaluation; None where there is none.

    Raises:
        InputError: the file is there, but is no record.
    """
    path = Path(folder) / RESULT
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text())
        result["accuracy"], result["trained"]
        [entry["name"] for entry in result.get("per_class") or ()]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the record of a run; delete it and start the run again.") from error
    return result


def print_outcome(folder: str | Path) -> None:
    """Print the accuracies of a run in a line, or two, in per cent, if it has a record of a test."""
    result = read_result(folder)
    if result is None or result["accuracy"] is None:
        return
    row = ", ".join(filter(None, [result["method"], result["variant"], result["tag"]]))
    shots, seed = result["shots"], result["seed"]
    facts = [f"{row} on {result['dataset']}", f"{result['classes']} classes"]
    # -1 stands for none.
    facts += [f"{shots} shot{'s' * (shots != 1)}"] * (shots >= 0) + [f"seed {seed}"] * (seed >= 0)
    numbers = {"accuracy": result["accuracy"]}
    if found := result["open_world"]:
        numbers = {**{name: found[name] for name in ("base", "new", "HM")}, "open-world": found["accuracy"]}
    text = ", ".join(f"{name} {number:.2f} %" for name, number in numbers.items())
    start = f"{', '.join(facts)}:"
    print(start, text, sep=" " if len(start) + len(text) < WIDTH else "\n  ")


def is_trained(folder: str | Path) -> bool:
    """Whether a training run in this folder has finished."""
    result = read_result(folder)
    return result is not None and result["trained"]


def keep_settings(cfg: CfgNode, folder: str | Path) -> None:
    """Write the configuration of a training run to `settings.yaml`."""
    write_whole(Path(folder) / SETTINGS, cfg.dump())


def kept_settings(folder: str | Path, remedy: str = FROM_SCRATCH) -> dict[str, Any] | None:
    """The configuration of the training run in a folder, as plain data; None without its `settings.yaml`.

    Args:
        remedy: the end of the message about a file that is none.

    Raises:
        InputError: the file is there, but has no settings of a run.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        return None
    try:
        settings = read_mapping(path)
        lacks = [key for key in _DATA_KEYS if value_at(settings, key) is None]
        if lacks:
            raise InputError(f"{path} lacks {', '.join(lacks)}, which every run has.")
    except InputError as error:
        raise InputError(f"{error} {remedy}") from error
    return settings


def trained_on(folder: str | Path, cfg: CfgNode) -> dict[str, Any] | None:
    """Data set, classes, shots and seed of the training run in a folder; None without its `settings.yaml`.

    "settings" has the settings of that run that differ from `cfg`, the configuration of the test.
    """
    settings = kept_settings(folder)
    if settings is None:
        return None
    data = settings["DATASET"]
    others = differences(settings, plain_values(cfg))
    return {
        "dataset": data["NAME"],
        "classes": data["SUBSAMPLE_CLASSES"],
        "shots": data["NUM_SHOTS"],
        "seed": settings["SEED"],
        "settings": {key: value for key, (value, _) in others.items() if not key.startswith(("DATASET.", "SEED"))},
    }


def learned_classnames(folder: str | Path) -> list[str] | None:
    """The class names of the training run in a folder, by the record of its last test; None if unknown."""
    tested = (read_result(folder) or {}).get("per_class")
    return tested and [entry["name"] for entry in tested]


def check_settings(cfg: CfgNode, folder: str | Path) -> None:
    """Check that a run in this folder, if there is one, has the same configuration.

    Raises:
        InputError: a key that shapes the training differs.
    """
    changed = other_settings(plain_values(cfg), folder)
    if changed:
        raise InputError(
            f"{folder} holds a run with other settings: {'; '.join(changed)}. "
            "Choose another --output-dir, or give --force to delete that run and train from scratch."
        )


def other_settings(configuration: Mapping[str, Any], folder: str | Path, remedy: str = FROM_SCRATCH) -> list[str]:
    """What differs between a configuration, as plain data, and that of the run in a folder, if there is one."""
    changed = changed_settings(kept_settings(folder, remedy) or {}, configuration)
    return changed if checkpoint_folders(folder) or is_trained(folder) else []


def plain_values(cfg: CfgNode) -> dict[str, Any]:
    """A configuration as plain data, with lists for tuples."""
    return json.loads(json.dumps(cfg))


def check_tested(settings: Mapping[str, Any], folder: str | Path) -> None:
    """Check that a test has the same values of the objective as the training, if the latter are known.

    Args:
        settings: dotted keys, and the values of the test.
        folder: of the training run; published files come without `settings.yaml`, and are not checked.

    Raises:
        InputError: a value differs.
    """
    changed = changed_settings(kept_settings(folder) or {}, settings)
    if changed:
        raise InputError(
            f"{Path(folder) / SETTINGS} is of a run with other settings: {'; '.join(changed)}. Its weights were "
            "trained for the former; set the keys to them."
        )


def check_resumed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Check that training resumes with the objective and settings of its start.

    Args:
        before: dotted keys and their values in the checkpoint; None if it has none.
        now: those of this run.

    Raises:
        InputError: a value differs, or the objective has settings and the checkpoint has none.
    """
    scratch = "train from scratch (--force, or another --output-dir)."
    if before is None and len(now) > 1:
        raise InputError(
            f"The checkpoint to resume from does not tell by which objective it was trained, but {OBJECTIVE_KEY} is "
            f"{now[OBJECTIVE_KEY]!r}, whose settings must be the same: another version or code wrote it; {scratch}"
        )
    changed = changed_settings(before or {}, now)
    if changed:
        raise InputError(
            f"The checkpoint to resume from was trained with other settings: {'; '.join(changed)}. Set the keys to "
            f"the former, or {scratch}"
        )


def shaping_settings(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted keys of a configuration, as plain data, that shape a result, with their values."""
    flat = flatten(configuration)
    shaping = {key: value for key, value in flat.items() if not _is_free(key)}
    # The root of ImageFolder is the data set itself, and not only the place of one that has a name.
    if flat.get("DATASET.NAME") == "ImageFolder" and flat.get("DATASET.ROOT"):
        shaping["DATASET.ROOT"] = os.path.realpath(os.path.expanduser(flat["DATASET.ROOT"]))
    return shaping


def check_origin(before: Mapping[str, Any] | None, now: Mapping[str, Any], *parts: str) -> None:
    """Check that a checkpoint comes from the same "settings", "data" and "clip"; older ones do not tell.

    Raises:
        InputError: it does not.
    """
    for part in parts if before else ():
        if part == "settings":
            changed = changed_settings(before[part], now[part])
        else:
            changed = [] if before[part] == now[part] else [f"{_ORIGINS[part]} were others"]
        if changed:
            raise InputError(
                f"The checkpoint is of another run: {'; '.join(changed)}. Restore the former, or train from scratch "
                "(--force, or another --output-dir)."
            )


# Of the facts in a checkpoint's "origin", beside its settings, in words.
_ORIGINS = {"data": "the training images", "clip": "the weights of CLIP (MODEL.BACKBONE.NAME)"}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The `differences` of two configurations in words."""
    return [f"{key} was {old!r} and is now {new!r}" for key, (old, new) in differences(before, now).items()]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of each differing key that two configurations, as plain data, share and that shapes a result."""
    before, now = shaping_settings(before), shaping_settings(now)
    return {key: (before[key], now[key]) for key in sorted(before.keys() & now.keys()) if before[key] != now[key]}


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(free + ".") for free in _FREE)


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    flat = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def clear_run(folder: str | Path) -> None:
    """Delete the checkpoints, TensorBoard events, record and settings of a training run.

    Its logs stay, and so does whatever a run does not write, with its folder.
    """
    folder = Path(folder)
    for name in (RESULT, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    events = folder / TENSORBOARD
    found = [path for part in checkpoint_folders(folder) for path in part.iterdir() if is_of_checkpoints(path.name)]
    for path in [*found, *events.glob("events.out.tfevents.*")]:
        if path.is_file():
            path.unlink()
    for part in {path.parent for path in found} | {events}:
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()


def clear_leftovers(folder: str | Path) -> None:
    """Delete the unfinished files of killed processes; nobody else may be writing in the folder."""
    folder = Path(folder)
    for path in [
        *folder.glob("*.part"),
        *(part for each in checkpoint_folders(folder) for part in each.glob("*.part")),
    ]:
        if without_part(path.name) in (RESULT, SETTINGS, LOGITS) or is_of_checkpoints(path.name):
            path.unlink(missing_ok=True)


def set_log_aside(folder: str | Path) -> None:
    """Rename an earlier `log.txt` by its time, so that `log.txt` is the newest log.

    Upstream appends the time to the newer name instead, so that the field's result parsers, which read `log.txt` only,
    keep reporting the older run.
    """
    log = Path(folder) / LOG
    if log.is_file():
        stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(log.stat().st_mtime))
        target = log.with_name(f"{LOG}-{stamp}")
        while target.exists():
            target = target.with_name(f"{target.name}-2")
        log.rename(target)
