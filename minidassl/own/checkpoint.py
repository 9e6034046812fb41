"""Checkpoint files: written atomically, plain data only, read without executing anything.

A file is a dict with ``state_dict``, ``epoch`` (finished epochs), ``optimizer``, ``scheduler`` and ``val_result``, and
further plain data of the trainer. :mod:`minidassl.own.run_folder` has the file names.

Differences from upstream: a file is complete or absent, never half-written; it holds tensors and plain values only,
so that ``torch.load(weights_only=True)`` reads it; a run resumes from the newest ``model.pth.tar-<epoch>``, not from
the file that ``checkpoint`` names, which may be the best one of a much earlier epoch. Older files with pickled
schedulers remain readable (:mod:`minidassl.own.archive`).
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .archive import holds_inert, is_torchscript, read_archive
from .files import write_whole
from .run_folder import POINTER_FILE, CheckpointError, MissingCheckpointError, epoch_file

# Before PyTorch 2.6, weights_only=True lets a file run code (CVE-2025-32434).
_LOADS_SAFELY = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
_KEYS = ("state_dict", "epoch", "optimizer", "scheduler", "val_result")


# --------------------------------------------------------------------------------------------------------- writing


def save_checkpoint(state: Mapping[str, Any], save_dir: str | os.PathLike[str], model_name: str = "") -> None:
    """Write ``state`` to ``<save_dir>/model.pth.tar-<epoch>``, or ``model_name``, then the name to ``checkpoint``.

    Both writes are atomic and durable. NumPy scalars become Python numbers, subclasses of ``dict`` plain dicts; names
    in ``state["state_dict"]`` lose the prefix ``module.`` of ``DataParallel``.

    Raises:
        CheckpointError: ``state`` holds other values than tensors and plain ones; nothing has been written.
        FloatingPointError: a weight is not finite; nothing has been written.
    """
    spoilt = not_finite(state["state_dict"])
    if spoilt:
        raise FloatingPointError(
            f"{_shorten(spoilt)} are not finite after epoch {state['epoch']}, which is not saved; the same command "
            "goes on from the last saved one. Lower OPTIM.LR, or compute in fp32 (PREC)."
        )
    plain = _plain(state, "state")
    plain["state_dict"] = OrderedDict(
        (key[len("module.") :] if key.startswith("module.") else key, value)
        for key, value in plain["state_dict"].items()
    )
    name = model_name or epoch_file(plain["epoch"])
    path = os.path.join(save_dir, name)
    content = io.BytesIO()  # because torch.save replaces a full disk's OSError by an internal one
    torch.save(plain, content)
    write_whole(path, content.getvalue())
    write_whole(os.path.join(save_dir, POINTER_FILE), f"{name}\n")
    print(f"Checkpoint saved to {path}")


def not_finite(state_dict: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with infinite or undefined elements."""
    floats = {name: value for name, value in state_dict.items() if value.is_floating_point()}
    return [name for name, value in floats.items() if not torch.isfinite(value).all()]


def _plain(value: Any, where: str) -> Any:
    """Copy nested containers with near-plain values made plain; raise CheckpointError, with the place, for others."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    for kind in (int, float, str, bytes):
        if isinstance(value, kind):
            return kind(value)  # np.float64 is a float, but pickles as an object
    if isinstance(value, Mapping):
        kind = OrderedDict if type(value) is OrderedDict else dict
        return kind(
            (_plain(key, f"key {key!r} of {where}"), _plain(v, f"{where}[{key!r}]")) for key, v in value.items()
        )
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise CheckpointError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds tensors, numbers, "
        "strings, None, and dicts, lists and tuples of these, so that it can be read safely. Save the object's "
        "state_dict() instead"
    )


# --------------------------------------------------------------------------------------------------------- reading


def read_file(fpath: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a dict that ``torch.save`` wrote, on the CPU, without executing anything from the file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, of another kind, or names code that no checkpoint needs.
    """
    if not os.path.exists(fpath):
        raise MissingCheckpointError(f'No checkpoint at "{fpath}"')
    try:
        content = _read(fpath)
    except Exception as error:  # of many kinds, depending on the bytes
        raise CheckpointError(f'"{fpath}" {_fault(fpath, error)}') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'"{fpath}" is no checkpoint: it holds a {type(content).__name__} where a dict of tensors is expected'
        )
    if not holds_inert(content):
        return content
    if "state_dict" not in content:
        raise CheckpointError(f'"{fpath}" holds pickled objects but no state_dict; it is no checkpoint')
    print(f'Note: "{fpath}" holds pickled optimizer or scheduler objects; only its weights and epoch are used')
    return {"state_dict": content["state_dict"], "epoch": content.get("epoch")}


