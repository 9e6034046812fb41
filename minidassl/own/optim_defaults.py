"""The ``OPTIM`` section of the configuration: keys, defaults and types. Needs neither yacs nor torch."""

from __future__ import annotations

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
