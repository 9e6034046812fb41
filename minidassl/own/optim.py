"""Optimisers and learning rate schedules, from the ``OPTIM`` section of the configuration or from plain settings.

Differences from upstream: the warm-up scheduler's state is plain data and, once loaded, drives the current optimiser
(upstream's drives a pickled copy, which freezes the learning rate after a resume); ``radam`` and ``STAGED_LR`` are
absent. On CUDA one fused kernel steps all parameters, and a gradient scaler need not ask the device whether to step;
its weights differ from the plain optimiser's by rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, StepLR

try:
    from torch.optim.lr_scheduler import LRScheduler
except ImportError:  # its name in torch 1.13
    from torch.optim.lr_scheduler import _LRScheduler as LRScheduler

# The section's keys, defaults and types.
OPTIM = {
    "NAME": "adam",
    "LR": 0.0003,
    "WEIGHT_DECAY": 0.0005,
    "MOMENTUM": 0.9,
    "SGD_DAMPNING": 0,  # upstream's spelling
    "SGD_NESTEROV": False,
    "RMSPROP_ALPHA": 0.99,
    "ADAM_BETA1": 0.9,
    "ADAM_BETA2": 0.999,
    "EPS": 1e-08,  # of adam, amsgrad and adamw; upstream has no such key, and this value
    "STAGED_LR": False,
    "NEW_LAYERS": (),
    "BASE_LR_MULT": 0.1,
    "LR_SCHEDULER": "single_step",
    "STEPSIZE": (-1,),  # epochs; below 1: MAX_EPOCH
    "GAMMA": 0.1,
    "MAX_EPOCH": 10,
    "WARMUP_EPOCH": -1,  # below 1: no warm-up
    "WARMUP_TYPE": "linear",
    "WARMUP_CONS_LR": 1e-05,
    "WARMUP_MIN_LR": 1e-05,
    "WARMUP_RECOUNT": True,
}
OPTIMIZERS = ("adam", "amsgrad", "sgd", "rmsprop", "adamw")
SCHEDULERS = ("single_step", "multi_step", "cosine")
WARMUPS = ("constant", "linear")


def optim_settings(**changed: Any) -> SimpleNamespace:
    """Settings for this module's builders without a configuration file.

    ``changed`` overrides defaults of ``OPTIM``, such as ``NAME="sgd"``; an unknown key is a ``TypeError``.
    """
    unknown = sorted(changed.keys() - OPTIM.keys())
    if unknown:
        raise TypeError(f"OPTIM has no key {', '.join(unknown)}; its keys are {', '.join(OPTIM)}")
    return SimpleNamespace(**{**OPTIM, **changed})


def build_optimizer(model: nn.Module | Iterable, optim_cfg: Any) -> torch.optim.Optimizer:
    """Build the optimiser that ``optim_cfg.NAME`` names.

    Frozen parameters are included, as in upstream: the optimiser skips them for lack of a gradient, and parameters
    have the same numbers as in the optimiser states of published checkpoints.

    Args:
        model: a module, or an iterable of parameters or groups.
        optim_cfg: the ``OPTIM`` node, or :func:`optim_settings`.
    """
    name = optim_cfg.NAME
    if name not in OPTIMIZERS:
        raise ValueError(f"OPTIM.NAME is {name!r}; set it to one of {', '.join(OPTIMIZERS)}")
    if optim_cfg.STAGED_LR:
        raise ValueError("OPTIM.STAGED_LR is True, but one learning rate serves all parameters; set it to False")
    params = [
        {**entry, "params": list(entry["params"])} if isinstance(entry, dict) else entry
        for entry in (model.parameters() if isinstance(model, nn.Module) else model)
    ]
    fused = True if name != "rmsprop" and _on_cuda(params) else None
    optimizer = _new_optimizer(name, params, optim_cfg, {} if fused is None else {"fused": fused})
    # A state of an optimiser on another device must not decide for this one.
    optimizer.register_load_state_dict_pre_hook(functools.partial(_with_groups, fused=fused))
    return optimizer


def _new_optimizer(name: str, params: list, optim_cfg: Any, more: dict[str, bool]) -> torch.optim.Optimizer:
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY, **more}
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
    common |= {"betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), "eps": optim_cfg.EPS}
    if name == "adamw":
        return torch.optim.AdamW(params, **common)
    return torch.optim.Adam(params, amsgrad=name == "amsgrad", **common)


def _on_cuda(params: list) -> bool:
    """Whether all of these parameters, or groups of them, are on CUDA."""
    tensors = [tensor for entry in params for tensor in (entry["params"] if isinstance(entry, dict) else [entry])]
    return bool(tensors) and all(tensor.is_cuda for tensor in tensors)


def _with_groups(optimizer: torch.optim.Optimizer, state: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A state whose groups have these options, where the optimiser's have them."""
    known = {key: value for key, value in options.items() if key in optimizer.defaults}
    return {**state, "param_groups": [{**group, **known} for group in state["param_groups"]]}


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: Any) -> LRScheduler:
    """Build the schedule that ``optim_cfg.LR_SCHEDULER`` names, after a warm-up if ``WARMUP_EPOCH`` is positive.

    Step it once per epoch. The cosine ends at 0 after ``MAX_EPOCH`` steps. A warm-up *delays* it, so with
    ``WARMUP_RECOUNT`` its last ``WARMUP_EPOCH`` values are never reached. A ``STEPSIZE`` that is not an integer
    (``single_step``) or a sequence (``multi_step``) is a TypeError.
    """
    scheduler = _base_scheduler(optimizer, optim_cfg)
    if optim_cfg.WARMUP_EPOCH <= 0:
        return scheduler
    if optim_cfg.WARMUP_TYPE not in WARMUPS:
        raise ValueError(f"OPTIM.WARMUP_TYPE is {optim_cfg.WARMUP_TYPE!r}; set it to one of {', '.join(WARMUPS)}")
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = optim_cfg.WARMUP_EPOCH
    if optim_cfg.WARMUP_TYPE == "constant":
        return _ConstantWarmup(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, cons_lr=optim_cfg.WARMUP_CONS_LR)
    return _LinearWarmup(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, min_lr=optim_cfg.WARMUP_MIN_LR)


