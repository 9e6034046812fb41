"""Trained prompts on disk: saved classifiers, runs of the trainers, and single checkpoints.

A saved classifier is a folder of `classifier.json` and `prompts.npz`. Reading executes nothing from any file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidassl.own.archive import read_arrays
from minidassl.own.checkpoint import read_file, state_dict_of
from minidassl.own.files import write_whole
from minidassl.own.run_folder import (
    BEST_FILE,
    RECORD_FILE,
    CheckpointError,
    checkpoint_folders,
    find_checkpoint,
    has_checkpoints,
)

import numpy as np
from torch import Tensor

from ..core.clip_weights import reader_of
from ..core.design import PIXEL_MEAN, PIXEL_STD
from ..errors import InputError
from ..methods import METHODS, OBJECTIVES, of_trainer
from ..recipes import value_at

DESCRIPTION, WEIGHTS, FORMAT = "classifier.json", "prompts.npz", 1
_RESTORE = "restore it, or save the classifier again or repeat the run's test"


@dataclass(frozen=True)
class Saved:
    """Trained prompts and the facts recorded with them.

    Attributes:
        source: the file of the weights.
        state_dict: the learner's tensors, maybe under the names of a method's authors.
        parameters: of the classifier, such as `method` and `backbone`; empty without a record.
        classes: names, in label order; None without a record.
        clip: the `state_digest` of the CLIP that the prompts were trained in; None if it is not recorded.
    """

    source: Path
    state_dict: Mapping[str, Tensor]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    clip: str | None = None


def write_saved(
    folder: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    parameters: Mapping[str, Any],
    classes: list[str],
    clip: str,
    overwrite: bool,
) -> None:
    """Write a classifier, each file atomically, the description, which has a hash of the other file, last.

    Parameters that JSON does not have, such as a random generator, become None, hence the default.
    """
    root = Path(folder).expanduser()
    if root.exists() and not root.is_dir():
        raise InputError(f"{str(folder)!r} is a file; give a folder to save the classifier in.")
    there = [name for name in (WEIGHTS, DESCRIPTION) if (root / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{str(folder)!r} holds {' and '.join(there)} of a saved classifier already; give overwrite=True to "
            "replace it, or another folder."
        )
    root.mkdir(parents=True, exist_ok=True)
    arrays = {name: value.detach().float().cpu().numpy() for name, value in state_dict.items()}
    weights = io.BytesIO()
    np.savez(weights, **arrays)
    write_whole(root / WEIGHTS, weights.getvalue())
    facts = {"clip": clip, "weights": hashlib.sha256(weights.getvalue()).hexdigest()}
    description = {"format": FORMAT, "classes": classes, "parameters": parameters, **facts}
    text = json.dumps(description, indent=2, ensure_ascii=False, default=_plain) + "\n"
    write_whole(root / DESCRIPTION, text)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, os.PathLike) else None


def read_saved(path: str | os.PathLike[str]) -> Saved:
    """Read a saved classifier, a run's folder, or a checkpoint file.

    A run gives its best checkpoint on validation, if there is one, else that of the newest epoch. A test of another
    run's model gives its own classes and the other run's weights.

    Raises:
        InputError: the path has none of these, or it cannot be read.
    """
    found = Path(path).expanduser()
    if (found / DESCRIPTION).is_file():
        return _read_classifier(found)
    if found.is_file():
        return _of_checkpoint(found, found.parent.parent / RECORD_FILE)
    if not found.is_dir():
        raise InputError(f"There is no checkpoint or folder {str(path)!r}; check the path.")
    record, weights = _read_json(found / RECORD_FILE), _newest_checkpoint(found)
    trained = record.get("model_dir")
    if weights is None and trained:
        if not Path(trained).is_dir():
            raise InputError(
                f"{found / RECORD_FILE} is of a test of {trained!r}, which is no folder from here; give that run's "
                "folder, or start in the folder that its test was started in."
            )
        weights = _newest_checkpoint(Path(trained))
    if weights is None:
        raise InputError(
            f"{str(path)!r} holds no checkpoint; give a folder with {DESCRIPTION}, the output folder of a training "
            f"run, or a file such as {BEST_FILE}."
        )
    return _of_checkpoint(weights, (found if record else weights.parent.parent) / RECORD_FILE)


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty without a file; raises InputError for other content."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); {_RESTORE}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__} in the place of an object; {_RESTORE}.")
    return content


def _read_classifier(folder: Path) -> Saved:
    """Read the files of `write_saved`; raises InputError if they are damaged or of another version."""
    description = _read_json(folder / DESCRIPTION)
    if description.get("format") != FORMAT or not {"parameters", "classes"} <= description.keys():
        raise InputError(
            f"{folder / DESCRIPTION} has format {description.get('format')!r}; this version reads {FORMAT}."
        )
    if not isinstance(description["parameters"], dict):
        raise InputError(f"{folder / DESCRIPTION} has no parameters by name; save the classifier again.")
    path = folder / WEIGHTS
    try:
        recorded = description.get("weights")  # earlier versions did not write it
        if recorded not in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
            raise ValueError("it is not the file that the description was written for")
        state_dict = read_arrays(path)
    except Exception as error:  # zipfile, zlib and numpy each raise their own exceptions for damaged files
        raise InputError(f"{path} is missing or damaged ({error}); save the classifier again.") from error
    return Saved(path, state_dict, description["parameters"], description["classes"], description.get("clip"))


def _newest_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint in a run's folder or a folder of checkpoints, else the newest; None without any."""
    found = [find_checkpoint(place) for place in (folder, *checkpoint_folders(folder)) if has_checkpoints(place)]
    if len(found) > 1:
        raise InputError(
            f"{str(folder)!r} has checkpoints in {len(found)} folders; give one of {', '.join(map(str, found))}."
        )
    return found[0] if found else None


