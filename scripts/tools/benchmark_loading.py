"""Whether loading keeps up with training: seconds per epoch of the training loader, with and without its shortcuts.

    python scripts/tools/benchmark_loading.py    # the table of docs/PERFORMANCE.md

The images are JPEG files of 500 x 375 pixels that compress like photographs; each is decoded, cropped at random,
resized to 224 x 224 with bicubic interpolation, flipped and normalised, in batches of 4. The first epoch is not
counted: it starts the workers and fills the memory. The time is that of the fastest of three others. "fresh" workers
are started in every epoch, as upstream does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    from experiments.tools import benchmark_loading  # here, because it imports torch

    benchmark_loading.run()


if __name__ == "__main__":
    main()
