"""Default configuration: the keys, values and types that CoOp-family YAML files rely on.

Differences from upstream Dassl: its domain-adaptation, domain-generalisation and semi-supervised methods are absent,
and so are their ``TRAINER`` nodes. ``DATALOADER.CACHE_GB`` is this project's own. Keys of other absent parts stay
declared, because files set them.
"""

from __future__ import annotations

from yacs.config import CfgNode

from .own.optim import OPTIM

_DEFAULTS = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",
    "RESUME": "",  # folder of an interrupted run; empty: look in OUTPUT_DIR
    "SEED": -1,  # negative: unseeded
    "USE_CUDA": True,
    "VERBOSE": True,
    "INPUT": {
        "SIZE": (224, 224),  # (height, width) in pixels
        "INTERPOLATION": "bilinear",
        "TRANSFORMS": (),
        "NO_TRANSFORM": False,
        "PIXEL_MEAN": [0.485, 0.456, 0.406],
        "PIXEL_STD": [0.229, 0.224, 0.225],
        "CROP_PADDING": 4,
        "RRCROP_SCALE": (0.08, 1.0),
        "CUTOUT_N": 1,
        "CUTOUT_LEN": 16,
        "GN_MEAN": 0.0,
        "GN_STD": 0.15,
        "RANDAUGMENT_N": 2,
        "RANDAUGMENT_M": 10,
        "COLORJITTER_B": 0.4,
        "COLORJITTER_C": 0.4,
        "COLORJITTER_S": 0.4,
        "COLORJITTER_H": 0.1,
        "RGS_P": 0.2,
        "GB_P": 0.5,
        "GB_K": 21,
    },
    "DATASET": {
        "ROOT": "",
        "NAME": "",
        "SOURCE_DOMAINS": (),
        "TARGET_DOMAINS": (),
        "NUM_LABELED": -1,
        "NUM_SHOTS": -1,  # images per class; below 1: all
        "VAL_PERCENT": 0.1,
        "STL10_FOLD": -1,
        "CIFAR_C_TYPE": "",
        "CIFAR_C_LEVEL": 1,
        "ALL_AS_UNLABELED": False,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "K_TRANSFORMS": 1,
        "RETURN_IMG0": False,
        "CACHE_GB": 2.0,  # decoded training images are kept in memory if all fit into this many GiB; 0: never
        "TRAIN_X": {"SAMPLER": "RandomSampler", "BATCH_SIZE": 32, "N_DOMAIN": 0, "N_INS": 16},
        "TRAIN_U": {"SAME_AS_X": True, "SAMPLER": "RandomSampler", "BATCH_SIZE": 32, "N_DOMAIN": 0, "N_INS": 16},
        "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
    },
    "MODEL": {
        "INIT_WEIGHTS": "",
        "BACKBONE": {"NAME": "", "PRETRAINED": True},
        "HEAD": {"NAME": "", "HIDDEN_LAYERS": (), "ACTIVATION": "relu", "BN": True, "DROPOUT": 0.0},
    },
    "OPTIM": OPTIM,
    "TRAIN": {
        "CHECKPOINT_FREQ": 0,  # epochs between checkpoints that are kept; below 1: the last one only
        "PRINT_FREQ": 10,  # batches between log lines
        "COUNT_ITER": "train_x",
    },
    "TEST": {
        "EVALUATOR": "Classification",
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,
        "NO_TEST": False,
        "SPLIT": "test",
        "FINAL_MODEL": "last_step",  # or best_val
    },
    "TRAINER": {"NAME": ""},
}

# The start of every configuration, under upstream's name. Extensions add their keys here.
cfg_default = CfgNode(_DEFAULTS)


def get_cfg_default() -> CfgNode:
    """Return a fresh, unfrozen configuration; new keys may be assigned to it before it is frozen."""
    return cfg_default.clone()


# Keys that the stand-in supports with their default value alone, and upstream's effect of another value.
_UNSUPPORTED = {
    "INPUT.NO_TRANSFORM": "gives images without a transform",
    "DATALOADER.RETURN_IMG0": "adds images without augmentation",
    "TEST.PER_CLASS_RESULT": "prints results per class, which result.json has anyway",
    "TEST.COMPUTE_CMAT": "saves a confusion matrix",
}


def refuse_unsupported(cfg: CfgNode) -> None:
    """Raise a ``ValueError`` for a key whose value the stand-in would ignore."""
    for key, effect in _UNSUPPORTED.items():
        section, name = key.split(".")
        if cfg[section][name]:
            raise ValueError(
                f"{key} is {cfg[section][name]}, which {effect}; the built-in stand-in for Dassl lacks it. Set it to "
                "False, or install upstream Dassl 0.6.3"
            )
