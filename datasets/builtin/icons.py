"""`Icons` and its shifted sets: pictures of concepts as several designers drew them.

`Icons` are drawn from Phosphor's cuts; each shifted set draws those of the same concepts that another family names.
All sets share one style of drawing, so that only the designer changes. Every picture has its own seed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .files import save_image, save_split
from .icon_fonts import EVALUATED, NAMING

SEED = 1
STYLE = "outline"
PER_CLASS = {"train": 24, "val": 6, "test": 10}
# The rule of the classes: CUTS of Phosphor, and WORD_GLYPHS glyphs of the families in `NAMING` with each of its words.
CUTS, WORD_GLYPHS = 5, 20


def classes() -> list[str]:
    """Concepts of Phosphor that another family names, too, in words that the other families use often, sorted."""
    phosphor, named = EVALUATED["Phosphor"].glyphs(), Counter()
    others = [family.glyphs() for family in NAMING.values()]
    for family in others:
        for concept, glyphs in family.items():
            named.update({word: len(glyphs) for word in concept.split()})
    return sorted(
        concept
        for concept, glyphs in phosphor.items()
        if len(glyphs) >= CUTS
        and any(concept in family for family in others)
        and all(word.isalpha() and named[word] >= WORD_GLYPHS for word in concept.split())
    )


def write(folder: Path, split_file: str, family: str) -> None:
    """Write `images/<class>/NNN.png` and the split: the first pictures of a class train, the last ones test."""
    # Imported here because only the first use of these data sets needs them.
    import numpy as np

    from .drawing import STYLES, drawn_glyph

    glyphs = {**EVALUATED, **NAMING}[family].glyphs()
    splits: dict[str, list[tuple[str, int, str]]] = {split: [] for split in PER_CLASS}
    for label, name in enumerate(name for name in classes() if name in glyphs):
        masks = [drawn_glyph(glyph.char, glyph.font) for glyph in glyphs[name]]
        for index, split in enumerate(split for split, count in PER_CLASS.items() for _ in range(count)):
            rng = np.random.RandomState([SEED, *family.encode(), *name.encode(), index])
            file = f"{name.replace(' ', '_')}/{index:03d}.png"
            save_image(STYLES[STYLE].draw_mask(masks[rng.randint(len(masks))], rng), folder / "images" / file)
            splits[split].append((file, label, name))
    save_split(splits, folder / split_file)