def _base_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: Any) -> LRScheduler:
    name, step = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE
    if name not in SCHEDULERS:
        raise ValueError(f"OPTIM.LR_SCHEDULER is {name!r}; set it to one of {', '.join(SCHEDULERS)}")
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


class _Warmup(LRScheduler):
    """Warm-up of the first epochs, then the complete schedule of another scheduler.

    Its state is plain data, with the successor's state under ``successor``. The successor stays tied to its optimiser,
    which is the same, and has not been stepped. ``rate`` is the attribute of the subclass.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: LRScheduler, warmup_epoch: int, **rate: float
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        vars(self).update(rate)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.warmup_lr(base_lr) for base_lr in self.base_lrs]

    def warmup_lr(self, base_lr: float) -> float:
        """Learning rate of warm-up epoch ``last_epoch`` for a group whose full rate is ``base_lr``."""
        raise NotImplementedError

    def step(self) -> None:
        if self.last_epoch < self.warmup_epoch:
            super().step()
            return
        self.successor.step()
        self._last_lr = self.successor.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = dict(state_dict)
        self.successor.load_state_dict(own.pop("successor"))
        super().load_state_dict(own)


class _ConstantWarmup(_Warmup):
    """All warm-up epochs have the learning rate ``cons_lr``."""

    def warmup_lr(self, base_lr: float) -> float:
        return self.cons_lr


class _LinearWarmup(_Warmup):
    """Epoch 0 has the learning rate ``min_lr``, warm-up epoch e has ``e / warmup_epoch`` of the full rate."""

    def warmup_lr(self, base_lr: float) -> float:
        return self.min_lr if self.last_epoch == 0 else base_lr * self.last_epoch / self.warmup_epoch