def _read(fpath: str | os.PathLike[str]) -> Any:
    """The content of a file, by PyTorch where that is safe and knows all of it, else by the restricted reader."""
    if is_torchscript(fpath):
        raise CheckpointError("it holds a whole model as TorchScript")
    if not _LOADS_SAFELY:
        _note_restricted()
        return read_archive(fpath)
    try:
        return torch.load(fpath, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(fpath):
            raise
        return read_archive(fpath)


@functools.cache
def _note_restricted() -> None:
    print(
        f"Note: PyTorch {torch.__version__} may run code of a checkpoint (CVE-2025-32434, mended in 2.6), so "
        "checkpoints are read without it; files in the format of PyTorch before 1.6 are refused"
    )


def _fault(fpath: str | os.PathLike[str], error: Exception) -> str:
    """What is wrong with a file that could not be read, and what to do."""
    # torch's message is left out, because it may advise executing the file's content.
    fault = f"is no checkpoint; give a file that training wrote, such as {epoch_file(10)}"
    if not os.path.isfile(fpath):
        return fault
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(fpath):
        return (
            f"is damaged, or holds objects that may run code when they are read ({_first_line(error)}); it has not "
            "been executed. Ask its author for a file that torch.load(weights_only=True) reads"
        )
    with open(fpath, "rb") as file:
        # An empty file, or the beginning of a zip file, torch's format, may be part of a checkpoint.
        damaged = file.read(4) in (b"", b"PK\x03\x04") and not is_torchscript(fpath)
    return "is a damaged checkpoint; delete it or copy it again" if damaged else fault


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def state_dict_of(content: Mapping[str, Any], fpath: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The state dict in the result of :func:`read_file`, which may be a bare one; CheckpointError for non-tensors."""
    state_dict = content.get("state_dict", content)
    if not isinstance(state_dict, dict):
        raise CheckpointError(f'"{fpath}" is not a checkpoint: its state_dict is a {type(state_dict).__name__}')
    strangers = [key for key, value in state_dict.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise CheckpointError(f'"{fpath}" is not a checkpoint: not tensors in its state_dict: {_shorten(strangers)}')
    return state_dict


def load_checkpoint(fpath: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint as :func:`read_file` does; missing ``epoch``, ``optimizer``, ``scheduler``… are ``None``.

    From a file with pickled schedulers (Dassl up to 0.6.3 with warm-up), only ``state_dict`` and ``epoch`` are used,
    and a note is printed.
    """
    content = read_file(fpath)
    if not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(
            f'"{fpath}" is not a checkpoint: it has no state_dict, its keys are {_shorten(list(content))}'
        )
    checkpoint = {**dict.fromkeys(_KEYS), **content, "state_dict": state_dict_of(content, fpath)}
    if checkpoint["epoch"] is not None and not isinstance(checkpoint["epoch"], int):
        raise CheckpointError(f'"{fpath}" is not a checkpoint: its epoch is {checkpoint["epoch"]!r}, not a number')
    return checkpoint


def load_weights(model: nn.Module, state_dict: Mapping[str, torch.Tensor], fpath: str | os.PathLike[str]) -> None:
    """Load ``state_dict`` of the file ``fpath`` strictly; a CheckpointError lists names and shapes that do not fit.

    A weight that is not finite is one, too. It may leave ``model`` partly overwritten.
    """
    own = model.state_dict()
    # Of the fitting ones, since a hostile file may have tensors of any size in few bytes.
    spoilt = not_finite(
        {name: state_dict[name] for name in own if name in state_dict and own[name].shape == state_dict[name].shape}
    )
    if spoilt:
        raise CheckpointError(f'"{fpath}" is spoilt: {_shorten(spoilt)} are not finite; choose an earlier epoch')
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        details = "; ".join(_shorten(line.strip()) for line in str(error).splitlines()[1:])
        raise CheckpointError(
            f'"{fpath}" does not fit {type(model).__name__}: {details} It was written with another method, backbone, '
            "prompt length or depth; use the --trainer, --config-file and options it was trained with"
        ) from error


def _shorten(value: Any, limit: int = 400) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more characters)"


# -------------------------------------------------------------------------------------------------------- resuming


def restore(
    fpath: str | os.PathLike[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    max_epoch: int | None = None,
) -> dict[str, Any]:
    """Restore the state of model, optimiser and scheduler from ``fpath``, and return the checkpoint.

    If the file has no scheduler state, or is from a run of another length, the schedule is recomputed up to the file's
    epoch, so that the learning rate is that of a run of ``max_epoch`` epochs.

    Args:
        optimizer: unchanged if the file has no state for it.
        scheduler: must not have been stepped.
        max_epoch: length of this run in epochs, compared with the file's.

    Raises:
        CheckpointError: the file does not fit.
    """
    print(f'Loading checkpoint from "{fpath}"')
    checkpoint = load_checkpoint(fpath)
    epoch = checkpoint["epoch"]
    if epoch is None:
        raise CheckpointError(
            f'"{fpath}" does not say after which epoch it was written; it can be evaluated, not resumed'
        )
    load_weights(model, checkpoint["state_dict"], fpath)
    print("Loaded model weights")

    written_for = checkpoint.get("max_epoch")
    length_changed = None not in (written_for, max_epoch) and written_for != max_epoch
    recompute = scheduler is not None and (checkpoint["scheduler"] is None or length_changed)
    if recompute:
        with warnings.catch_warnings():
            # torch warns about the order of optimizer.step() and scheduler.step(); no optimiser step belongs here.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(epoch):
                scheduler.step()
        learning_rates = [group["lr"] for group in scheduler.optimizer.param_groups]
    if optimizer is not None and checkpoint["optimizer"] is not None:
        _load_optimizer(optimizer, checkpoint["optimizer"], fpath)
        print("Loaded optimizer")
    if recompute:
        for group, learning_rate in zip(scheduler.optimizer.param_groups, learning_rates):
            group["lr"] = learning_rate
        print(f"Note: the learning rate schedule is computed anew for epoch {epoch + 1}")
    elif scheduler is not None:
        _load_scheduler(scheduler, checkpoint["scheduler"], fpath)
        print("Loaded scheduler")
    print(f"Previous epoch: {epoch}")
    return checkpoint


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Any, fpath: str | os.PathLike[str]) -> None:
    try:
        optimizer.load_state_dict(state)
        # Checked after loading, because torch fills in settings that its older versions lacked.
        lacking = {key for group in optimizer.param_groups for key in optimizer.defaults if key not in group}
        reason = f"it lacks the settings {sorted(lacking)}" if lacking else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
    if reason:
        raise CheckpointError(
            f'the optimizer state in "{fpath}" is not one of {type(optimizer).__name__} for these parameters '
            f"({reason}); resume with the OPTIM settings and the trainer it was written with, or start in an empty "
            "OUTPUT_DIR"
        )


def _load_scheduler(scheduler: Any, state: Any, fpath: str | os.PathLike[str]) -> None:
    # Names with an underscore, and `verbose`, come and go with torch's versions.
    public = {key for key in scheduler.state_dict() if not key.startswith("_") and key != "verbose"}
    lacking = sorted(public - set(state))
    if lacking:
        raise CheckpointError(
            f'the scheduler state in "{fpath}" does not fit {type(scheduler).__name__}: it lacks {lacking}; '
            "resume with the OPTIM.LR_SCHEDULER and OPTIM.WARMUP_* settings it was written with, or start in an empty "
            "OUTPUT_DIR"
        )
    scheduler.load_state_dict(state)
