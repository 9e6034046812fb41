"""Classify images by the names of their classes.

    python scripts/predict.py --classes cat,dog holiday/*.jpg                        zero-shot CLIP
    python scripts/predict.py --checkpoint output/pets/seed1 --format csv holiday    trained prompts

A checkpoint is the output folder of a training run, whose record has method, backbone, settings and class names; a
file or folder that `PromptClassifier.save` or scripts/export.py wrote; or a checkpoint file, which needs --method and
--classes outside its run's folder. Flags overrule recorded values. IMAGES are files, patterns, and folders, which are
searched at any depth.
"""

from __future__ import annotations

import argparse
import csv
import glob
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from minidassl.own.files import check_writable, write_whole
from minidassl.own.text import csv_cell, printable

from tqdm import tqdm

from ..errors import InputError, check_name, disk_error

if TYPE_CHECKING:
    from .classifier import PromptClassifier


def find_images(arguments: Sequence[str]) -> list[str]:
    """Paths of all images, each once, in the order of the arguments; raises InputError for an argument without any."""
    from .images import list_images

    found: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            images = list_images(argument)
        elif os.path.exists(argument) or not glob.has_magic(argument):
            images = [argument]  # a missing file is reported among the unreadable images
        else:
            images = [path for path in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(path)]
        if not images:
            raise InputError(
                f"{argument!r} names no images; give files, folders of images, or a pattern that fits some."
            )
        found += images
    return list(dict.fromkeys(found))


def read_classes(value: str) -> list[str]:
    """Class names from a file with one per line, or from a list with commas; raises InputError without names."""
    if os.path.isfile(value):
        try:
            lines = Path(value).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"--classes is {value!r}, which is no text file in UTF-8 ({error}).") from error
    elif "," not in value and (os.sep in value or value.endswith(".txt")):
        raise InputError(f"--classes is {value!r}, and there is no such file.")
    else:
        lines = value.split(",")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(
            f"--classes is {value!r}, which has no names; give names with commas between them, or a file."
        )
    return names


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is a number, true or false where it can be, and else text."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--setting is {pair!r}; write NAME=VALUE, such as depth=9.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def make_classifier(args: argparse.Namespace) -> PromptClassifier:
    """The classifier that the flags describe; raises InputError for unusable flags."""
    from .classifier import PromptClassifier

    settings = read_settings(args.setting) | ({"templates": args.template} if args.template else {})
    given = {name: getattr(args, name) for name in ("method", "backbone", "precision", "device")}
    given = {name: value for name, value in {**given, "settings": settings or None}.items() if value is not None}
    given |= {"prediction_batch_size": args.batch_size, "progress": False}
    classes = None if args.classes is None else read_classes(args.classes)
    if args.checkpoint:
        return PromptClassifier.load(args.checkpoint, classes, **given)
    if given.setdefault("method", "ZeroshotCLIP") != "ZeroshotCLIP":
        raise InputError(f"--method is {given['method']!r}, whose prompts are trained; give --checkpoint.")
    if classes is None:
        raise InputError("Give the names of the classes with --classes, or trained prompts with --checkpoint.")
    return PromptClassifier(**given).build(classes)


def classify(classifier: PromptClassifier, paths: Sequence[str], top: int, batch_size: int) -> list[dict[str, Any]]:
    """For each image a dict of its path, "image", and either "predictions", best first, or an "error"."""
    from .images import open_image

    rows = [{"image": path} for path in paths]
    with tqdm(total=len(paths), desc="images", unit="image") as bar:
        for start in range(0, len(paths), batch_size):
            batch, images = rows[start : start + batch_size], []
            for row in batch:
                try:
                    images.append(open_image(row["image"]))
                except InputError as error:
                    row["error"] = str(error)
            readable = [row for row in batch if "error" not in row]
            for row, probabilities in zip(readable, classifier.predict_proba(images)):
                best = (-probabilities).argsort(kind="stable")[:top]
                row["predictions"] = [
                    {"class": str(classifier.classes_[label]), "probability": float(probabilities[label])}
                    for label in best
                ]
            bar.update(len(batch))
    return rows


