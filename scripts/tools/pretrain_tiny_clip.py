"""Pre-train the embedded `tiny` CLIP on drawn icons and characters and save it as a plain state dict.

    python scripts/tools/pretrain_tiny_clip.py                 # rewrites trainers/prompting/weights/tiny_clip.npz
    python scripts/tools/pretrain_tiny_clip.py --evaluate      # only measures it on the built-in data sets

The network is OpenAI's `clip.model.CLIP` at a small size, trained with CLIP's contrastive objective. Its images are
drawn (`experiments/tools/drawn_batches.py`) from the DejaVu fonts and from the icon families of `PRETRAINING` in
`datasets/builtin/icon_fonts.py`, whose packages must be installed; it never sees a photograph, a handwritten digit, or
a family of `EVALUATED`. The same machine gives the same file, to the bit, also after an interruption: a training
continues from its state file.

Differences from CLIP's own training: a caption is shared by all images of its class in a batch, so the text side of
the loss has several positives per row; texts of names that no image of the batch shows are further wrong answers for
the images; token embeddings start as random signs and are not decayed, so the rows of words that no caption uses stay
two-valued and cost about two bits a number in the compressed file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "trainers/prompting/weights/tiny_clip.npz")
    parser.add_argument("--evaluate", action="store_true", help="do not train, measure the file given as --out")
    args = parser.parse_args(argv)
    from experiments.tools import pretrain_tiny_clip  # here, because it imports torch
    from trainers.prompting.errors import InputError

    try:
        if not args.evaluate:
            state_file = args.out.with_suffix(".state")
            pretrain_tiny_clip.save(pretrain_tiny_clip.pretrain(state_file), args.out)
            state_file.unlink(missing_ok=True)
        pretrain_tiny_clip.evaluate(args.out)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
