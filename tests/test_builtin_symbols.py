"""`Symbols` and its variants, written with fewer pictures per class than the real ones to stay fast."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from datasets.builtin import symbols
from datasets.builtin.drawing import PICTURE, SANS, fonts_with
from datasets.builtin.glyphs import DIGITS, OTHERS, SYMBOLS
from datasets.table import ROWS

VARIANTS = [row for row in ROWS if row.name.startswith("Symbols")]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """Each variant's folder by its registered name."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symbols, "PER_CLASS", {"train": 2, "val": 1, "test": 1})
        for row in VARIANTS:
            folders[row.name] = tmp_path_factory.mktemp(row.folder)
            row.write(folders[row.name], "split.json")
    return folders


def fingerprint(folder: Path) -> list[tuple[str, str]]:
    files = sorted((folder / "images").rglob("*.png"))
    return [(str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def test_there_are_enough_classes_with_names_of_their_own():
    names = [*DIGITS, *SYMBOLS, *OTHERS]
    chars = [*DIGITS.values(), *SYMBOLS.values(), *OTHERS.values()]
    assert len(SYMBOLS) >= 48
    assert len(set(names)) == len(set(chars)) == len(names)


@pytest.mark.parametrize("name", SYMBOLS)
def test_the_shipped_font_has_the_glyph(name):
    assert fonts_with(SYMBOLS[name], SANS) == SANS


def test_every_class_has_its_share_of_every_split(written):
    assert symbols.PER_CLASS == {"train": 24, "val": 6, "test": 30}
    for folder in written.values():
        splits = json.loads((folder / "split.json").read_text())
        assert {split: len(rows) / len(SYMBOLS) for split, rows in splits.items()} == {"train": 2, "val": 1, "test": 1}
        for path, label, name in splits["train"][::40]:
            assert name == list(SYMBOLS)[label]
            with Image.open(folder / "images" / path) as image:
                assert (image.mode, image.size) == ("RGB", (PICTURE, PICTURE))


def test_variants_share_classes_and_order_but_no_picture(written):
    splits = [(folder / "split.json").read_text() for folder in written.values()]
    assert len(set(splits)) == 1
    digests = [digest for folder in written.values() for _, digest in fingerprint(folder)]
    assert len(set(digests)) == len(digests)


def test_writing_again_gives_the_same_files(written, tmp_path, monkeypatch):
    monkeypatch.setattr(symbols, "PER_CLASS", {"train": 2, "val": 1, "test": 1})
    VARIANTS[0].write(tmp_path, "split.json")
    assert fingerprint(tmp_path) == fingerprint(written["Symbols"])
