"""Whole runs of train.py at real size: how long training and testing BMIP take, image files and all.

    python scripts/tools/benchmark_run.py                      # the table of docs/PERFORMANCE.md, on a GPU
    python scripts/tools/benchmark_run.py --classes 4 --epochs 1 --precision fp32    # on a CPU, a few minutes

ViT-B/16 has random weights: accuracies mean nothing. One command trains on half of the classes, with 16 images each,
by the authors' recipe; another tests that model on ten images of every class. The images are JPEG files of 500 x 375
pixels that compress like photographs. The time of a command includes the start of Python, reading CLIP and finding the
images. Epochs other than the first are alike; the recipe has ten.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--classes", type=int, nargs="+", default=[10, 100, 1000], help="half of them are trained on (10 100 1000)")
    add("--epochs", type=int, default=3)
    add("--precision", default="fp16", help="of the frozen towers (fp16)")
    args = parser.parse_args(argv)
    from experiments.tools import benchmark_run  # here, because it imports torch

    benchmark_run.run(args.classes, args.epochs, args.precision)


if __name__ == "__main__":
    main()