def write_text(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Write a line with the path of each image, and one for each class, in per cent."""
    for row in rows:
        print(printable(row["image"]), file=file)
        for found in row["predictions"]:
            print(f"  {100 * found['probability']:6.2f} %  {printable(found['class'])}", file=file)


def write_csv(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Write a line for each image and class: image, rank from 1, class, probability."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image", "rank", "class", "probability"])
    for row in rows:
        for rank, found in enumerate(row["predictions"], start=1):
            writer.writerow(map(csv_cell, [row["image"], rank, found["class"], found["probability"]]))


def predict(args: argparse.Namespace) -> int:
    """Classify and write; exit status 0, or 1 if images cannot be read."""
    from ..methods import METHODS, import_own  # here, because they import torch

    for module in args.modules:
        import_own(module)
    for flag, value in (("--top", args.top), ("--batch-size", args.batch_size)):
        if value < 1:
            raise InputError(f"{flag} is {value}; set it to 1 or more.")
    if args.method is not None:
        check_name("--method", args.method, METHODS, "docs/METHODS.md")
    output = args.output and args.output.resolve()
    if output and not output.parent.is_dir():
        raise InputError(f"--output is '{args.output}', whose folder is not there; create it first.")
    if output and output.exists() and not output.is_file():
        raise InputError(f"--output is '{args.output}', which is no file on a disk; name one, or leave it to print.")
    if output:
        check_writable(output)
    paths = find_images(args.images)
    rows = classify(make_classifier(args), paths, args.top, args.batch_size)
    errors = [row["error"] for row in rows if "error" in row]
    text = io.StringIO()
    if args.format == "json":
        # Names of files may hold bytes that are no characters.
        listed = json.dumps(rows, indent=2, ensure_ascii=False).encode(errors="backslashreplace").decode()
        print(listed, file=text)
    else:
        write = {"text": write_text, "csv": write_csv}[args.format]
        write([row for row in rows if "predictions" in row], text)
    if output:
        write_whole(output, text.getvalue())
    else:
        print(text.getvalue(), end="")
    for error in errors:
        print(f"error: {printable(error)}", file=sys.stderr)
    if errors:
        print(f"{len(errors)} of {len(rows)} images cannot be read.", file=sys.stderr)
    return 1 if errors else 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 some images cannot be read, 2 wrong input, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGES", help="files, folders or quoted patterns")
    add("--checkpoint", help="run folder, saved classifier or checkpoint file; without it, zero-shot CLIP")
    add("--classes", help="names with commas between them, or a file with one per line; default: the recorded ones")
    add("--method", help="one of docs/METHODS.md, such as BMIP; default: the recorded one")
    text = "module, or its file, that declares the method of the checkpoint, if it is yours"
    add("--import", dest="modules", action="append", default=[], metavar="MODULE", help=text)
    add("--backbone", help="a CLIP's name or path (docs/BACKBONES.md); default: the recorded one, or ViT-B/16")
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the method, such as depth=9")
    add("--template", action="append", help='sentence of zero-shot CLIP, such as "a photo of a {}."; averaged if many')
    add("--precision", help="fp32, bf16, fp16 or amp; default: the recorded one, or fp16 on a GPU")
    add("--device", help="cpu or cuda; default: the GPU if there is one")
    add("--top", type=int, default=5, help="classes to name for each image; default: 5")
    add("--format", choices=["text", "csv", "json"], default="text")
    add("--output", type=Path, help="file to write; default: standard output")
    add("--batch-size", type=int, default=100, help="images at a time; default: 100")
    args = parser.parse_args(argv)
    try:
        return predict(args)
    except (InputError, OSError) as error:
        text = disk_error(error, str(args.output)) if isinstance(error, OSError) else str(error)
        print(f"error: {printable(text)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
