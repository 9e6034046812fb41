"""`Digits`: scikit-learn's 1,797 handwritten digits, 8 × 8 pixels, light on dark.

Source: the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository (1998), as shipped by `sklearn.datasets.load_digits`.
"""

from __future__ import annotations

import random
from pathlib import Path

from ..fewshot import Item, Splits
from ..readers import cut_classes
from .files import save_image, save_split
from .glyphs import DIGITS

SPLIT_SEED = 1
LEVELS = 16  # largest grey value of the original


def write(folder: Path, split_file: str) -> None:
    """Write `images/<class>/NNNN.png`, numbered by position in scikit-learn's order, and the 50/20/30 split."""
    # Imported here because only the first use of this data set needs them.
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    source = load_digits()
    names, items = list(DIGITS), []
    for index, (pixels, label) in enumerate(zip(source.images, source.target)):
        file = f"{names[label]}/{index:04d}.png"
        save_image(Image.fromarray((pixels * 255 / LEVELS).round().astype(np.uint8)), folder / "images" / file)
        items.append(Item(file, int(label), names[label]))
    save_split(Splits(*cut_classes(items, random.Random(SPLIT_SEED), 0.5, 0.2))._asdict(), folder / split_file)
