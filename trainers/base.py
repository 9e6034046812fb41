"""What all prompt-learning trainers share: build, freeze, step, save, load, evaluate, stop early, leave a record.

A method's trainer says which learner it trains and which configuration keys it declares, and little else. Schedules,
optimisers and checkpoints are this project's own even on upstream Dassl, whose own break on current PyTorch or do
not resume exactly.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)
from minidassl.engine import Checkpointing
from minidassl.metrics import compute_accuracy
from minidassl.own.checkpoint import load_checkpoint, load_weights
from minidassl.own.optim import build_lr_scheduler, build_optimizer

import torch
from dassl.engine import TRAINER_REGISTRY, TrainerX
from torch import Tensor, nn
from yacs.config import CfgNode

from .evaluation import Recorder, data_fingerprint, environment, plain_configuration, weights_hash
from .objectives import CROSS_ENTROPY, OBJECTIVE_KEY, build_objective, check_resumed, check_tested
from .prompting.checkpoints.published import ReleasedLayout, check_adapters, check_backbone, check_prompts
from .prompting.core.batching import peak_memory
from .prompting.core.clip_weights import get_precision, image_resolution, load_clip, use_tf32
from .prompting.core.learner import PromptLearner
from .prompting.core.prompted_clip import AUTOMATIC, PromptedCLIP
from .prompting.errors import InputError
from .prompting.objectives.objective import Objective
from .records import keep_settings, learned_classnames, trained_on, write_result

__all__ = ["TRAINER_REGISTRY", "PromptTrainer"]

# The authors' early stopping: not before the end of the sixth epoch, and never with this patience.
EARLIEST_STOP = 5
NO_PATIENCE = -1


def gradient_scaler(device: torch.device) -> Any:
    """PyTorch's gradient scaler; before 2.3 it has one for CUDA only, as it then has fp16."""
    return torch.amp.GradScaler(device.type) if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler()


class EndOfTraining(Exception):
    """Leaves Dassl's loop over the epochs, which has no other way out."""


