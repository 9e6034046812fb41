"""`Symbols` and its variants: symbols of DejaVu Sans, drawn in styles that the tiny CLIP was not pre-trained on.

All variants have the same classes in the same order and differ in style alone, so each is a domain shift of another.
Every picture has its own seed, so a variant does not depend on the others.
"""

from __future__ import annotations

from pathlib import Path

from .files import save_image, save_split
from .glyphs import SYMBOLS

SEED = 1
PER_CLASS = {"train": 24, "val": 6, "test": 30}


def write(folder: Path, split_file: str, style: str) -> None:
    """Write `images/<class>/NNN.png` and the split: the first pictures of a class train, the last ones test."""
    # Imported here because only the first use of this data set needs them.
    import numpy as np

    from .drawing import STYLES

    splits: dict[str, list[tuple[str, int, str]]] = {split: [] for split in PER_CLASS}
    for label, (name, char) in enumerate(SYMBOLS.items()):
        for index, split in enumerate(split for split, count in PER_CLASS.items() for _ in range(count)):
            rng = np.random.RandomState([SEED, *style.encode(), label, index])
            file = f"{name.replace(' ', '_')}/{index:03d}.png"
            save_image(STYLES[style].draw(char, rng), folder / "images" / file)
            splits[split].append((file, label, name))
    save_split(splits, folder / split_file)
