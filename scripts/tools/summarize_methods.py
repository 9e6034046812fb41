"""What each method trains and costs, as a Markdown table: python scripts/tools/summarize_methods.py [BACKBONE]

Sizes only: neither weights nor data are needed. GFLOP counts the matrix products and the attention of one training
step, four images and fifty classes with names as long as ImageNet's; methods without a gradient have the operations of
the forward pass. One method's tensors: python train.py ... --summary
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "OpenAI's name of a CLIP, or tiny; default: ViT-B/16"
    parser.add_argument("backbone", nargs="?", default="ViT-B/16", help=help)
    args = parser.parse_args(argv)
    from experiments.tools import summarize_methods  # here, because it imports torch

    print(summarize_methods.summarize(args.backbone))


if __name__ == "__main__":
    main()