class PromptTrainer(Checkpointing, TrainerX):
    """Trains a learner's prompts in a frozen CLIP by an objective.

    Attributes of a method:
        node: its configuration node, `cfg.TRAINER.<node>`, which has at least PREC.
        registered_name: name of the learner in Dassl's registry of models, hence of its checkpoint folder.
        needs_vit: the method prompts the vision tower, which must be a ViT then.
        released: the tensors' names in the checkpoints that the method's authors published; None if there are none.
        size_keys: keys of the node that a checkpoint's prompts tell, with their names in `released.prompt_sizes`.
        defaults: nested mapping of the configuration keys that the method adds, with their defaults.
        objective_name: what it minimises where TRAINER.OBJECTIVE is empty; other than cross-entropy, the method is
            named after it, and the key cannot change it.
    """

    node: str
    objective_name = CROSS_ENTROPY
    registered_name = "prompt_learner"
    needs_vit = True
    released: ReleasedLayout | None = None
    size_keys: Mapping[str, str] = {}
    defaults: Mapping[str, Any] = {}

    trained = False  # this run came to the end of its training
    best_validation = -math.inf
    epochs_without_gain = 0
    train_seconds = 0.0  # of all epochs, without tests
    model_dir: str | None = None  # where the evaluated weights come from,
    trained_on: dict[str, Any] | None = None  # and what they were trained on, as far as that is known
    learned: list[str] | None = None  # names of the classes that they were trained on
    objective_state: Mapping[str, Any] = MappingProxyType({})  # as the checkpoint to resume from has it,
    resumed_settings: Mapping[str, Any] | None = None  # and the settings; None where it does not tell

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg)
        self.evaluator = Recorder(self.evaluator, self.num_classes, keep_logits=cfg.TEST.SAVE_LOGITS)

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> PromptLearner:
        """The method's learner, from its configuration node."""
        raise NotImplementedError

    @classmethod
    def build_parts(cls, cfg: CfgNode, clip_model: nn.Module) -> tuple[PromptLearner, Objective]:
        """The learner, with what the objective adds to it, and the objective.

        Raises:
            InputError: a value that is not allowed, or an objective that has nothing to train.
        """
        learner, objective = cls.build_learner(cfg, clip_model), build_objective(cfg, cls.objective_name)
        untrained = learner.text_slots == 0 and learner.vision() is None
        if cfg.TRAINER.OBJECTIVE not in ("", CROSS_ENTROPY) and untrained:
            raise InputError(
                f"TRAINER.OBJECTIVE is {cfg.TRAINER.OBJECTIVE!r}, but {cfg.TRAINER.NAME} (--trainer) has no prompts "
                "to train by it; leave the key empty, or choose another trainer."
            )
        objective.extend(learner, clip_model)
        return learner, objective

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse what cannot be trained. Dassl calls this first, so nothing is read from the data set before it."""
        prec = cfg.TRAINER[self.node].PREC
        self.precision = get_precision(prec, f"TRAINER.{self.node}.PREC")
        if cfg.TEST.FINAL_MODEL not in ("last_step", "best_val"):
            raise InputError(f"TEST.FINAL_MODEL is {cfg.TEST.FINAL_MODEL!r}; set it to last_step or best_val.")
        if cfg.MODEL.CLASS_CHUNK < 0:
            raise InputError(
                f"MODEL.CLASS_CHUNK is {cfg.MODEL.CLASS_CHUNK}; set it to a number of classes, or to {AUTOMATIC} to "
                "let the free memory decide."
            )
        print(f"Loading CLIP (backbone: {cfg.MODEL.BACKBONE.NAME}, precision: {prec})")
        self.clip_model = load_clip(cfg.MODEL.BACKBONE.NAME, self.precision, self.needs_vit)
        side = image_resolution(self.clip_model)
        if tuple(cfg.INPUT.SIZE) != (side, side):
            raise InputError(
                f"INPUT.SIZE is {tuple(cfg.INPUT.SIZE)}, but {cfg.MODEL.BACKBONE.NAME} (MODEL.BACKBONE.NAME) takes "
                f"images of {side} x {side} pixels; set INPUT.SIZE to ({side}, {side})."
            )
        patience = cfg.TRAIN.PATIENT_COUNT
        if patience < 1 and patience != NO_PATIENCE:
            raise InputError(
                f"TRAIN.PATIENT_COUNT is {patience}; set it to 1 or more, or {NO_PATIENCE} for no stopping."
            )
        # Prompts are initialised on the CPU, from its generator alone.
        with torch.random.fork_rng(devices=[], enabled=cfg.MODEL.INIT_SEED >= 0):
            if cfg.MODEL.INIT_SEED >= 0:
                torch.random.default_generator.manual_seed(cfg.MODEL.INIT_SEED)
            self.learner, self.objective = self.build_parts(cfg, self.clip_model)
        if self.objective.views != cfg.DATALOADER.K_TRANSFORMS:
            raise InputError(
                f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS}, but the objective of {cfg.TRAINER.NAME} "
                f"(TRAINER.OBJECTIVE {cfg.TRAINER.OBJECTIVE!r}) takes {self.objective.views} views of each image; set "
                "it to that."
            )

    @classmethod
    def check_training(cls, cfg: CfgNode) -> None:
        """Refuse settings that a model can be tested with, but not trained; needs neither data nor weights.

        Raises:
            InputError: settings that the objective cannot be trained with.
        """
        objective = build_objective(cfg, cls.objective_name)
        if objective.takes_all_epochs and cls._may_validate(cfg) and cfg.TEST.FINAL_MODEL == "best_val":
            raise InputError(
                "TEST.FINAL_MODEL is best_val and TEST.NO_TEST_EARLY is False, but the objective averages over all "
                "epochs, and the best of them is not averaged; set TEST.FINAL_MODEL to last_step."
            )
        if objective.takes_all_epochs and cls._may_stop_early(cfg):
            raise InputError(
                "TRAIN.EARLY_STOPPING is True and TEST.NO_TEST_EARLY is False, but the objective averages over all "
                "epochs, and training that stops early would lose the average; set TRAIN.EARLY_STOPPING to False."
            )
        objective.check_training()

    def build_model(self) -> None:
        cfg, classnames = self.cfg, self.dm.dataset.classnames
        if len(classnames) != self.num_classes:
            raise InputError(
                f"{cfg.DATASET.NAME} has labels up to {self.num_classes - 1}, but {len(classnames)} class names: some "
                "labels have no training image. Check the data set's folder and its split file."
            )
        print(f"Building {type(self).__name__} on {len(classnames)} classes: {', '.join(self.learner.templates)!r}")
        use_tf32(cfg.MODEL.TF32)
        self.model = PromptedCLIP(self.clip_model, self.learner, classnames, self.precision, cfg.MODEL.CLASS_CHUNK).to(
            self.device
        )
        if self.device.type == "cpu" and self.precision.matmul == torch.float16:
            print(f"Note: half precision is slow on a CPU; TRAINER.{self.node}.PREC bf16 or fp32 is faster")
        self.scaler = None
        trained = sum(parameter.numel() for parameter in self.learner.parameters())
        print(f"Trainable parameters: {trained:,}")
        if not trained:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            weights = load_checkpoint(cfg.MODEL.INIT_WEIGHTS)["state_dict"]
            try:
                weights = self.convert_state_dict(self.registered_name, weights)
            except InputError as error:
                raise InputError(f"MODEL.INIT_WEIGHTS is {cfg.MODEL.INIT_WEIGHTS}. {error}") from error
            load_weights(self.learner, weights, cfg.MODEL.INIT_WEIGHTS)
            print(f"Initial weights: {cfg.MODEL.INIT_WEIGHTS}")
        self.optim = build_optimizer(self.learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.registered_name, self.learner, self.optim, self.sched)
        if self.precision.scale_gradients:
            self.scaler = gradient_scaler(self.device)

    def convert_state_dict(self, name: str, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Accept checkpoints of the method's authors beside our own, and say what is taken from them."""
        if self.released is not None and self.released.matches(state_dict):
            check_backbone(state_dict, self.clip_model, self.cfg.MODEL.BACKBONE.NAME)
            state_dict, ignored = self.translate_released(state_dict)
            print(f"This is a checkpoint of the authors' code; {len(state_dict)} tensors of it are taken:")
            print("  " + ", ".join(state_dict))
            for reason, number in ignored.items():
                print(f"  {number} are left out: {reason}")
        check_prompts(state_dict, self.learner.state_dict(), f"the keys of TRAINER.{self.node}")
        check_adapters(state_dict, self.learner.state_dict())
        return state_dict

    def translate_released(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors under the learner's names, and how many were left out for which reason."""
        return self.released.translate(state_dict)

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Tensor]:
        """The views of the images, each `[batch, 3, height, width]`, and labels `[batch]`, on the device."""
        views = batch["img"] if self.objective.views > 1 else [batch["img"]]
        label = batch["label"].to(self.device, non_blocking=True)
        return [view.to(self.device, non_blocking=True) for view in views], label

    def forward_backward(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """One training step; the schedule moves on in the last batch of an epoch, as everywhere in the field."""
        views, labels = self.parse_batch_train(batch)
        loss, logits, terms = self.objective.loss(self.model, views, labels)
        self._step(loss)
        # The host waits for the device once, when all work of the step is under way. After a loss that is not finite
        # the prompts are spoilt, and the run ends; nothing of this epoch has been saved.
        shown = [loss.detach().view(1), compute_accuracy(logits, labels)[0]]
        shown += [term.detach().float().view(1) for term in terms.values()]
        value, accuracy, *values = torch.cat(shown).tolist()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The loss is {value} in epoch {self.epoch + 1}, batch {self.batch_idx + 1}. "
                f"Lower OPTIM.LR ({self.cfg.OPTIM.LR}), or set TRAINER.{self.node}.PREC to fp32."
            )
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": value, "acc": accuracy, **dict(zip(terms, values))}

    def _step(self, loss: Tensor) -> None:
        self.optim.zero_grad()
        if self.scaler is None:
            loss.backward()
            self.optim.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()

    def train(self) -> None:
        """Train from the last saved epoch on, test, and leave `result.json`."""
        if not self._models:
            print(f"{type(self).__name__} has nothing to train")
            self.test()
            return
        if self._tests_other_images:
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
        best = self.cfg.TEST.FINAL_MODEL == "best_val" and self._may_validate(self.cfg)
        return best or self._may_stop_early(self.cfg)

    def validated(self, result: float) -> None:
        self.epochs_without_gain = 0 if result > self.best_validation else self.epochs_without_gain + 1
        self.best_validation = max(result, self.best_validation)
        if self.cfg.TEST.FINAL_MODEL == "best_val":
            super().validated(result)

    def resume_model_if_exist(self, directory: str) -> int:
        """Go on from this run's own checkpoints where it has some, even if RESUME names another run's."""
        own = self._newest_file(self.output_dir) is not None
        return super().resume_model_if_exist(self.output_dir if own else directory)

    def before_train(self) -> None:
        super().before_train()
        if self.start_epoch:
            check_resumed(self.resumed_settings, self._objective_settings())
            self.objective.load_training_state(self.objective_state)
        if self.start_epoch < self.max_epoch:
            self.objective.prepare(self.model, self.dm.dataset.classnames)
        self._stop_early_after(self.start_epoch - 1)

    def after_epoch(self) -> None:
        self.objective.end_epoch(self.learner, self.epoch + 1)
        super().after_epoch()
        self._stop_early_after(self.epoch)

    @staticmethod
    def _may_validate(cfg: CfgNode) -> bool:
        return not cfg.TEST.NO_TEST_EARLY and not cfg.TEST.NO_TEST

    @classmethod
    def _may_stop_early(cls, cfg: CfgNode) -> bool:
        return cls._may_validate(cfg) and cfg.TRAIN.EARLY_STOPPING and cfg.TRAIN.PATIENT_COUNT != NO_PATIENCE

    def _stop_early_after(self, epoch: int) -> None:
        waited = self.epochs_without_gain >= self.cfg.TRAIN.PATIENT_COUNT
        if self._may_stop_early(self.cfg) and epoch >= EARLIEST_STOP and waited:
            print(f"Early stopping: no better validation result for {self.epochs_without_gain} epochs")
            raise EndOfTraining

    def training_state(self) -> dict[str, Any]:
        return {
            "epochs_without_gain": self.epochs_without_gain,
            "best_validation": self.best_validation,
            "train_seconds": self.train_seconds,
            "objective": self.objective.training_state(),
            "objective_settings": self._objective_settings(),
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.epochs_without_gain = state["epochs_without_gain"]
        self.best_validation = state["best_validation"]
        self.train_seconds = state.get("train_seconds", 0.0)
        self.objective_state = state.get("objective", {})
        self.resumed_settings = state.get("objective_settings")

    def _objective_settings(self) -> dict[str, Any]:
        """The objective's name and settings, as dotted keys of the configuration."""
        return {OBJECTIVE_KEY: self.cfg.TRAINER.OBJECTIVE or self.objective_name, **self.objective.settings()}

    def after_train(self) -> None:
        self.trained = True
        super().after_train()
        if self.cfg.TEST.NO_TEST:
            self._write_result(accuracy=None)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate, print Dassl's result block, and record the result; gives the accuracy in per cent."""
        self.evaluator.reset()
        start = time.perf_counter()
        accuracy = super().test(split)
        if split in (None, self.cfg.TEST.SPLIT):
            self._write_result(accuracy, time.perf_counter() - start)
        # The train.py of the authors' repository leaves by os._exit, which loses what is still to be written.
        sys.stdout.flush()
        return accuracy

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        check_tested(self.objective, directory)
        super().load_model(directory, epoch)
        if not self.trained:  # else this is the run's own best model
            self.model_dir, self.trained_on = str(directory), trained_on(directory, self.cfg)
            self.learned = learned_classnames(directory)
            if self.learned is not None:
                names = self.dm.dataset.classnames
                self.evaluator.is_base = torch.tensor([name in self.learned for name in names])

    def method_results(self) -> dict[str, Any]:
        """What a method adds to the record of a test."""
        return {}

    @property
    def _tests_other_images(self) -> bool:
        """The data set has test images only, of classes of another data set, such as a variant of ImageNet."""
        return getattr(self.dm.dataset, "test_only", False)

    def _open_world(self) -> dict[str, float] | None:
        """Base and new images told apart, where a model of some classes is tested on all; None elsewhere."""
        if self.trained or self.cfg.DATASET.SUBSAMPLE_CLASSES != "all":
            return None
        other_source = self.trained_on is not None and self.trained_on["classes"] != "base"
        if other_source or (self._tests_other_images and self.learned is None):
            return None
        found = self.evaluator.open_world.results()
        if found is not None:
            rule = "first half of the classes" if self.learned is None else "learned classes"
            print(f"=> open world (base: {rule})")
            print("\n".join(f"* open-world {name}: {value:.2f}%" for name, value in found.items()))
        return found

    def _write_result(self, accuracy: float | None, test_seconds: float | None = None) -> None:
        cfg, tested = self.cfg, accuracy is not None
        images = (
            self.dm.dataset.val if cfg.TEST.SPLIT == "val" and self.val_loader is not None else self.dm.dataset.test
        )
        result = {
            "trainer": cfg.TRAINER.NAME,
            "recipe": cfg.TRAINER.RECIPE,
            "dataset": cfg.DATASET.NAME,
            "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "split": cfg.TEST.SPLIT,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "num_classes": self.num_classes,
            "accuracy": accuracy,
            "open_world": self._open_world() if tested else None,
            "per_class": self.evaluator.per_class(self.dm.dataset.classnames) if tested else None,
            "images": len(images) if tested else None,
            "data_fingerprint": data_fingerprint(images, self.dm.dataset.dataset_dir) if tested else None,
            **(self.method_results() if tested else {}),
            "trained": self.trained,
            "model_dir": self.model_dir,
            "trained_on": self.trained_on,
            "weights_hash": weights_hash(self.learner.state_dict()),
            "parameters": sum(parameter.numel() for parameter in self.learner.parameters()),
            "train_seconds": self.train_seconds if self.trained else None,
            "test_seconds": test_seconds,
            "peak_memory_bytes": peak_memory(self.device),
            "environment": environment(self.device),
            "configuration": plain_configuration(cfg),
        }
        if tested and cfg.TEST.SAVE_LOGITS:
            self.evaluator.save_logits(self.output_dir)
        write_result(self.output_dir, result)
