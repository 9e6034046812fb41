"""Pictures of a report for docs, with the browser of the system.

    bash scripts/bmip/base2new_train.sh
    python scripts/report.py --models output/base2new/train_base/icons/shots_16/*/*/seed1
    python scripts/tools/picture_report.py [PAGE] [--output FOLDER]

Writes report_wide.png (1400 pixels, light), report_narrow.png (420 pixels, dark), report_figures.png and
report_models.png into docs/. Needs playwright (requirements-dev.txt) and Chromium or Chrome, and downloads neither.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 256  # of a picture, so that it stays small
# Width, colours, the part at whose top it begins, and height.
PICTURES = {
    "wide": (1400, "light", "header", 1000),
    "narrow": (420, "dark", "header", 1250),
    "figures": (1400, "light", "#figures", 1000),
    "models": (1400, "light", "#models", 1000),
}


def main() -> int:
    """Exit status: 0 done, 1 without a browser or a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "output" / "report.html")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="FOLDER")
    args = parser.parse_args()
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None or not args.page.is_file():
        missing = f"none of {', '.join(PROGRAMS)}" if program is None else f"no page {args.page}"
        print(f"error: there is {missing}", file=sys.stderr)
        return 1
    from PIL import Image  # these here, because help needs none
    from playwright.sync_api import sync_playwright

    args.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, (width, scheme, start, height) in PICTURES.items():
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto(args.page.resolve().as_uri())
            if not tab.locator(start).count():
                print(f"note: {args.page} has no {start}, so there is no picture of it", file=sys.stderr)
                continue
            tab.add_style_tag(content="html { scroll-behavior: auto }")
            tab.locator(start).first.evaluate("one => scrollTo(0, one.getBoundingClientRect().top - 16)")
            shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            path = args.output / f"report_{name}.png"
            shot.save(path, optimize=True)
            print(f"{path}, {path.stat().st_size / 1024:.0f} KiB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
