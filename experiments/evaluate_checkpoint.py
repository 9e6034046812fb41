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
from collections.abc import Sequence
from pathlib import Path

from minidassl.own.run_folder import CheckpointError, find_checkpoint

import train
import trainers
from trainers.prompting.declaration import SUBSETS, Method
from trainers.prompting.errors import InputError, check_name
from trainers.prompting.recipes import data_set_file

from . import ROOT
from .commands import add_import, import_flags
from .data import FOLDER
from .methods import METHODS
from .runs import check_data, check_folder


def settings_of(file: Path, method: Method) -> list[tuple[str, str]]:
    """Keys and values of the method's configuration that a checkpoint's tensors tell."""
    from minidassl.own.checkpoint import load_checkpoint  # here, because it imports torch

    state_dict, layout = load_checkpoint(file)["state_dict"], method.layout
    if layout is not None and layout.matches(state_dict):
        try:
            state_dict, _ = layout.translate(state_dict)
        except InputError as error:
            raise InputError(f"{file} cannot be loaded. {error}") from error
    told, declared = method.told(state_dict), method.config.declared()
    return [
        (one.dotted(method.node), str(told[name])) for name, one in declared.items() if isinstance(one.told_by, str)
    ]


def trained_method(trainer: str, modules: Sequence[str]) -> Method:
    """The method of a trainer's name; raises InputError where there is none, or it has nothing to train."""
    from trainers.prompting.methods import import_own  # here, because it imports torch

    trainers.register_all()
    for module in modules:
        import_own(module)
    known = [name for name, method in METHODS.items() if method.learns and method.trainer == name]
    return METHODS[check_name("--trainer", trainer, known, "docs/METHODS.md")]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset", help="name of a file in configs/datasets, or of its data set")
    text = "a method of docs/METHODS.md that has a trainer, such as MaPLe, or yours by --import"
    add("--trainer", required=True, metavar="METHOD", help=text)
    add("--model-dir", required=True, type=Path, help="folder that holds the method's folder")
    add("--load-epoch", type=int, help="default: the best on validation if there is one, else the last")
    add("--config-file", help="YAML of the method; default: the settings of the file, on ViT-B/16")
    add("--root", default=os.environ.get("DATA", ""), help="folder of the data sets; default: $DATA")
    add("--classes", default="all", choices=SUBSETS)
    add("--output-dir", help="default: output/evaluate_checkpoint/TRAINER/DATASET/CLASSES")
    add_import(parser)
    args, extra = parser.parse_known_args(argv)
    try:
        method = trained_method(args.trainer, args.modules)
        dataset = data_set_file(args.dataset)
        output = args.output_dir or f"output/evaluate_checkpoint/{args.trainer}/{dataset}/{args.classes}"
        check_folder(Path(output))
        check_data([dataset], args.root and os.path.abspath(os.path.expanduser(args.root)), "--root")
        settings = settings_of(find_checkpoint(args.model_dir / method.folder, args.load_epoch), method)
    except (InputError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Read off the checkpoint: {', '.join(map(' '.join, settings))}")
    return train.main(
        [
            *("--root", args.root, "--trainer", args.trainer, "--output-dir", output),
            *("--dataset-config-file", str(ROOT / f"{FOLDER}/{dataset}.yaml")),
            *("--config-file", args.config_file or str(ROOT / "configs/base/evaluation.yaml")),
            *("--eval-only", "--model-dir", str(args.model_dir)),
            *(("--load-epoch", str(args.load_epoch)) if args.load_epoch is not None else ()),
            *import_flags(args.modules),
            *extra,
            *(word for pair in settings for word in pair),
            *("DATASET.SUBSAMPLE_CLASSES", args.classes),
        ]
    )
