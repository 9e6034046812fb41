"""One run of train.py: read the configuration, describe it, and train, evaluate or summarize."""

from __future__ import annotations

import argparse
import os
import sys

import minidassl  # noqa: F401  # isort: skip  (first: answers to the name "dassl")
from minidassl.own.run_lock import run_lock

import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode

import datasets.registry  # noqa: F401

from . import register_all
from .config import build_cfg
from .console import Concise
from .evaluation import environment
from .prompting.core.summary import clip_of_size, summarize
from .prompting.errors import InputError, disk_error
from .records import check_settings, clear_leftovers, clear_run, is_trained, print_outcome, set_log_aside


def describe(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Print what runs, in upstream's blocks; a terminal gets the long ones with --verbose alone."""
    rule = "*" * 15
    device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
    arguments, system = (
        "\n".join(f"{key}: {value}" for key, value in sorted(facts.items()))
        for facts in (vars(args), environment(device))
    )
    log = sys.stdout if args.verbose else sys.stdout.file
    for title, text, file in (("Arguments", arguments, log), ("Config", cfg, log), ("System info", system, None)):
        print(f"{rule}\n** {title} **\n{rule}\n{text}", file=file)


def repeat_to_the_bit() -> None:
    """Let CUDA compute the same bits in every run; an operation that cannot raises a RuntimeError.

    Were it to warn only, PyTorch's fused attention would still add up its fp32 gradients in any order.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def run(args: argparse.Namespace) -> None:
    """Train, evaluate with `--eval-only`, or describe with `--summary`."""
    register_all()
    cfg = build_cfg(args)
    try:
        if args.summary:
            print(f"{cfg.TRAINER.NAME} on {cfg.MODEL.BACKBONE.NAME}")
            clip_model = clip_of_size(cfg.MODEL.BACKBONE.NAME)
            learner, _ = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).build_parts(cfg, clip_model)
            print(summarize(learner, clip_model))
            return
        with run_lock(cfg.OUTPUT_DIR):
            clear_leftovers(cfg.OUTPUT_DIR)
            _run(args, cfg)
    except OSError as error:
        raise InputError(disk_error(error, cfg.OUTPUT_DIR)) from error


def _run(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Train or evaluate in a folder that no other process works in."""
    trains = not (args.eval_only or args.no_train)
    if args.force and cfg.RESUME:
        raise InputError("--force trains from scratch and --resume goes on from a run; give one of them.")
    if trains and not args.force:
        for folder in filter(None, (cfg.OUTPUT_DIR, cfg.RESUME)):
            check_settings(cfg, folder)
        if is_trained(cfg.OUTPUT_DIR):
            print(f"Already trained: {cfg.OUTPUT_DIR}\n  (its result is in result.json; --force trains it again)")
            print_outcome(cfg.OUTPUT_DIR)
            return
    trainer_class = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if hasattr(trainer_class, "check_training") and not args.eval_only:
        trainer_class.check_training(cfg)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
        if torch.cuda.is_available():
            repeat_to_the_bit()
    set_log_aside(cfg.OUTPUT_DIR)
    setup_logger(cfg.OUTPUT_DIR)
    if not args.verbose:
        sys.stdout.console = Concise(sys.stdout.console)
    describe(args, cfg)

    try:
        trainer = build_trainer(cfg)
    except ValueError as error:
        # Dassl, upstream or stand-in, refuses values by a plain ValueError while it builds loaders and optimiser.
        raise InputError(str(error)) from error
    try:
        if args.eval_only:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
            trainer.test()
        elif trains:
            if args.force:
                clear_run(cfg.OUTPUT_DIR)
            trainer.train()
    except RuntimeError as error:
        # Of a trainer or objective of the user's; PyTorch names the operation.
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise InputError(
            f"SEED is {cfg.SEED}, so the run is to repeat to the bit, but {str(error).split(', but')[0]}. Use another "
            "operation, or set SEED to -1 (--seed -1)."
        ) from error
    if not args.no_train:
        print_outcome(cfg.OUTPUT_DIR)
