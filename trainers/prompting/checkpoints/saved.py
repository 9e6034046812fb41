"""Trained prompts on disk: saved classifiers, runs of the trainers, and single checkpoints.

A saved classifier is one safetensors file, `prompts.safetensors` in a folder or any name with this ending: prompts,
and as metadata their method, settings, classes and CLIP. Earlier versions wrote a folder of `classifier.json` and
`prompts.npz`, which is read as before. Reading executes nothing from any file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
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
from minidassl.own.safetensors_file import read_safetensors, safetensors_bytes

import numpy as np
from torch import Tensor, nn

from ..core.clip_weights import reader_of
from ..core.design import PIXEL_MEAN, PIXEL_STD
from ..errors import InputError
from ..methods import METHODS, OBJECTIVES, of_trainer
from ..recipes import value_at

PROMPTS, ENDING = "prompts.safetensors", ".safetensors"
# The metadata of such a file, of which the first names its format; all but `_TEXTS` are JSON.
VERSION, FORMAT = "prompt_classifier", "2"
_TEXTS = ("method", "backbone", "clip", "text_embedding")
_JSON = {"settings": dict, "parameters": dict, "classes": list, "notes": dict}
# Entries of a run's record that a saved classifier keeps, for its readers.
_NOTED = ("method", "recipe", "variant", "dataset", "classes", "shots", "seed", "accuracy", "trained_on")
# The files of earlier versions.
DESCRIPTION, WEIGHTS, EARLIER_FORMAT = "classifier.json", "prompts.npz", 1
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
        text_embedding: the `text_embedding_digest` of that CLIP; None if it is not recorded.
        notes: facts of the run that trained the prompts, by `_NOTED`; empty without a record.
    """

    source: Path
    state_dict: Mapping[str, Tensor]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    clip: str | None = None
    text_embedding: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def check_clip(self, clip_model: nn.Module, backbone: str) -> None:
        """Raise InputError if the prompts were trained in another CLIP than this one of `load_clip`."""
        theirs = f", as which {self.parameters['backbone']!r} is recorded" if "backbone" in self.parameters else ""
        if self.text_embedding is not None and self.text_embedding != (ours := text_embedding_digest(clip_model)):
            raise InputError(
                f"{str(self.source)!r} belongs to a CLIP whose text embedding has the SHA-256 {self.text_embedding}, "
                f"but that of backbone {backbone!r} has {ours}; give the one that it was trained in{theirs}."
            )
        if self.clip not in (None, clip_model.digest):
            raise InputError(
                f"{str(self.source)!r} was trained in a CLIP with other weights than those of backbone {backbone!r} "
                f"here; give the one that it was trained in{theirs}."
            )


def text_embedding_digest(clip_model: nn.Module) -> str:
    """The SHA-256 of a CLIP's `token_embedding.weight`, row by row in fp32, in hexadecimal."""
    weight = clip_model.token_embedding.weight.detach().float().cpu().contiguous()
    return hashlib.sha256(weight.numpy().tobytes()).hexdigest()