def _of_checkpoint(path: Path, record: Path) -> Saved:
    """A checkpoint file, or a bare state dict, with its run's record; raises InputError where it has no tensors."""
    try:
        # The reader prints notes, and standard output may be where predictions go.
        with contextlib.redirect_stdout(sys.stderr):
            content = read_file(path)
            state_dict = state_dict_of(content, path)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    found = _read_json(record)
    try:
        clip = value_at(content, "trainer_state.origin.clip")
        return Saved(path, state_dict, *_described(found), clip)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{record} is not the record of a run ({error!r}); restore it, or move it elsewhere."
        ) from error


def _described(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str] | None]:
    """Parameters and class names from the record of a run; empty and None if the method is not ours."""
    trainer = str(record.get("trainer"))
    # Records of earlier versions do not name the method.
    method = METHODS.get(record.get("method", "")) or of_trainer(trainer)
    if method is None:
        return {}, None
    parameters, configuration = {"method": method.prompts, "backbone": record["backbone"]}, record.get("configuration")
    if configuration is not None:  # older records have none
        if reader_of(record["backbone"]) is None:  # others tell how, and runs do nothing else
            _compare_preprocessing(configuration["INPUT"])
        nodes = configuration["TRAINER"]
        objective = OBJECTIVES.get(nodes.get("OBJECTIVE", ""))
        if objective is not None and objective.mixes_features:
            raise InputError(
                f"The prompts were trained by {objective.name}, which mixes features with the frozen CLIP's in tests, "
                "too, and this classifier does not; test them with train.py --eval-only."
            )
        method = dataclasses.replace(method, node=method.node if method.node in nodes else trainer.upper())
        parameters["settings"] = method.read(configuration)
        parameters["precision"] = nodes.get(method.node, {}).get(method.PRECISION_KEY)
    tested = record.get("per_class")
    return parameters, [row["name"] for row in tested] if tested else None


def _compare_preprocessing(recorded: Mapping[str, Any]) -> None:
    """Warn if a run preprocessed its images otherwise than OpenAI's CLIP."""
    ours = {"INTERPOLATION": "bicubic", "PIXEL_MEAN": list(PIXEL_MEAN), "PIXEL_STD": list(PIXEL_STD)}
    differing = [f"INPUT.{key} {recorded[key]}" for key in ours if recorded[key] != ours[key]]
    if "normalize" not in recorded["TRANSFORMS"]:
        differing.append("INPUT.TRANSFORMS without normalize")
    if differing:
        warnings.warn(
            f"The prompts were trained with {', '.join(differing)}, but images are prepared as CLIP's own are; "
            "predictions differ from those of the run.",
            stacklevel=2,
        )
