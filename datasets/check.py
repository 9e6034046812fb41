"""Check data sets, and name the repair of those that are not usable.

    python scripts/check_data.py --root $DATA                       # all of CoOp's fifteen
    python scripts/check_data.py EuroSAT OxfordPets --root $DATA --deep

Splits are read as a training run reads them, and every listed image is looked for; --deep also decodes each. Sizes
are compared with the published ones: a difference is remarked, since a subset can be meant. The exit status is 0 only
if all data sets that were asked for are usable.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate
from tqdm import tqdm

from trainers.prompting.errors import InputError

from . import list_images, locate
from .readers import SPLITS, Splits, broken_images
from .table import ROWS, Row

SHOWN = 5


@dataclass
class Report:
    """Findings of one data set: faults make it unusable, remarks do not."""

    name: str
    sizes: tuple[int, ...] = ()
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine(row: Row, root: str, deep: bool, workers: int) -> Report:
    report = Report(row.name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            splits, source = list_images(row, locate(row, root), seed=1)
    except (InputError, OSError) as error:
        report.faults.append(str(error))
        return report
    report.sizes = sizes(row, splits)
    if row.published and report.sizes != row.published:
        report.remarks.append(f"classes, train, val and test are {report.sizes}, as published {row.published}")
    shared = [name for name, labels in Counter(name for name, _ in classes(splits)).items() if labels > 1]
    if shared:
        report.remarks.append(f"{len(shared)} names belong to more than one class: {some(shared)}")
    images = list(dict.fromkeys(item.path for items in splits for item in items))
    missing = [path for path in images if not os.path.isfile(path)]
    if missing:
        remedy = "unpack the images again, see docs/DATASETS.md"
        report.faults.append(f"{source} lists {len(missing)} images that are not there: {some(missing)}; {remedy}.")
    if deep:
        gone = set(missing)
        broken = broken_images([path for path in images if path not in gone], row.name, workers)
        if broken:
            reasons = some(list(broken.values()))
            report.faults.append(f"{len(broken)} images cannot be decoded: {reasons}; unpack them again.")
    return report


def classes(splits: Splits) -> set[tuple[str, int]]:
    """Names and labels."""
    return {(item.name, item.label) for item in splits.train}


def sizes(row: Row, splits: Splits) -> tuple[int, ...]:
    """Classes, and images of train, val and test."""
    counts = [len(items) for items in splits]
    return len(classes(splits)), *([0, 0, counts[2]] if row.test_only else counts)


def some(things: Sequence[str]) -> str:
    return ", ".join(things[:SHOWN]) + (f" and {len(things) - SHOWN} more" if len(things) > SHOWN else "")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="*", metavar="DATASET", help=f"of {', '.join(names)}; default: CoOp's fifteen"
    )
    parser.add_argument("--root", default=os.environ.get("DATA", ""), help="folder of all data sets; default: $DATA")
    parser.add_argument("--deep", action="store_true", help="decode every image")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="images decoded at once")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.datasets) - set(names))
    if unknown:
        parser.error(f"there is no data set {', '.join(unknown)}; choose from {', '.join(names)}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    rows = [row for row in ROWS if (row.name in args.datasets if args.datasets else row.published)]
    reports = [examine(row, args.root, args.deep, args.workers) for row in tqdm(rows, desc="data sets", leave=False)]
    lines = []
    for report in reports:
        state = "unusable" if report.faults else "usable"
        lines.append([report.name, state, *(report.sizes or [""] * 4)])
    print(tabulate(lines, ["data set", "", "classes", *SPLITS], disable_numparse=True))
    for report in reports:
        for kind, texts in (("fault", report.faults), ("remark", report.remarks)):
            for text in texts:
                print(f"\n{report.name}, {kind}: {text}")
    return 1 if any(report.faults for report in reports) else 0
