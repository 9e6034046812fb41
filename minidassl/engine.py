"""The registry of trainers, and the life cycle of a training run.

Construction: ``check_cfg`` → device → ``build_data_loader`` → ``build_model`` → evaluator. ``train()``: resume or
start → for every epoch ``before_epoch``, ``run_epoch``, ``after_epoch`` → final test. A method overrides
``build_model`` and ``forward_backward``, and often ``check_cfg`` and ``parse_batch_train``.

Differences from upstream: checkpoints (:mod:`minidassl.own.checkpointing`); one class instead of three; no default
model, because there are no backbones; a failed training keeps its TensorBoard events; training works without
TensorBoard, and where its events cannot be written.
"""

from __future__ import annotations

import datetime
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm import tqdm

from .config import refuse_unsupported
from .data import DataManager
from .evaluation import build_evaluator
from .own.checkpointing import CheckpointingMethods
from .own.scalars import open_writer
from .utils import AverageMeter, MetricMeter, Registry

if TYPE_CHECKING:
    from yacs.config import CfgNode

TRAINER_REGISTRY = Registry("TRAINER")
build_trainer = TRAINER_REGISTRY.build


class TrainerX(CheckpointingMethods):
    """Trains on labelled images.

    Attributes:
        dm: data manager; its loaders are attributes of the trainer, too.
        device: ``cuda`` if available and allowed by ``USE_CUDA``, else ``cpu``.
        epoch: 0-based index of the current epoch.
        best_result: best validation result so far, in percent.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer = None
        refuse_unsupported(cfg)
        self.check_cfg(cfg)
        self.cfg = cfg
        self.output_dir = cfg.OUTPUT_DIR
        self.device = torch.device("cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu")
        self.epoch = self.start_epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.build_data_loader()
        self.build_model()
        self.best_result = float("-inf")
        self.evaluator = build_evaluator(cfg)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Hook: raise a ``ValueError`` that names the key if the trainer cannot use the configuration."""

    def build_data_loader(self) -> None:
        """Build the loaders. An override sets the same attributes, except for ``dm``."""
        dm = self.dm = DataManager(self.cfg)
        self.train_loader_x, self.val_loader, self.test_loader = dm.train_loader_x, dm.val_loader, dm.test_loader
        self.num_classes = dm.num_classes

    def build_model(self) -> None:
        """Build and register the model; every trainer defines it."""
        raise NotImplementedError(
            f"{type(self).__name__} must define build_model: the built-in stand-in for Dassl has no backbones"
        )

    def forward_backward(self, batch: Mapping[str, Any]) -> Mapping[str, float] | None:
        """Train on one batch: forward, backward, step, and ``self.update_lr()`` in the epoch's last batch.

        The last batch has ``self.batch_idx + 1 == self.num_batches``. Since it steps the schedule, its log line shows
        the next epoch's learning rate. The returned numbers are logged. Scalar tensors among them are read together,
        every ``TRAIN.PRINT_FREQ`` batches, so that a step need not wait for the device.
        """
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------- models

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: torch.optim.Optimizer | None = None,
        sched: Any = None,
    ) -> None:
        """Register a model: only registered ones are saved, loaded and switched between modes.

        ``model_backward_and_update`` steps ``optim``; ``update_lr`` steps ``sched``. ``name``, also of the folder for
        checkpoints, must not be taken (``ValueError``).
        """
        if name in self._models:
            raise ValueError(f"Found duplicate model names: {name!r} is already registered")
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self) -> list[str]:
        return list(self._models)

    def set_model_mode(self, mode: str) -> None:
        """Switch registered models to ``train`` or ``eval``."""
        for model in self._models.values():
            model.train(mode == "train")

    # ------------------------------------------------------------------------------------------------- updating

    def update_lr(self) -> None:
        """Step the schedules; call it once per epoch, in its last batch."""
        for scheduler in self._scheds.values():
            if scheduler is not None:
                scheduler.step()

    def get_current_lr(self) -> float:
        """Learning rate of the first parameter group of the first model."""
        return next(iter(self._optims.values())).param_groups[0]["lr"]

    def model_backward_and_update(self, loss: torch.Tensor) -> None:
        """Clear gradients, backpropagate, step; a loss that is not finite is a ``FloatingPointError``."""
        optimizers = [optimizer for optimizer in self._optims.values() if optimizer is not None]
        for optimizer in optimizers:
            optimizer.zero_grad()
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    # ---------------------------------------------------------------------------------------------- TensorBoard

    def init_writer(self, log_dir: str) -> None:
        self._writer = open_writer(log_dir)

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write one value to TensorBoard; without a writer, that is, outside training, do nothing."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # --------------------------------------------------------------------------------------------------- epochs

    def train(self) -> None:
        """Train from the newest checkpoint, or from scratch, to ``OPTIM.MAX_EPOCH``, and test."""
        try:
            self.before_train()
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
            self.after_train()
        finally:
            # Flush, not close: a trainer that leaves the loop may still test and write.
            if self._writer is not None:
                self._writer.flush()

    def before_epoch(self) -> None:
        """Hook: no trainer here needs it, but one written for Dassl must not have it passed over in silence."""

    def before_train(self) -> None:
        """Resume from ``RESUME``, else from the output folder; open the writer; start the clock."""
        self.start_epoch = self.resume_model_if_exist(self.cfg.RESUME or self.cfg.OUTPUT_DIR)
        self.init_writer(os.path.join(self.output_dir, "tensorboard"))
        self.time_start = time.time()

    def after_train(self) -> None:
        """Test the model that ``TEST.FINAL_MODEL`` names, unless ``TEST.NO_TEST``."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            takes_best = self.cfg.TEST.FINAL_MODEL == "best_val"
            print(f"Deploy the {'model with the best val performance' if takes_best else 'last-epoch model'}")
            if takes_best:
                self.load_model(self.output_dir)
            self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate the current model; returns the evaluator's first result, the accuracy in percent.

        ``split`` is ``val``, which falls back to the test images if there are no validation images, or ``test``; by
        default ``TEST.SPLIT``.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        on_val = (split or self.cfg.TEST.SPLIT) == "val" and self.val_loader is not None
        split, loader = ("val", self.val_loader) if on_val else ("test", self.test_loader)
        print(f"Evaluate on the *{split}* set")
        for batch in tqdm(loader):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(input), label)
        results = self.evaluator.evaluate()
        for key, value in results.items():
            self.write_scalar(f"{split}/{key}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [batch, 3, height, width] and labels [batch]."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def run_epoch(self) -> None:
        self.set_model_mode("train")
        self.num_batches = len(self.train_loader_x)
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        frequency, waiting = self.cfg.TRAIN.PRINT_FREQ, []
        start = begin = time.time()
        for batch_idx, batch in enumerate(self.train_loader_x):
            self.batch_idx = batch_idx
            data_time.update(time.time() - start)
            waiting.append((batch_idx, _detached(self.forward_backward(batch)), self.get_current_lr()))
            is_shown = (batch_idx + 1) % frequency == 0 or self.num_batches < frequency
            if is_shown:
                self._note(waiting, losses)
                batch_time.update((time.time() - begin) / len(waiting), len(waiting))
                print(self._log_line(losses, batch_time, data_time))
                waiting, begin = [], time.time()
            start = time.time()
        self._note(waiting, losses)

    def _note(self, waiting: list[tuple[int, Any, float]], losses: MetricMeter) -> None:
        """Check, average and write what steps returned; numbers on a device come together, and the host waits once."""
        on_device: dict[torch.device, list[torch.Tensor]] = {}
        for _, values, _ in waiting:
            for value in values.values() if isinstance(values, Mapping) else ():
                if isinstance(value, torch.Tensor):
                    on_device.setdefault(value.device, []).append(value.reshape(()).double())
        numbers = {device: iter(torch.stack(scalars).tolist()) for device, scalars in on_device.items()}
        for batch_idx, values, rate in waiting:
            if isinstance(values, Mapping):
                values = {
                    name: next(numbers[value.device]) if isinstance(value, torch.Tensor) else value
                    for name, value in values.items()
                }
                self.check_step(batch_idx, values)
            losses.update(values)
            step = self.epoch * self.num_batches + batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", rate, step)

    def check_step(self, batch_idx: int, values: Mapping[str, float]) -> None:
        """Hook: refuse the numbers that ``forward_backward`` returned for a batch, once they are read."""

    def _log_line(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> str:
        done = self.epoch * self.num_batches + self.batch_idx + 1
        seconds = batch_time.avg * (self.max_epoch * self.num_batches - done)
        return (
            f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{self.batch_idx + 1}/{self.num_batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
            f"{losses} lr {self.get_current_lr():.4e} eta {datetime.timedelta(seconds=int(seconds))}"
        )

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images [batch, 3, height, width], labels [batch] and domains [batch]."""
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)


def _detached(values: Any) -> Any:
    """What a step returned, without the graphs of its tensors."""
    if not isinstance(values, Mapping):
        return values
    return {name: value.detach() if isinstance(value, torch.Tensor) else value for name, value in values.items()}
