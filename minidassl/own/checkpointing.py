"""Saving, loading and exact resuming: a stopped and resumed run equals an uninterrupted one to the bit.

Every epoch is saved. Beside the weights a file holds optimiser, schedule, gradient scaler, all random generators, the
best result so far and the state from :meth:`Checkpointing.training_state`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .checkpoint import load_checkpoint, load_weights, not_finite, restore, save_checkpoint
from .files import write_whole
from .run_folder import BEST_FILE, CheckpointError, MissingCheckpointError, common_epochs, epoch_file, find_checkpoint


class CheckpointingMethods:
    """The common part of :class:`Checkpointing` and this package's ``TrainerX``.

    It relies on ``_models``, ``_optims``, ``_scheds``, ``get_model_names``, ``test``, ``epoch``, ``max_epoch``,
    ``output_dir``, ``best_result`` and ``cfg``, and uses ``scaler`` where there is one.

    Differences from upstream: loading is strict; a mistyped ``RESUME`` is an error; a run resumes from the newest
    epoch, not from the last file written; random generators and best result are restored; a schedule of another length
    is recomputed.
    """

    # Epoch whose file in output_dir is deleted once a newer one is written.
    _replaceable_epoch: int | None = None

    # ------------------------------------------------------------------------------------------- for subclasses

    def training_state(self) -> dict[str, Any]:
        """Further state of the training, as plain data and tensors; override it together with the next method."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore the result of :meth:`training_state`."""

    def convert_state_dict(self, name: str, state_dict: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Translate the tensor names of another code base's file; called by :meth:`load_model` only.

        The registered model ``name`` loads the result strictly. Raise a ``ValueError`` if the file does not fit;
        :meth:`load_model` adds its path.
        """
        return state_dict

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that is not for this trainer, by a ``ValueError``; called before a test loads it."""

    # ---------------------------------------------------------------------------------------------------- saving

    def save_model(
        self, epoch: int, directory: str | os.PathLike[str], val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Write one file per registered model, ``<directory>/<registered name>/model.pth.tar-<epoch + 1>``.

        Args:
            epoch: 0-based.
            val_result: validation result in percent, for best files.
            model_name: file name to use instead.
        """
        scaler = getattr(self, "scaler", None)
        common = {
            "epoch": epoch + 1,
            "val_result": val_result,
            "scaler": None if scaler is None else scaler.state_dict(),
            "best_result": float(self.best_result),
            "max_epoch": self.max_epoch,
            "rng": _rng_state(),
            "trainer_state": self.training_state(),
        }
        for name in self.get_model_names():
            optimizer, scheduler = self._optims[name], self._scheds[name]
            state = {
                "state_dict": self._models[name].state_dict(),
                "optimizer": None if optimizer is None else optimizer.state_dict(),
                "scheduler": None if scheduler is None else scheduler.state_dict(),
            }
            save_checkpoint({**state, **common}, os.path.join(directory, name), model_name)

    def validates(self) -> bool:
        """Whether epochs end with an evaluation on the validation split."""
        return not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val"

    def validated(self, result: float) -> None:
        """Process a validation result in percent: save the model if it is the best so far."""
        if result > self.best_result:
            self.best_result = result
            self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST_FILE)

    def after_epoch(self) -> None:
        """Validate if :meth:`validates`, save, and delete the replaced file.

        A validation result that is strictly greater than all before rewrites the best file. The file of an earlier
        epoch stays if ``TRAIN.CHECKPOINT_FREQ`` divides the epoch, or if it was the last one of its run.
        """
        if self.validates():
            self.validated(self.test(split="val"))
        # After the evaluation, which draws random numbers that the next epoch must not draw again.
        self.save_model(self.epoch, self.output_dir)
        self._delete_replaceable()
        self._set_replaceable(self.epoch + 1, self.max_epoch)

    def _delete_replaceable(self) -> None:
        for name in self.get_model_names() if self._replaceable_epoch is not None else ():
            with suppress(FileNotFoundError):
                os.remove(os.path.join(self.output_dir, name, epoch_file(self._replaceable_epoch)))

    def _set_replaceable(self, finished: int, max_epoch: int) -> None:
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        keep = finished == max_epoch or (frequency > 0 and finished % frequency == 0)
        self._replaceable_epoch = None if keep else finished

    # -------------------------------------------------------------------------------------------------- resuming

    def resume_model_if_exist(self, directory: str | os.PathLike[str]) -> int:
        """Restore the newest epoch with files of all registered models in an output folder, else the best file.

        Returns the number of finished epochs: 0 if there is nothing to resume from, which is a FileNotFoundError where
        ``cfg.RESUME`` is set. Files that do not fit this trainer are a CheckpointError.
        """
        names = self.get_model_names()
        file_name = self.newest_file(directory)
        if file_name is None:
            if self.cfg.RESUME:
                raise MissingCheckpointError(
                    f'Nothing to resume from at "{directory}": expected model.pth.tar-<epoch> in its folders {names}; '
                    "check --resume, which takes the output folder of the run to continue"
                )
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        for name in names:
            path = os.path.join(directory, name, file_name)
            checkpoint = restore(path, self._models[name], self._optims[name], self._scheds[name], self.max_epoch)
        # The rest is the same in the files of all models; older files lack it.
        scaler = getattr(self, "scaler", None)
        if scaler is not None and checkpoint.get("scaler"):
            scaler.load_state_dict(checkpoint["scaler"])
        if checkpoint.get("best_result") is not None:
            self.best_result = checkpoint["best_result"]
        if checkpoint.get("trainer_state"):
            self.load_training_state(checkpoint["trainer_state"])
        if checkpoint.get("rng") is None:
            print("Note: this checkpoint holds no random state; the order of images differs from an uninterrupted run")
        else:
            _set_rng_state(checkpoint["rng"])
        if os.path.abspath(directory) != os.path.abspath(self.output_dir):
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                # If this run never beats the restored best_result, it deploys the earlier run's best model.
                for name in names:
                    with suppress(FileNotFoundError):
                        best = Path(directory, name, BEST_FILE).read_bytes()
                        write_whole(Path(self.output_dir, name, BEST_FILE), best)
        elif "max_epoch" in checkpoint:  # else upstream wrote it; upstream's files all stay
            earlier = Path(directory, names[0], epoch_file(checkpoint["epoch"] - 1))
            if earlier.is_file():
                # Kept on purpose, or left by a process that was killed before it deleted it.
                self._set_replaceable(checkpoint["epoch"] - 1, load_checkpoint(earlier).get("max_epoch"))
                self._delete_replaceable()
            self._set_replaceable(checkpoint["epoch"], checkpoint["max_epoch"])
        return checkpoint["epoch"]

    def newest_file(self, directory: str | os.PathLike[str]) -> str | None:
        """Name of the newest file that every registered model has, else of the best file; None without any.

        Files with weights that are not finite, which no run can go on from, are passed over with a note.
        """
        folders = [os.path.join(directory, name) for name in self.get_model_names()]
        for name in [*map(epoch_file, reversed(common_epochs(folders))), BEST_FILE]:
            paths = [os.path.join(folder, name) for folder in folders]
            if not paths or not all(map(os.path.exists, paths)):
                continue
            spoilt = [path for path in paths if not_finite(load_checkpoint(path)["state_dict"])]
            if not spoilt:
                return name
            print(f"Note: {', '.join(spoilt)} has weights that are not finite; looking for an earlier one")
        return None

    # --------------------------------------------------------------------------------------------------- loading

    def load_model(self, directory: str | os.PathLike[str], epoch: int | None = None) -> None:
        """Load weights for evaluation, strictly, from the output folder of a run.

        ``epoch`` is 1-based; ``None``: ``model-best.pth.tar`` if there is one, else the newest epoch.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: no folder is given, or the file does not fit; the message lists names and shapes.
        """
        names = self.get_model_names()
        if not names:
            print("Nothing to load: this trainer has no trained part")
            return
        if not directory:
            raise CheckpointError(
                "there is no model to load: name the output folder of a training run with --model-dir"
            )
        for name in names:
            path = find_checkpoint(os.path.join(directory, name), epoch)
            if epoch is None and path.name != BEST_FILE:
                print(f"There is no {BEST_FILE}; taking the newest epoch, {path.name.rpartition('-')[2]}")
            checkpoint = load_checkpoint(path)
            print(f'Loading weights to {name} from "{path}" (epoch = {checkpoint["epoch"]})')
            try:
                self.check_checkpoint(checkpoint)
                state_dict = self.convert_state_dict(name, checkpoint["state_dict"])
            except ValueError as error:
                raise CheckpointError(f'"{path}" cannot be loaded. {error}') from error
            load_weights(self._models[name], state_dict, path)


class Checkpointing(CheckpointingMethods):
    """Mix-in that replaces methods of any ``TrainerX``, including upstream's; name it first among the bases.

    A class of its own, because Python allows no base class both before ``TrainerX`` and after it.
    """


def _rng_state() -> dict[str, Any]:
    """State of all generators of random numbers, as numbers and tensors."""
    version, python_keys, python_gauss = random.getstate()
    name, keys, *position_and_gauss = np.random.get_state()
    # A query would initialise an unused CUDA, from which nothing was drawn.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {
        "python": [version, torch.tensor(python_keys, dtype=torch.int64), python_gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *position_and_gauss],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    name, keys, *position_and_gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *position_and_gauss))
    torch.set_rng_state(state["torch"])
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(state["cuda"]) > devices:
        print(f"Note: the checkpoint holds {len(state['cuda'])} CUDA generators, but there are {devices} devices")
    for device, cuda_state in enumerate(state["cuda"][:devices]):
        torch.cuda.set_rng_state(cuda_state, device)
