"""Write trained prompts as one safetensors file for others.

    python scripts/export.py output/pets/seed1                          writes output/pets/seed1.safetensors
    python scripts/export.py output/pets/seed1 --output pets.safetensors

RUN is the output folder of a training run, a checkpoint file, or a folder that an earlier version of
`PromptClassifier.save` wrote. The file has the prompts, and as metadata the method with its settings, the names of the
classes, facts of the run, and the hash of the text embedding of the CLIP that they belong to, without its weights.
Reading it executes nothing: `PromptClassifier.load(FILE)`, or scripts/predict.py --checkpoint FILE. Another CLIP is
refused. Flags overrule recorded values; a checkpoint outside its run's folder needs --method and --classes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minidassl.own.files import check_writable
from minidassl.own.text import printable

from ..errors import InputError, check_name, disk_error
from .predict import read_classes, read_settings


def export(args: argparse.Namespace) -> Path:
    """Load the prompts and write them; raises InputError for what cannot be loaded, or written there."""
    from ..checkpoints.saved import ENDING, read_saved, target_of  # here, because they import torch
    from ..methods import METHODS, import_own
    from .classifier import PromptClassifier

    for module in args.modules:
        import_own(module)
    if args.method is not None:
        check_name("--method", args.method, METHODS, "docs/METHODS.md")
    run = Path(args.run).expanduser().resolve()
    output = args.output or run.parent / f"{run.name}{ENDING}"
    if output.suffix != ENDING:
        raise InputError(f"--output is '{output}'; give it a name that ends in {ENDING}.")
    if output.exists() and not args.overwrite:
        raise InputError(f"'{output}' is there already; give --overwrite to replace it, or another --output.")
    check_writable(target_of(output, args.overwrite))
    given = {name: getattr(args, name) for name in ("method", "backbone")}
    given["settings"] = read_settings(args.setting) or None
    given = {name: value for name, value in given.items() if value is not None}
    classes = None if args.classes is None else read_classes(args.classes)
    classifier = PromptClassifier.load(args.run, classes, device="cpu", **given)
    # Without a GPU, `load` replaces a half precision, and readers may have one.
    classifier.precision = read_saved(args.run).parameters.get("precision")
    return classifier.save(output, args.overwrite)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong input, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", metavar="RUN", help="run folder, checkpoint file, or saved classifier")
    add("--output", type=Path, help="file to write; default: RUN.safetensors beside RUN")
    add("--overwrite", action="store_true", help="replace a file that is there")
    add("--classes", help="names with commas between them, or a file with one per line; default: the recorded ones")
    add("--method", help="one of docs/METHODS.md, such as BMIP; default: the recorded one")
    add("--backbone", help="OpenAI's name of a CLIP, a path, or tiny; default: the recorded one, or ViT-B/16")
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the method, such as depth=9")
    text = "module, or its file, that declares the method of the checkpoint, if it is yours"
    add("--import", dest="modules", action="append", default=[], metavar="MODULE", help=text)
    args = parser.parse_args(argv)
    try:
        print(f"Wrote {export(args)}")
        return 0
    except (InputError, OSError) as error:
        text = disk_error(error, str(args.output or args.run)) if isinstance(error, OSError) else str(error)
        print(f"error: {printable(text)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
