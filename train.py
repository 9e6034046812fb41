"""Train or evaluate one run, with CoOp's command line: flags, then KEY VALUE pairs that overrule every file."""

from __future__ import annotations

import argparse
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `main` has its libraries: they load for seconds, and make other errors of a KeyboardInterrupt meanwhile.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from minidassl.own.processes import end_with_launcher
from minidassl.own.run_folder import CheckpointError
from minidassl.own.run_lock import FolderInUse

from trainers.prompting.errors import InputError


def make_parser() -> argparse.ArgumentParser:
    """With CoOp's flags, `--summary`, `--import`, `--force` and `--verbose`."""
    parser = argparse.ArgumentParser("train.py", description=__doc__)
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
    add("--backbone", help="MODEL.BACKBONE.NAME: a CLIP's name or path (docs/BACKBONES.md)")
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
    add("--verbose", action="store_true", help="print all that is in log.txt, such as the configuration")
    add("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")
    return parser


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input, 130 interrupted."""
    args = parse_args(argv)
    launched = end_with_launcher()
    # After the arguments, because it imports torch: --help and wrong flags answer at once.
    from trainers.run import run

    if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(args)
    except (InputError, CheckpointError, FolderInUse, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not launched:  # the launcher says it
            print("\nInterrupted; the same command goes on from the last finished epoch.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
