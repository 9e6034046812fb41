"""Check data sets, and name the repair of those that are not usable.

    python scripts/check_data.py --root $DATA                       # all of CoOp's fifteen
    python scripts/check_data.py eurosat oxford_pets --root $DATA --deep
    python scripts/check_data.py resisc45 aid --root $DATA          # of remote sensing
    python scripts/check_data.py ImageFolder --root FOLDER --write-split

The check reads splits like a training run, and looks for every listed image; --deep also decodes each. A difference
from the published sizes is a remark, since a subset may be intended. --write-split keeps derived splits in files of
CoOp's format, which later runs read, also after images are added. The exit status is 0 only if all data sets are
usable and all files written.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence, Sized
from pathlib import Path

from minidassl.own.text import words

from tabulate import tabulate
from tqdm import tqdm

from trainers.prompting.errors import InputError, check_name, disk_error
from trainers.prompting.recipes import data_set_file, data_sets

from . import list_images, locate
from .builtin.files import save_split
from .fewshot import Splits
from .readers import NOTE, SPLITS, broken_images, some
from .table import ROWS, Row


def examine(row: Row, root: str, deep: bool, write: bool) -> tuple[Sequence[object], dict[str, list[str]]]:
    """Numbers of classes and images, and whether they are as published; faults and further findings by kind.

    A data set with a "fault" is unusable.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            folder = locate(row, root)
            splits, source = list_images(row, folder)
    except InputError as error:
        return [""] * 5, {"fault": [str(error)]}
    except OSError as error:
        text = f"{error.filename} cannot be read: {error.strerror}; check its permissions, and the disk."
        return [""] * 5, {"fault": [text]}
    faults, remarks = [], [line for line in printed.getvalue().splitlines() if line.startswith(NOTE)]
    classes = {(item.name, item.label) for item in splits.train}
    counts = [len(items) for items in splits]
    sizes = len(classes), *([0, 0, counts[2]] if row.test_only else counts)
    here, published, text = sizes, row.published, "{} classes, {} training, {} validation and {} test images"
    if published is None and row.total:
        here, published, text = (len(classes), sum(counts)), row.total, "{} classes and {} images"
    agreement = "" if published is None else "as published" if here == published else "not as published"
    if agreement.startswith("not"):
        remarks.append(
            f"not the published sizes: {text.format(*here)} are here, {text.format(*published)} are published"
        )
    if len(classes) < 2:
        faults.append("it has one class, of which every prediction is right; add others.")
    elif len(classes) < 4:
        remarks.append("base and new classes cannot be told apart: that takes two or more in each half, four in all")
    shared = [name for name, labels in Counter(name for name, _ in classes).items() if labels > 1]
    if shared:
        remarks.append(
            f"{counted(shared, 'name')} belong{'s' * (len(shared) == 1)} to more than one class: {some(shared)}"
        )
    images = list(dict.fromkeys(item.path for items in splits for item in items))
    missing = {path for path in images if not os.path.isfile(path)}
    if missing:
        text = f"{source} lists {counted(missing, 'image')} that {'is' if len(missing) == 1 else 'are'} not there"
        faults.append(f"{text}: {some(missing)}; copy or unpack what is missing.")
    broken = broken_images([path for path in images if path not in missing], row.name) if deep else {}
    by_remedy = defaultdict(list)
    for path, error in broken.items():
        by_remedy[error.remedy].append(f"{path} ({error.reason})")
    faults += [
        f"{counted(them, 'image')} cannot be read: {some(them)}; {remedy}." for remedy, them in by_remedy.items()
    ]
    found = {"fault": faults, "remark": remarks}
    if write and not faults:
        try:
            remarks.append(f"wrote {write_split(row, folder, splits)}")
        except InputError as error:
            found["not written"] = [str(error)]
        except OSError as error:
            found["not written"] = [disk_error(error, str(folder))]
    return (*sizes, agreement), found


def counted(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def write_split(row: Row, folder: Path, splits: Splits) -> Path:
    """Write a derived split in CoOp's format; an InputError if it would not be read, or replace a file."""
    path, start = folder / row.split_file, len(f"{folder / row.images}{os.sep}")
    if not row.has_split_file:
        raise InputError(f"{row.name} has no split file: its published lists or folders are its splits.")
    if os.path.lexists(path):
        raise InputError(f"{path} is there already, and is not overwritten; move it elsewhere to write the split.")
    save_split(
        {
            part: [(item.path[start:].replace(os.sep, "/"), item.label, item.name) for item in items]
            for part, items in zip(SPLITS, splits)
        },
        path,
    )
    return path


def registered(name: str) -> str:
    """The registered name of a data set that is given by it or by its file in configs/datasets, if it has a row.

    Raises:
        InputError: there is none.
    """
    known = {row.name.lower(): row.name for row in ROWS}
    if name.lower() in known:
        return known[name.lower()]
    return check_name(f"{name}: DATASET.NAME", data_sets()[data_set_file(name)], known.values(), "--help")


def main(argv: Sequence[str] | None = None) -> int:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    text = f"of {', '.join(names)}, or names of files in configs/datasets; default: CoOp's fifteen"
    add("datasets", nargs="*", type=words, metavar="DATASET", help=text)
    add("--root", default=os.environ.get("DATA", ""), help="folder of all data sets; default: $DATA")
    add("--deep", action="store_true", help="decode every image")
    add(
        "--write-split", action="store_true", help="write the derived splits of the named data sets into their folders"
    )
    args = parser.parse_args(argv)
    if args.write_split and not args.datasets:
        parser.error("--write-split needs the names of the data sets")
    try:
        chosen = [registered(name) for name in sum(args.datasets, [])]
    except InputError as error:
        parser.error(str(error))
    rows = [row for row in ROWS if (row.name in chosen if chosen else row.published)]
    root = os.path.expanduser(args.root)
    if not os.path.isdir(root) and not all(row.write for row in rows):
        found = f"There is no folder {root}" if root else "There is no data folder"
        print(f"error: {found}; give --root the folder of the data sets, or set $DATA.", file=sys.stderr)
        return 2
    lines, findings, status = [], [], 0
    for row in tqdm(rows, desc="data sets", leave=False, disable=None):
        sizes, found = examine(row, args.root, args.deep, args.write_split)
        lines.append([row.name, "unusable" if found["fault"] else "usable", *sizes])
        findings += [f"\n{row.name}, {kind}: {text}" for kind, texts in found.items() for text in texts]
        status |= any(texts for kind, texts in found.items() if kind != "remark")
    print(tabulate(lines, ["data set", "", "classes", *SPLITS, "sizes"], disable_numparse=True), *findings, sep="\n")
    return status
