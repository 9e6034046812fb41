"""Optimisers and learning rate schedules, from the ``OPTIM`` section of the configuration.

Differences from upstream: the warm-up scheduler's state is plain data and, once loaded, drives the optimiser in use
(upstream's drives a copy that was pickled along, which freezes the learning rate after a resume); ``radam`` is torch's
own, with decoupled weight decay as in upstream's, and needs torch 2.2; an empty ``OPTIM.NEW_LAYERS`` under
``STAGED_LR`` is an error instead of training everything at the small rate.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, StepLR

try:
    from torch.optim.lr_scheduler import LRScheduler
except ImportError:  # its name in torch 1.13
    from torch.optim.lr_scheduler import _LRScheduler as LRScheduler

if TYPE_CHECKING:
    from yacs.config import CfgNode

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]
AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
AVAI_WARMUPS = ["constant", "linear"]


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: CfgNode, param_groups: Iterable | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser that ``optim_cfg.NAME`` names.

    Frozen parameters are handed over too, as upstream does: the optimiser passes over them for want of a gradient, and
    the parameter numbers in optimiser states stay those of published checkpoints.

    Args:
        model: a module, or an iterable of parameters or groups.
        optim_cfg: the ``OPTIM`` node.
        param_groups: used instead of ``model`` if given.

    Raises:
        ValueError: unknown ``NAME``, ``radam`` before torch 2.2, or ``STAGED_LR`` with ``NEW_LAYERS`` that the model
            does not have.
        TypeError: ``STAGED_LR`` without a module.
    """
    name = optim_cfg.NAME
    if name not in AVAI_OPTIMS:
        raise ValueError(f"optim must be one of {AVAI_OPTIMS}, but got {name} (OPTIM.NAME)")
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn("OPTIM.STAGED_LR is ignored, because param_groups are given", stacklevel=2)
        params = param_groups
    elif optim_cfg.STAGED_LR:
        params = _staged_groups(model, optim_cfg)
    else:
        params = model.parameters() if isinstance(model, nn.Module) else model

    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    if name == "sgd":
        return torch.optim.SGD(
            params,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(params, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common)
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if name == "radam":
        if "decoupled_weight_decay" not in inspect.signature(torch.optim.RAdam).parameters:
            raise ValueError(f"OPTIM.NAME radam needs torch 2.2, but this is {torch.__version__}; take adamw")
        return torch.optim.RAdam(params, betas=betas, decoupled_weight_decay=True, **common)
    if name == "adamw":
        return torch.optim.AdamW(params, betas=betas, **common)
    return torch.optim.Adam(params, betas=betas, amsgrad=name == "amsgrad", **common)


def _staged_groups(model: nn.Module, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Direct children of ``model`` in two groups: all others at ``LR * BASE_LR_MULT``, ``NEW_LAYERS`` at ``LR``.

    Parameters that the root module holds itself belong to no child and are left out, as in upstream.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"OPTIM.STAGED_LR needs a module to find OPTIM.NEW_LAYERS in, got {type(model).__name__}")
    model = model.module if isinstance(model, nn.DataParallel) else model
    new_layers = [optim_cfg.NEW_LAYERS] if isinstance(optim_cfg.NEW_LAYERS, str) else list(optim_cfg.NEW_LAYERS)
    children = dict(model.named_children())
    if not new_layers or not set(new_layers) <= set(children):
        raise ValueError(f"OPTIM.NEW_LAYERS is {new_layers}, choose from the model's children {list(children)}")
    base = [param for name, child in children.items() if name not in new_layers for param in child.parameters()]
    new = [param for name, child in children.items() if name in new_layers for param in child.parameters()]
    return [{"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Build the schedule that ``optim_cfg.LR_SCHEDULER`` names, behind a warm-up if ``WARMUP_EPOCH`` is positive.

    It is stepped once per epoch. The cosine has period ``MAX_EPOCH`` and ends at 0. A warm-up *delays* it, so with
    ``WARMUP_RECOUNT`` its last ``WARMUP_EPOCH`` values are never reached.

    Args:
        optimizer: its current learning rates are the full ones.
        optim_cfg: the ``OPTIM`` node.

    Raises:
        ValueError: unknown ``LR_SCHEDULER`` or ``WARMUP_TYPE``.
        TypeError: ``STEPSIZE`` is not an integer (``single_step``) or not a sequence (``multi_step``).
    """
    scheduler = _base_scheduler(optimizer, optim_cfg)
    if optim_cfg.WARMUP_EPOCH <= 0:
        return scheduler
    if optim_cfg.WARMUP_TYPE not in AVAI_WARMUPS:
        raise ValueError(f"OPTIM.WARMUP_TYPE must be one of {AVAI_WARMUPS}, but got {optim_cfg.WARMUP_TYPE}")
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = optim_cfg.WARMUP_EPOCH
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_CONS_LR)
    return LinearWarmupScheduler(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_MIN_LR)


def _base_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    name, step = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE
    if name not in AVAI_SCHEDS:
        raise ValueError(f"scheduler must be one of {AVAI_SCHEDS}, but got {name} (OPTIM.LR_SCHEDULER)")
    if name == "cosine":
        return CosineAnnealingLR(optimizer, float(optim_cfg.MAX_EPOCH))
    is_sequence = isinstance(step, (list, tuple))
    if name == "multi_step":
        if not is_sequence:
            raise TypeError(f"OPTIM.STEPSIZE must be a sequence of epochs for multi_step, but got {step!r}")
        return MultiStepLR(optimizer, milestones=list(step), gamma=optim_cfg.GAMMA)
    step = step[-1] if is_sequence else step
    if not isinstance(step, int):
        raise TypeError(f"OPTIM.STEPSIZE must be an integer for single_step, but got {step!r}")
    return StepLR(optimizer, step_size=step if step > 0 else optim_cfg.MAX_EPOCH, gamma=optim_cfg.GAMMA)


class _WarmupScheduler(LRScheduler):
    """Learning rates of the first epochs; from then on those of another scheduler, which starts at its beginning.

    Its state is plain data: the successor's own state is nested under ``successor``, and the successor itself stays
    tied to the optimiser it was built with.

    Args:
        optimizer: the optimiser to drive.
        successor: drives the same optimiser; not stepped yet.
        warmup_epoch: number of warm-up epochs, at least 1.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, successor: LRScheduler, warmup_epoch: int) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """Learning rates of epoch ``last_epoch`` (0-based), one per parameter group."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.warmup_lr(base_lr) for base_lr in self.base_lrs]

    def warmup_lr(self, base_lr: float) -> float:
        """Learning rate of warm-up epoch ``last_epoch`` for a group whose full rate is ``base_lr``."""
        raise NotImplementedError

    def step(self) -> None:
        """Go to the next epoch."""
        if self.last_epoch < self.warmup_epoch:
            super().step()
            return
        self.successor.step()
        self._last_lr = self.successor.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Plain data; see the class."""
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``, driving the optimiser this object was built with."""
        own = dict(state_dict)
        self.successor.load_state_dict(own.pop("successor"))
        super().load_state_dict(own)


class ConstantWarmupScheduler(_WarmupScheduler):
    """Every warm-up epoch runs at ``cons_lr``."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        return self.cons_lr


class LinearWarmupScheduler(_WarmupScheduler):
    """Epoch 0 runs at ``min_lr``, warm-up epoch e at ``e / warmup_epoch`` of the full rate."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: LRScheduler, warmup_epoch: int, min_lr: float
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        return self.min_lr if self.last_epoch == 0 else base_lr * self.last_epoch / self.warmup_epoch
