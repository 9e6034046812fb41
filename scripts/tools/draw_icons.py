"""Draw a sheet of the classes of `Icons` with a picture from each family, docs/icons.png.

    python scripts/tools/draw_icons.py

The pictures are the first test images of each class, as runs see them; a family without the concept leaves a gap.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

BLOCKS = 4  # columns of classes beside each other
STEP, LABEL, HEAD = 34, 120, 18  # pixels: from picture to picture, width of a name, height of the families' names
COLOURS = 128  # of the sheet, which keeps the file small
TITLES = {"Icons": "P", "IconsRemix": "R", "IconsMaterial": "M", "IconsFluent": "F", "IconsFontAwesome": "A"}


def draw(root: str, path: Path) -> None:
    """`root` is the folder of the data sets, which are written there if they are missing."""
    from PIL import Image, ImageDraw, ImageFont

    from datasets.builtin.drawing import font_file
    from datasets.builtin.files import write_once
    from datasets.table import ROWS

    shown: dict[str, dict[str, Path]] = {}
    for row in (row for row in ROWS if row.name in TITLES):
        folder, split = Path(root, row.folder), f"split_zhou_{row.name}.json"
        write_once(folder, split, row.write)
        shown[row.name] = {}
        for file, _, name in json.loads((folder / split).read_text(encoding="utf-8"))["test"]:
            shown[row.name].setdefault(name, folder / "images" / file)
    names = [*shown["Icons"]]
    rows, width = -(-len(names) // BLOCKS), LABEL + STEP * len(shown) + 8
    sheet = Image.new("RGB", (BLOCKS * width, HEAD + rows * STEP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(font_file("DejaVuSans"), 12)
    for number, name in enumerate(names):
        left, top = number // rows * width, HEAD + number % rows * STEP
        pen.text((left + 4, top + 10), name, fill="black", font=font)
        for column, (family, files) in enumerate(shown.items()):
            at = left + LABEL + column * STEP
            pen.text((at + 11, 2), TITLES[family], fill="black", font=font)
            if name in files:
                with Image.open(files[name]) as picture:
                    sheet.paste(picture, (at, top + 1))
    sheet.quantize(COLOURS).save(path, optimize=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=str(ROOT / "data"), help="folder of the data sets (data)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/icons.png", help="the sheet (docs/icons.png)")
    args = parser.parse_args(argv)
    from trainers.prompting.errors import InputError

    try:
        draw(args.root, args.output)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
