"""The CUDA tests and the benchmark on a GPU, within some minutes; `scripts/gpu_check.sh` calls it.

The most important rows of the benchmark come first; those that did not fit are named in the table, whose columns are
those of `scripts/tools/benchmark.py --help`. The status is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, default=8, help="of the device, start to end; default: 8")
    add("--out", type=Path, default=Path("output/gpu_check.json"), help="file of the results; default: %(default)s")
    add("--authors", type=Path, metavar="CHECKOUT", help="measure the authors' model, too, out of their repository")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is there to try the script")
    add("--backbone", choices=("ViT-B/16", "tiny"), default="ViT-B/16", help="tiny is there to try the script")
    add("--repeats", type=int, default=15, help="timed steps of a row")
    args = parser.parse_args(argv)
    if args.authors and not (args.authors / "clip" / "model.py").is_file():
        parser.error(f"--authors is {args.authors}, which has no clip/model.py; give a checkout of BMIP's authors")
    if args.repeats < 1 or not 0.5 <= args.minutes <= 600:
        parser.error(f"--minutes is {args.minutes} (0.5 to 600), --repeats {args.repeats} (from 1 on)")
    from experiments.tools.gpu_check import run  # here, because it imports torch

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
