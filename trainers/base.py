"""The life cycle that all trainers share: check, build, freeze, step, save, load, evaluate.

A method's trainer adds little more than its declaration. Schedules, optimisers and checkpoints are this project's own
even on upstream Dassl, because upstream's break on current PyTorch or do not resume exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from minidassl.own.checkpoint import load_checkpoint, load_weights
from minidassl.own.checkpointing import Checkpointing
from minidassl.own.optim import build_lr_scheduler, build_optimizer
from minidassl.own.run_folder import has_checkpoints
from minidassl.own.scalars import open_writer

import torch
from dassl.engine import TRAINER_REGISTRY, TrainerX
from torch import Tensor, nn
from yacs.config import CfgNode

from .config import build_objective, check_images, check_shared, key_names, objective_of, settings_of
from .early_stopping import EarlyStopping, may_validate
from .evaluation import Recorder, data_fingerprint, learned_classes, plain_configuration, record_of
from .prompting.checkpoints.checks import adopt, check_adapters
from .prompting.core.class_tokens import check_context
from .prompting.core.clip_weights import check_backbone, get_precision, load_clip, use_tf32
from .prompting.core.learner import PromptLearner
from .prompting.core.prompted_clip import PromptedCLIP
from .prompting.declaration import CROSS_ENTROPY, Method, Settings, declare
from .prompting.errors import InputError, worded
from .prompting.objectives.objective import OBJECTIVES, Objective
from .prompting.objectives.training_step import TrainingStep
from .prompting.recipes import value_at
from .records import (
    OBJECTIVE_KEY,
    check_origin,
    check_resumed,
    check_tested,
    keep_settings,
    kept_settings,
    learned_classnames,
    shaping_settings,
    trained_on,
    write_result,
)

Trainer = TypeVar("Trainer", bound=type)

# Class names and the names to register them under, where a plugin finds their own taken; filled before the methods'
# modules are imported.
OTHER_NAMES: dict[str, str] = {}


def register(trainer: Trainer) -> Trainer:
    """Register a trainer and its method. A trainer under another name has that name, in capitals, as its node.

    Raises:
        KeyError: the name of the trainer is taken.
        InputError: the name of the method is taken.
    """
    declare(trainer.method)
    name = OTHER_NAMES.get(trainer.__name__)
    if name is not None:
        trainer.__name__, trainer.method = name, dataclasses.replace(trainer.method, node=name.upper())
    TRAINER_REGISTRY.register()(trainer)
    return trainer


def check_configuration(cfg: CfgNode, trains: bool) -> None:
    """Check for the configuration's trainer all that needs neither data nor weights, before a run starts.

    Raises:
        InputError: a value that is not allowed; for a run that trains also one that allows tests only.
    """
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if issubclass(trainer, PromptTrainer):  # Dassl's own check only when they are built
        trainer.check_values(cfg)
        if trains:
            trainer.check_training(cfg)


class EndOfTraining(Exception):
    """Leaves Dassl's loop over the epochs, which has no other way out."""


