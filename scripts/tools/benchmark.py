"""Time, memory and launches of training and testing, against baselines in the same run.

    python scripts/tools/benchmark.py                                            # both tables of docs/PERFORMANCE.md
    python scripts/tools/benchmark.py --standard train                           # one of them
    python scripts/tools/benchmark.py --work train --classes 1000 --precision fp16 --device cuda --json out.json
    python scripts/tools/benchmark.py --show out.json                            # the table of an earlier run
    python scripts/tools/benchmark.py --authors CHECKOUT                         # with the authors' own model

The baselines are BMIP as the field writes it (`straightforward_bmip.py`: full padding, attention twice, nothing used
again), plain CLIP (`encode_image` of the same images alone: the floor), and, from a checkout of their repository, the
authors' own model in fp16, or in fp32 without their casts to fp16. Weights are random, in the shapes of
ViT-B/16, on which no time depends; class names are ImageNet's, as torchvision ships them. Every row has a process of
its own. On a CPU, its peak is the memory, and the rows take turns step by step, so a machine whose speed changes slows
all of them alike. On CUDA each ends before the next begins, and memory is the allocator's peak. Times are the fastest
of the repeats. "of limit" is the time that the matrix products and attention of a step would take at the speed of one
large product of the same type, the fastest of those measured before each row, as a share of the time of the step.
"launches" are the operations that a GPU is given to do in it, counted on any machine (`launches.py`).
On CUDA the host launches thousands of kernels for a step, which may take longer than what they do. "As a graph" is a
step whose launches were recorded once, and are given to the device as one (torch.cuda.CUDAGraph): its own time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--standard", nargs="+", help="parts of the standard table, of train, test and images; default: all")
    add("--work", nargs="+", help="cases of your own instead, of the same, by the options below")
    add("--backbone", choices=("ViT-B/16", "tiny"), default="ViT-B/16", help="tiny is there to try the script")
    add("--variant", nargs="+", help="of BMIP (TRAINER.BMIP.VARIANT); default: all")
    add("--classes", nargs="+", type=int, default=[50])
    add("--precision", nargs="+", default=["fp32"], help="as PREC in docs/CONFIGURATION.md")
    add("--chunk", type=int, default=0, help="MODEL.CLASS_CHUNK")
    add("--no-straightforward", action="store_true", help="leave out the slow baseline")
    add("--authors", type=Path, metavar="CHECKOUT", help="measure the authors' model, too, out of their repository")
    add("--repeats", type=int, default=3, help="timed steps; the fastest counts")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--profile", action="store_true", help="what a step of each case spends its time in, instead")
    add("--json", type=Path, help="write the records there as well")
    add("--show", type=Path, help="only print the table of a file that --json wrote")
    args = parser.parse_args(argv)
    if args.authors and not (args.authors / "clip" / "model.py").is_file():
        parser.error(f"--authors is {args.authors}, which has no clip/model.py; give a checkout of BMIP's authors")
    if min(*args.classes, args.repeats) < 1:
        parser.error("--classes and --repeats are numbers from 1 on")
    from experiments.tools.benchmark import run  # here, because it imports torch

    run(args)


if __name__ == "__main__":
    main()
