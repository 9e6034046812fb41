"""The values that Dassl's keys may have. Dassl itself takes any value of the default's type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The stand-in's defaults, which are Dassl 0.6.3's; older upstream lacks some of the keys.
from minidassl.config import cfg_default
from minidassl.own.optim import OPTIMIZERS, SCHEDULERS, WARMUPS

from .prompting.declaration import LARGEST_SEED, Settings, setting
from .prompting.recipes import value_at

MOST = 1_000_000  # of images in a batch and of epochs; PyTorch allocates a list of a batch's length
HIGHEST_RATE = 1000.0
RATE = dict(least=0.0, most=HIGHEST_RATE)
BELOW_ONE = dict(least=0.0, most=0.999999)


def _dassls(key: str, help: str, **bounds: Any) -> Any:
    default = value_at(cfg_default, key)
    # A dataclass takes no list as a default.
    return setting(tuple(default) if isinstance(default, list) else default, key, help, root=True, **bounds)


@dataclass(frozen=True)
class DasslKeys(Settings):
    """Dassl's keys with an effect on all methods, except for names that Dassl looks up itself."""

    seed: int = _dassls("SEED", "seed of everything random; -1: none", least=0, most=LARGEST_SEED, also=-1)
    size: tuple = _dassls("INPUT.SIZE", "height and width in pixels", least=1, most=10_000, size=2)
    mean: tuple = _dassls("INPUT.PIXEL_MEAN", "red, green and blue; pixels are 0 to 1", least=0.0, most=1.0, size=3)
    std: tuple = _dassls("INPUT.PIXEL_STD", "red, green and blue; pixels are 0 to 1", least=1e-6, most=1.0, size=3)
    transforms: tuple = _dassls("INPUT.TRANSFORMS", "names of the augmentations")
    crop: tuple = _dassls(
        "INPUT.RRCROP_SCALE", "smallest and largest share of the area of a crop", least=1e-6, most=1.0, size=2
    )
    operations: int = _dassls("INPUT.RANDAUGMENT_N", "operations for each image", least=0, most=100)
    strength: int = _dassls("INPUT.RANDAUGMENT_M", "their strength", least=0, most=30)
    shots: int = _dassls("DATASET.NUM_SHOTS", "training images for each class; -1: all", least=1, also=-1)
    workers: int = _dassls("DATALOADER.NUM_WORKERS", "processes that read images; 0: none", least=0, most=1024)
    views: int = _dassls("DATALOADER.K_TRANSFORMS", "augmentations of each image in a batch", least=1, most=100)
    batch: int = _dassls("DATALOADER.TRAIN_X.BATCH_SIZE", "training images in a batch", least=1, most=MOST)
    test_batch: int = _dassls("DATALOADER.TEST.BATCH_SIZE", "test images in a batch", least=1, most=MOST)
    optimizer: str = _dassls("OPTIM.NAME", "optimiser", choices=OPTIMIZERS)
    rate: float = _dassls("OPTIM.LR", "learning rate", **RATE)
    decay: float = _dassls("OPTIM.WEIGHT_DECAY", "weight decay", least=0.0, most=100.0)
    momentum: float = _dassls("OPTIM.MOMENTUM", "of sgd and rmsprop", least=0.0, most=1.0)
    dampening: int = _dassls("OPTIM.SGD_DAMPNING", "of sgd's momentum", least=0, most=1)
    nesterov: bool = _dassls("OPTIM.SGD_NESTEROV", "Nesterov's momentum, for sgd")
    alpha: float = _dassls("OPTIM.RMSPROP_ALPHA", "smoothing of rmsprop", **BELOW_ONE)
    beta1: float = _dassls("OPTIM.ADAM_BETA1", "smoothing of adam's gradients", **BELOW_ONE)
    beta2: float = _dassls("OPTIM.ADAM_BETA2", "smoothing of their squares", **BELOW_ONE)
    schedule: str = _dassls("OPTIM.LR_SCHEDULER", "schedule of the learning rate", choices=SCHEDULERS)
    steps: tuple = _dassls("OPTIM.STEPSIZE", "epochs of the steps: all for multi_step, the last for single_step")
    gamma: float = _dassls("OPTIM.GAMMA", "factor of the learning rate at a step", least=0.0, most=1.0)
    epochs: int = _dassls("OPTIM.MAX_EPOCH", "epochs", least=1, most=MOST)
    warmup: int = _dassls("OPTIM.WARMUP_EPOCH", "epochs of the warm-up; -1 or 0: none", least=-1, most=MOST)
    warmup_type: str = _dassls("OPTIM.WARMUP_TYPE", "learning rate of the warm-up", choices=WARMUPS)
    constant_rate: float = _dassls("OPTIM.WARMUP_CONS_LR", "that of a constant warm-up", **RATE)
    first_rate: float = _dassls("OPTIM.WARMUP_MIN_LR", "first one of a linear warm-up", **RATE)
    checkpoints: int = _dassls("TRAIN.CHECKPOINT_FREQ", "epochs between checkpoints; 0: only the last", least=0)
    printing: int = _dassls("TRAIN.PRINT_FREQ", "batches between lines of the log", least=1)
    split: str = _dassls("TEST.SPLIT", "images of the test", choices=("test", "val"))
    final_model: str = _dassls("TEST.FINAL_MODEL", "epoch whose model is tested", choices=("last_step", "best_val"))

    def check(self) -> None:
        if self.crop[0] > self.crop[1]:
            raise self.error("{crop} is {!r}; set it to the smaller share, then the larger one.", self.crop)
        if not self.steps:
            raise self.error("{steps} is empty; set it to a list of epochs, or to (-1,) for none.")
        if self.optimizer == "sgd" and self.nesterov and (self.dampening or not self.momentum):
            raise self.error(
                "{nesterov} is True, {momentum} {} and {dampening} {}; Nesterov's needs a momentum and no dampening: "
                "set {momentum} above 0 and {dampening} to 0, or {nesterov} to False.",
                *(self.momentum, self.dampening),
            )
