"""Evaluate a checkpoint, published or our own, on any data set, and list the tensors that are taken and left.

    python scripts/evaluate_checkpoint.py --trainer MaPLe --model-dir weights/base/seed1 eurosat --classes new

Prompt lengths and depths are read off the file; the words around the prompts are not in it, and come from the
method's configuration. `--model-dir` holds the method's folder as its authors' code writes it (for MaPLe:
`MultiModalPromptLearner/model.pth.tar-5`). All other arguments go to train.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from minidassl.own.checkpoint import load_checkpoint
from minidassl.own.run_folder import CheckpointError, find_checkpoint

import train
import trainers
from trainers.prompting.declaration import METHODS, Method
from trainers.prompting.errors import InputError

from . import ROOT


def settings_of(file: Path, method: Method) -> list[str]:
    """KEY VALUE pairs of the method's configuration that a checkpoint's tensors tell."""
    state_dict, layout = load_checkpoint(file)["state_dict"], method.layout
    if layout is not None and layout.matches(state_dict):
        try:
            state_dict, _ = layout.translate(state_dict)
        except InputError as error:
            raise InputError(f"{file} cannot be loaded. {error}") from error
    told, declared = method.told(state_dict), method.config.declared()
    sizes = [name for name, one in declared.items() if isinstance(one.told_by, str)]
    return [word for name in sizes for word in (declared[name].dotted(method.node), str(told[name]))]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    trainers.register_all()
    known = [name for name, method in METHODS.items() if method.learns and method.trainer == name]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name of a file in configs/datasets")
    parser.add_argument("--trainer", required=True, choices=sorted(known))
    parser.add_argument("--model-dir", required=True, type=Path, help="folder that holds the method's folder")
    parser.add_argument(
        "--load-epoch", type=int, help="default: the best on validation if there is one, else the last"
    )
    parser.add_argument("--config-file", help="YAML of the method; default: the settings of the file, on ViT-B/16")
    parser.add_argument("--root", default=os.environ.get("DATA", ""), help="folder of the data sets; default: $DATA")
    parser.add_argument("--classes", default="all", choices=["all", "base", "new"])
    parser.add_argument("--output-dir", help="default: output/evaluate_checkpoint/TRAINER/DATASET/CLASSES")
    args, args.extra = parser.parse_known_args(argv)
    return args


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    args = parse_args(argv)
    method = METHODS[args.trainer]
    try:
        settings = settings_of(find_checkpoint(args.model_dir / method.folder, args.load_epoch), method)
    except (InputError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Read off the checkpoint: {', '.join(' '.join(pair) for pair in zip(settings[::2], settings[1::2]))}")
    tail = f"{args.trainer}/{args.dataset}/{args.classes}"
    return train.main(
        [
            *("--root", args.root),
            *("--trainer", args.trainer),
            *("--dataset-config-file", str(ROOT / f"configs/datasets/{args.dataset}.yaml")),
            *("--config-file", args.config_file or str(ROOT / "configs/base/evaluation.yaml")),
            *("--output-dir", args.output_dir or f"output/evaluate_checkpoint/{tail}"),
            *("--eval-only", "--model-dir", str(args.model_dir)),
            *(("--load-epoch", str(args.load_epoch)) if args.load_epoch is not None else ()),
            *args.extra,
            *settings,
            *("DATASET.SUBSAMPLE_CLASSES", args.classes),
        ]
    )
