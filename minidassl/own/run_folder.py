"""Names and choice of checkpoints in the output folder of a run. Needs no torch.

The names are upstream's::

    <output_dir>/<registered name>/model.pth.tar-<epoch>    epoch: number of finished epochs
                                   model-best.pth.tar       the best on validation
                                   checkpoint               one line: the name of the last saved file
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .files import without_part

BEST_FILE = "model-best.pth.tar"
POINTER_FILE = "checkpoint"
RECORD_FILE = "result.json"  # beside the folders of checkpoints; of this project, not of upstream

_EPOCH_FILE = re.compile(r"model\.pth\.tar-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the fault and the remedy."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no checkpoint where one is needed."""


def is_of_checkpoints(name: str) -> bool:
    """Whether saving checkpoints writes files of this name, be it for a moment."""
    final = without_part(name)
    return final in (BEST_FILE, POINTER_FILE) or bool(_EPOCH_FILE.fullmatch(final))


def epoch_file(epoch: int) -> str:
    """File name of the checkpoint after ``epoch`` (1-based) epochs."""
    return f"model.pth.tar-{epoch}"


def saved_epochs(folder: str | os.PathLike[str]) -> list[int]:
    """Ascending numbers of the ``model.pth.tar-<epoch>`` files in a folder; empty if there is no such folder."""
    if not os.path.isdir(folder):
        return []
    return sorted(int(match.group(1)) for match in map(_EPOCH_FILE.fullmatch, os.listdir(folder)) if match)


def has_checkpoints(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder directly holds checkpoints."""
    return bool(saved_epochs(folder)) or os.path.isfile(os.path.join(folder, BEST_FILE))


def checkpoint_folders(run: str | os.PathLike[str]) -> list[Path]:
    """The folders of checkpoints, one per model, in the output folder of a run, sorted."""
    return [entry for entry in sorted(Path(run).glob("*")) if has_checkpoints(entry)]


def common_epochs(folders: Iterable[str | os.PathLike[str]]) -> list[int]:
    """The epochs with a checkpoint in all ``folders``, ascending."""
    found = [set(saved_epochs(folder)) for folder in folders]
    return sorted(set.intersection(*found)) if found else []


def newest_epoch(folders: Iterable[str | os.PathLike[str]]) -> int | None:
    """The newest of the `common_epochs`; ``None`` if there is none."""
    return max(common_epochs(folders), default=None)


def find_checkpoint(folder: str | os.PathLike[str], epoch: int | None = None) -> Path:
    """The checkpoint to use in one model's folder; a MissingCheckpointError if it is not there.

    ``epoch`` is 1-based; ``None``: the best on validation if there is one, else the newest epoch.
    """
    epochs = saved_epochs(folder)
    names = [epoch_file(epoch)] if epoch is not None else [BEST_FILE, *map(epoch_file, epochs[-1:])]
    for name in names:
        if os.path.isfile(os.path.join(folder, name)):
            return Path(folder, name)
    raise MissingCheckpointError(
        f'Model not found at "{os.path.join(folder, names[0])}"; epochs saved there: {epochs or "none"}. Check '
        "--model-dir, --trainer and --load-epoch"
    )