def target_of(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """The file that `write_saved` will write for a path: the path itself, or a file in that folder.

    Raises:
        InputError: a file is in the place of the folder, or a saved classifier is there, without `overwrite`.
    """
    target = Path(path).expanduser()
    if target.suffix == ENDING:
        if target.is_dir():
            raise InputError(f"{str(path)!r} is a folder; give a file, or a folder without {ENDING} in its name.")
        if target.exists() and not overwrite:
            raise InputError(f"{str(path)!r} is there already; give overwrite=True to replace it, or another file.")
        return target
    if target.exists() and not target.is_dir():
        raise InputError(f"{str(path)!r} is a file; give a folder to save the classifier in, or a name with {ENDING}.")
    there = [name for name in (PROMPTS, WEIGHTS, DESCRIPTION) if (target / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{str(path)!r} holds {' and '.join(there)} of a saved classifier already; give overwrite=True to "
            "replace it, or another folder."
        )
    return target / PROMPTS


def write_saved(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    parameters: Mapping[str, Any],
    classes: list[str],
    notes: Mapping[str, Any],
    clip_model: nn.Module,
    overwrite: bool,
) -> Path:
    """Write a classifier atomically, and return the file.

    Args:
        path: a name that ends in `.safetensors`, or a folder, which is made where it is missing.
        state_dict: the learner's tensors, written in fp32.
        parameters: of the classifier. Those that JSON does not have, such as a random generator, become None, hence
            the default.
        classes: names, in label order.
        notes: of `Saved`.
        clip_model: the CLIP of the prompts, from `load_clip`.
        overwrite: replace a classifier that is there.

    Raises:
        InputError: as `target_of`.
    """
    target = target_of(path, overwrite)
    others = {name: value for name, value in parameters.items() if name not in (*_TEXTS, *_JSON)}
    facts = {"settings": parameters["settings"], "parameters": others, "classes": classes, "notes": notes}
    texts = {
        VERSION: FORMAT,
        "method": str(parameters["method"]),
        "backbone": str(parameters["backbone"]),
        "clip": clip_model.digest,
        "text_embedding": text_embedding_digest(clip_model),
        **{name: json.dumps(value, ensure_ascii=False, default=_plain) for name, value in facts.items()},
    }
    write_whole(target, safetensors_bytes(texts, {name: value.float() for name, value in state_dict.items()}))
    if target.name == PROMPTS:
        for earlier in (DESCRIPTION, WEIGHTS):
            (target.parent / earlier).unlink(missing_ok=True)
    return target


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
    if found.suffix == ENDING and found.is_file():
        return _read_prompts(found)
    if (found / PROMPTS).is_file():
        return _read_prompts(found / PROMPTS)
    if (found / DESCRIPTION).is_file():
        return _read_earlier(found)
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
            f"{str(path)!r} holds no checkpoint; give a folder with {PROMPTS}, the output folder of a training "
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


def _read_prompts(path: Path) -> Saved:
    """Read a file of `write_saved`; raises InputError if it is damaged, another's, or of another version."""
    again = "write it again, by PromptClassifier.save or scripts/export.py"
    try:
        texts, state_dict = read_safetensors(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a safetensors file ({error}); copy or {again}.") from error
    missing = [name for name in (VERSION, *_TEXTS, *_JSON) if name not in texts]
    if missing:
        raise InputError(
            f"{path} has no metadata {', '.join(missing)}: it does not say how its prompts are used, and in which "
            f"CLIP; {again}."
        )
    if texts[VERSION] != FORMAT:
        raise InputError(f"{path} has format {texts[VERSION]!r}; this version reads {FORMAT!r}: {again}.")
    facts = {}
    for name, kind in _JSON.items():
        try:
            facts[name] = json.loads(texts[name])
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: the metadata {name!r} is no JSON ({error}); {again}.") from error
        if not isinstance(facts[name], kind):
            raise InputError(f"{path}: the metadata {name!r} is no {kind.__name__} in JSON; {again}.")
    parameters = {**facts["parameters"], **{name: texts[name] for name in ("method", "backbone")}}
    parameters["settings"] = facts["settings"]
    digests = texts["clip"], texts["text_embedding"]
    return Saved(path, state_dict, parameters, facts["classes"], *digests, facts["notes"])


def _read_earlier(folder: Path) -> Saved:
    """Read the two files of earlier versions; raises InputError if they are damaged or of another version."""
    description = _read_json(folder / DESCRIPTION)
    if description.get("format") != EARLIER_FORMAT or not {"parameters", "classes"} <= description.keys():
        raise InputError(
            f"{folder / DESCRIPTION} has format {description.get('format')!r}; this version reads {EARLIER_FORMAT}."
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
        notes = {name: found[name] for name in _NOTED if found.get(name) not in (None, "")}
        return Saved(path, state_dict, *_described(found), clip, notes=notes)
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