class PromptTrainer(Checkpointing, TrainerX):
    """Trains a learner's prompts in a frozen CLIP by an objective.

    Attributes:
        method: the declaration of the trained method.
    """

    method: Method

    trained = False  # this run finished its training
    train_seconds = 0.0  # of all epochs, without tests
    model_dir: str | None = None  # source of the evaluated weights
    trained_on: dict[str, Any] | None = None  # their training data; None if unknown
    learned: list[str] | None = None  # names of the classes that they were trained on
    objective_state: Mapping[str, Any] = MappingProxyType({})  # from the checkpoint to resume from
    resumed_settings: Mapping[str, Any] | None = None  # its settings of the objective; None if it has none
    resumed_origin: Mapping[str, Any] | None = None  # its settings, data and CLIP; None if it does not tell

    def __init__(self, cfg: CfgNode):
        with worded(key_names(cfg, self.method)):
            super().__init__(cfg)
        self.evaluator = Recorder(self.evaluator, self.num_classes, keep_logits=cfg.TEST.SAVE_LOGITS)

    @classmethod
    def settings(cls, cfg: CfgNode) -> Settings:
        """The learner's settings; raises InputError where they are not allowed."""
        return settings_of(cfg, cls.method)

    @classmethod
    def build_parts(cls, cfg: CfgNode, clip_model: nn.Module) -> tuple[PromptLearner, Objective]:
        """The learner, with the objective's additions, and the objective.

        Raises:
            InputError: a value that is not allowed, or an objective for a learner without prompts.
        """
        with worded(key_names(cfg, cls.method)):
            learner = cls.method.learner(cls.settings(cfg), clip_model)
            objective = build_objective(cfg, cls.method)
            untrained = next(learner.parameters(), None) is None
            if cfg.TRAINER.OBJECTIVE not in ("", CROSS_ENTROPY) and untrained:
                raise InputError(
                    f"TRAINER.OBJECTIVE is {cfg.TRAINER.OBJECTIVE!r}, but {cfg.TRAINER.NAME} (--trainer) has no "
                    "prompts to train by it; leave the key empty, or choose another trainer."
                )
            objective.extend(learner, clip_model)
        return learner, objective

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse an unusable configuration. Dassl calls it first."""
        self.check_values(cfg)
        self.precision = get_precision(cfg.TRAINER[self.method.node][Method.PRECISION_KEY])
        self.early_stopping = EarlyStopping(cfg)

    @classmethod
    def check_values(cls, cfg: CfgNode) -> None:
        """Refuse values that allow neither tests nor training; needs neither data nor weights.

        Raises:
            InputError: the first of them.
        """
        with worded(key_names(cfg, cls.method)):
            get_precision(cfg.TRAINER[cls.method.node][Method.PRECISION_KEY])
            check_backbone(cfg.MODEL.BACKBONE.NAME, cls.method.needs_vit)
        check_shared(cfg)
        cls.settings(cfg)
        objective = objective_of(cfg, cls.method)
        if objective.views != cfg.DATALOADER.K_TRANSFORMS:
            raise InputError(
                f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS}, but the objective of {cfg.TRAINER.NAME} "
                f"({OBJECTIVE_KEY} {cfg.TRAINER.OBJECTIVE!r}) takes {objective.views} views of each image; set it to "
                "that."
            )

    @classmethod
    def check_training(cls, cfg: CfgNode) -> None:
        """Refuse settings that allow tests, but no training; needs neither data nor weights.

        Raises:
            InputError: settings that the objective cannot be trained with.
        """
        with worded(key_names(cfg, cls.method)):
            objective = build_objective(cfg, cls.method)
            if objective.takes_all_epochs and may_validate(cfg) and cfg.TEST.FINAL_MODEL == "best_val":
                raise InputError(
                    "TEST.FINAL_MODEL is best_val and TEST.NO_TEST_EARLY is False, but the objective's result, such "
                    "as an average over all epochs, comes with the last one; set TEST.FINAL_MODEL to last_step."
                )
            if objective.takes_all_epochs and EarlyStopping(cfg).active:
                raise InputError(
                    "TRAIN.EARLY_STOPPING is True and TEST.NO_TEST_EARLY is False, but the objective needs all "
                    "epochs, as for an average over them, and training that stops early would lack some; set "
                    "TRAIN.EARLY_STOPPING to False."
                )
            objective.check_training()

    def build_data_loader(self) -> None:
        """Load CLIP, make learner and objective, then read data: what does not suit the backbone is refused before."""
        cfg, method = self.cfg, self.method
        precision = cfg.TRAINER[method.node][Method.PRECISION_KEY]
        print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME}, precision: {precision})")
        self.clip_model = load_clip(cfg.MODEL.BACKBONE.NAME, self.precision, method.needs_vit)
        check_images(cfg, self.clip_model)
        # Prompts are initialised on the CPU, from its generator alone.
        with torch.random.fork_rng(devices=[], enabled=cfg.MODEL.INIT_SEED >= 0):
            if cfg.MODEL.INIT_SEED >= 0:
                torch.random.default_generator.manual_seed(cfg.MODEL.INIT_SEED)
            self.learner, self.objective = self.build_parts(cfg, self.clip_model)
        with worded(key_names(cfg, method)):
            check_context(self.clip_model, self.learner.templates)
        super().build_data_loader()

    def build_model(self) -> None:
        cfg, classnames = self.cfg, self.dm.dataset.classnames
        if len(classnames) != self.num_classes:
            raise InputError(
                f"{cfg.DATASET.NAME} has labels up to {self.num_classes - 1}, but {len(classnames)} class names: some "
                "labels have no training image. Check the data set's folder and its split file."
            )
        sentences = ", ".join(dict.fromkeys(self.learner.templates))
        print(f"Building {type(self).__name__} on {len(classnames)} classes: {sentences!r}")
        use_tf32(cfg.MODEL.TF32)
        # On the device first, where some learners have their classes encoded.
        clip_model, how = self.clip_model.to(self.device), (cfg.MODEL.CLASS_CHUNK, cfg.MODEL.CUDA_GRAPH)
        self.model = PromptedCLIP(clip_model, self.learner, classnames, self.precision, *how).to(self.device)
        if self.device.type == "cpu" and self.precision.matmul == torch.float16:
            print(f"Note: half precision is slow on a CPU; TRAINER.{self.method.node}.PREC bf16 or fp32 is faster")
        trained = sum(parameter.numel() for parameter in self.learner.parameters() if parameter.requires_grad)
        print(f"Trainable parameters: {trained:,}")
        if not trained:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            weights = load_checkpoint(cfg.MODEL.INIT_WEIGHTS)["state_dict"]
            with worded(key_names(cfg, self.method), before=f"MODEL.INIT_WEIGHTS is {cfg.MODEL.INIT_WEIGHTS}. "):
                weights = self.convert_state_dict(self.method.folder, weights)
            load_weights(self.learner, weights, cfg.MODEL.INIT_WEIGHTS)
            print(f"Initial weights: {cfg.MODEL.INIT_WEIGHTS}")
        self.optim = build_optimizer(self.learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision.scale_gradients)
        self.register_model(self.method.folder, self.learner, self.optim, self.sched)

    def convert_state_dict(self, name: str, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Accept checkpoints of the method's authors beside our own, and list the tensors taken from them."""
        with worded(key_names(self.cfg, self.method)):
            state_dict, left_out = adopt(
                state_dict, self.method.layout, self.learner, self.clip_model, self.cfg.MODEL.BACKBONE.NAME
            )
        check_adapters(state_dict, self.learner.state_dict())
        if left_out is not None:
            print(f"This is a checkpoint of the authors' code; {len(state_dict)} tensors of it are taken:")
            print("  " + ", ".join(state_dict))
            for reason, number in left_out.items():
                print(f"  {number} are left out: {reason}")
        return state_dict

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Tensor]:
        """The views of the images, each `[batch, 3, height, width]`, and labels `[batch]`, on the device."""
        views = batch["img"] if self.objective.views > 1 else [batch["img"]]
        label = batch["label"].to(self.device, non_blocking=True)
        return [view.to(self.device, non_blocking=True) for view in views], label

    def forward_backward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One training step; the last batch of an epoch steps the schedule, as everywhere in the field.

        This project's engine reads the values later, upstream's at once.
        """
        views, labels = self.parse_batch_train(batch)
        with worded(key_names(self.cfg, self.method)):
            values = self.step(views, labels)
        if not hasattr(TrainerX, "check_step"):
            values = dict(zip(values, torch.stack(list(values.values())).tolist()))
            self.check_step(self.batch_idx, values)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return values

    def check_step(self, batch_idx: int, values: Mapping[str, float]) -> None:
        """Raises FloatingPointError for a loss that is not finite: it has spoilt the prompts, and ends the run.

        Nothing of its epoch has been saved.
        """
        if not math.isfinite(values.get("loss", 0.0)):
            raise FloatingPointError(
                f"The loss is {values['loss']} in epoch {self.epoch + 1}, batch {batch_idx + 1}. "
                f"Lower OPTIM.LR ({self.cfg.OPTIM.LR}), or set TRAINER.{self.method.node}.PREC to fp32."
            )

    def train(self) -> None:
        """Train from the last saved epoch on, test, and write `result.json`."""
        if not self._models:
            print(f"{type(self).__name__} has nothing to train")
            self.test()
            return
        if self.tests_other_images:
            raise InputError(
                f"DATASET.NAME is {self.cfg.DATASET.NAME}, which has test images only; train on another data set, and "
                "evaluate on this one with --eval-only --model-dir."
            )
        self.check_training(self.cfg)
        keep_settings(self.cfg, self.output_dir)
        try:
            super().train()
        except EndOfTraining:
            self.after_train()
        sys.stdout.flush()

    def run_epoch(self) -> None:
        start = time.perf_counter()
        super().run_epoch()
        self.train_seconds += time.perf_counter() - start

    def validates(self) -> bool:
        best = self.cfg.TEST.FINAL_MODEL == "best_val" and may_validate(self.cfg)
        return best or self.early_stopping.active

    def validated(self, result: float) -> None:
        self.early_stopping.note(result)
        if self.cfg.TEST.FINAL_MODEL == "best_val":
            super().validated(result)

    def resume_model_if_exist(self, directory: str) -> int:
        """Resume from this run's own checkpoints if it has some, even if RESUME names another run."""
        own = has_checkpoints(os.path.join(self.output_dir, self.method.folder))
        return super().resume_model_if_exist(self.output_dir if own else directory)

    def init_writer(self, log_dir: str) -> None:
        self._writer = open_writer(log_dir)

    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch:
            check_resumed(self.resumed_settings, self._objective_settings())
            check_origin(self.resumed_origin, self.origin, "settings", "data", "clip")
            self.objective.load_training_state(self.objective_state)
        if self.start_epoch < self.max_epoch:
            self.objective.prepare(self.model, self.dm.dataset.classnames)
            # Recorded steps go on reading what is prepared.
            with worded(key_names(self.cfg, self.method)):
                graph = self.cfg.MODEL.CUDA_GRAPH
                self.step = TrainingStep(self.model, self.objective, self.optim, graph, self.scaler)
        self._stop_early_after(self.start_epoch - 1)

    def after_epoch(self) -> None:
        self.objective.end_epoch(self.learner, self.epoch + 1)
        super().after_epoch()
        self._stop_early_after(self.epoch)

    def _stop_early_after(self, epoch: int) -> None:
        if self.early_stopping.stops_after(epoch):
            raise EndOfTraining

    def training_state(self) -> dict[str, Any]:
        return {
            **self.early_stopping.state(),
            "train_seconds": self.train_seconds,
            "objective": self.objective.training_state(),
            "objective_settings": self._objective_settings(),
            "origin": self.origin,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.early_stopping.load(state)
        self.train_seconds = state.get("train_seconds", 0.0)
        self.objective_state = state.get("objective", {})
        self.resumed_settings = state.get("objective_settings")
        self.resumed_origin = state.get("origin")

    @functools.cached_property
    def origin(self) -> dict[str, Any]:
        """What a checkpoint of this run belongs to: settings, a hash of the training images, and one of CLIP."""
        data = self.dm.dataset
        return {
            "settings": shaping_settings(plain_configuration(self.cfg)),
            "data": data_fingerprint(data.train_x, data.dataset_dir),
            "clip": self.clip_model.digest,
        }

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        origin = (checkpoint.get("trainer_state") or {}).get("origin")
        check_origin(origin, {"clip": self.clip_model.digest}, "clip")

    def _objective_settings(self) -> dict[str, Any]:
        """The objective's name and settings, as dotted keys of the configuration."""
        return {OBJECTIVE_KEY: self.objective.name, **self.objective.settings()}

    def after_train(self) -> None:
        self.trained = True
        super().after_train()
        if self.cfg.TEST.NO_TEST:
            write_result(self.output_dir, record_of(self))

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate, print Dassl's result block, and record the result; returns the accuracy in per cent."""
        start = time.perf_counter()
        accuracy = super().test(split)
        if split in (None, self.cfg.TEST.SPLIT):
            seconds = time.perf_counter() - start
            if self.cfg.TEST.SAVE_LOGITS:
                self.evaluator.save_logits(self.output_dir)
            write_result(self.output_dir, record_of(self, accuracy, seconds))
        # The train.py of the authors' repository exits by os._exit, which discards buffered output.
        sys.stdout.flush()
        return accuracy

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        if directory:
            check_tested(self._tested_settings(directory), directory)
        super().load_model(directory, epoch)
        if directory and not self.trained:  # else there is no model, or this is the run's own best one
            self.model_dir, self.trained_on = str(directory), trained_on(directory, self.cfg)
            self.learned = learned_classnames(directory)
            self.evaluator.mark_learned(self.dm.dataset.classnames, self.learned)
            self.model.learned = learned_classes(self).to(self.device)

    def _tested_settings(self, directory: str) -> dict[str, Any]:
        """Dotted keys that a test needs as the training in a folder had them, with their values in this run."""
        learned_by = OBJECTIVES.get(value_at(kept_settings(directory) or {}, OBJECTIVE_KEY) or self.method.objective)
        differ = learned_by is not None and learned_by.mixes_features != self.objective.mixes_features
        return {**self.objective.tested_settings(), **({OBJECTIVE_KEY: self.objective.name} if differ else {})}

    def method_results(self) -> dict[str, Any]:
        """The method's additions to the record of a test."""
        return {}

    @property
    def tests_other_images(self) -> bool:
        """The data set has test images only, of classes of another data set, such as a variant of ImageNet."""
        return getattr(self.dm.dataset, "test_only", False)
