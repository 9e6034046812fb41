"""Check data sets, and name the repair of those that are not usable.

    python scripts/check_data.py --root $DATA                       # all of CoOp's fifteen
    python scripts/check_data.py EuroSAT OxfordPets --root $DATA --deep

The check reads splits like a training run, and looks for every listed image; --deep also decodes each. A difference
from the published sizes is a remark, since a subset may be intended. The exit status is 0 only if all data sets are
usable.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate
from tqdm import tqdm

from trainers.prompting.errors import InputError

from . import list_images, locate
from .readers import SPLITS, broken_images, some
from .table import ROWS, Row


def examine(row: Row, root: str, deep: bool) -> tuple[Sequence[object], list[str], list[str]]:
    """Numbers of classes and images, the faults that make a data set unusable, and further remarks."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            splits, source = list_images(row, locate(row, root))
    except (InputError, OSError) as error:
        return [""] * 4, [str(error)], []
    faults, remarks = [], []
    classes = {(item.name, item.label) for item in splits.train}
    counts = [len(items) for items in splits]
    sizes = len(classes), *([0, 0, counts[2]] if row.test_only else counts)
    if row.published and sizes != row.published:
        remarks.append(f"classes, train, val and test are {sizes}, as published {row.published}")
    shared = [name for name, labels in Counter(name for name, _ in classes).items() if labels > 1]
    if shared:
        remarks.append(f"{len(shared)} names belong to more than one class: {some(shared)}")
    images = list(dict.fromkeys(item.path for items in splits for item in items))
    missing = {path for path in images if not os.path.isfile(path)}
    if missing:
        faults.append(f"{source} lists {len(missing)} images that are not there: {some(missing)}; unpack them again.")
    broken = broken_images([path for path in images if path not in missing], row.name) if deep else {}
    if broken:
        faults.append(f"{len(broken)} images cannot be decoded: {some(broken.values())}; unpack them again.")
    return sizes, faults, remarks


def main(argv: Sequence[str] | None = None) -> int:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("datasets", nargs="*", metavar="DATASET", help=f"of {', '.join(names)}; default: CoOp's fifteen")
    add("--root", default=os.environ.get("DATA", ""), help="folder of all data sets; default: $DATA")
    add("--deep", action="store_true", help="decode every image")
    args = parser.parse_args(argv)
    # By hand: argparse's choices refuse an empty list in some versions of Python.
    unknown = sorted(set(args.datasets) - set(names))
    if unknown:
        parser.error(f"there is no data set {', '.join(unknown)}; choose from {', '.join(names)}")
    rows = [row for row in ROWS if (row.name in args.datasets if args.datasets else row.published)]
    lines, findings, status = [], [], 0
    for row in tqdm(rows, desc="data sets", leave=False):
        sizes, faults, remarks = examine(row, args.root, args.deep)
        lines.append([row.name, "unusable" if faults else "usable", *sizes])
        findings += [f"\n{row.name}, fault: {text}" for text in faults]
        findings += [f"\n{row.name}, remark: {text}" for text in remarks]
        status |= bool(faults)
    print(tabulate(lines, ["data set", "", "classes", *SPLITS], disable_numparse=True), *findings, sep="\n")
    return status
