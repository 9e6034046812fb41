"""Train or evaluate one run, with CoOp's command line: flags, then KEY VALUE pairs that overrule every file."""

from __future__ import annotations

import argparse
import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `main`, because libraries take seconds to load, and make other errors of a KeyboardInterrupt meanwhile.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from minidassl.own.checkpoint import CheckpointError
from minidassl.own.processes import end_with_launcher
from minidassl.own.run_lock import FolderInUse, run_lock

import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode

import datasets  # noqa: F401  (registers the data sets)
import trainers
from trainers.config import build_cfg
from trainers.evaluation import environment
from trainers.prompting.core.summary import clip_of_size, summarize
from trainers.prompting.errors import InputError, disk_error
from trainers.records import check_settings, clear_leftovers, clear_run, is_trained, set_log_aside


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's flags, `--summary`, `--import` and `--force`."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--root", help="folder of the data sets (DATASET.ROOT)")
    add("--output-dir", help="folder of logs, checkpoints and results (OUTPUT_DIR)")
    add("--resume", help="folder of a stopped run to go on from (RESUME); a run goes on from its own folder anyway")
    add("--seed", type=int, help="seed of everything random (SEED); 0 is a seed, -1 leaves it unseeded")
    add("--source-domains", nargs="+", help="DATASET.SOURCE_DOMAINS, for trainers that use it")
    add("--target-domains", nargs="+", help="DATASET.TARGET_DOMAINS, for trainers that use it")
    add("--transforms", nargs="+", help="INPUT.TRANSFORMS")
    add("--config-file", default="", help="YAML of the method")
    add("--dataset-config-file", default="", help="YAML of the data set")
    add("--trainer", help="TRAINER.NAME")
    add("--backbone", help="MODEL.BACKBONE.NAME: OpenAI's name, a path to a checkpoint, or tiny")
    add("--head", help="MODEL.HEAD.NAME, for trainers that use it")
    add("--eval-only", action="store_true", help="load a model from --model-dir and test it")
    add("--model-dir", default="", help="output folder of the run to load for --eval-only")
    add("--load-epoch", type=int, help="epoch to load; the best on validation if there is one, else the last")
    add("--no-train", action="store_true", help="build everything, and stop")
    add("--summary", action="store_true", help="print what the method trains, and stop; needs no data and no weights")
    add(
        "--import",
        dest="modules",
        action="append",
        default=[],
        help="module, or its file, with objectives or methods of yours",
    )
    add("--force", action="store_true", help="delete the run in --output-dir and train from scratch")
    add("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")
    return parser.parse_args(argv)


def describe(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Print what runs, in upstream's blocks."""
    rule = "*" * 15
    device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
    arguments, system = (
        "\n".join(f"{key}: {value}" for key, value in sorted(facts.items()))
        for facts in (vars(args), environment(device))
    )
    for title, text in (("Arguments", arguments), ("Config", cfg), ("System info", system)):
        print(f"{rule}\n** {title} **\n{rule}\n{text}")


def repeat_to_the_bit() -> None:
    """Let CUDA compute the same bits in every run; an operation that cannot raises a RuntimeError.

    Were it to warn only, PyTorch's fused attention would still add up its fp32 gradients in any order.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def run(args: argparse.Namespace) -> None:
    """Train, evaluate with `--eval-only`, or describe with `--summary`."""
    trainers.register_all()
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
            print(f"Already trained: {cfg.OUTPUT_DIR} (its result is in result.json; --force trains it again)")
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


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input, 130 interrupted."""
    end_with_launcher()
    try:
        run(parse_args(argv))
    except (InputError, CheckpointError, FolderInUse, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from the last finished epoch.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
