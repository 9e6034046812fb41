"""Drawing is a pure function of character, style and generator, and every field of a style acts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.builtin.drawing import ALL_FONTS, STYLES, Style, fonts_with

PLAIN = Style(fonts=("DejaVuSans",), height=(0.8, 0.8), contrast=(1.0, 1.0))


def pixels(style: Style, char: str = "★", seed: int = 3) -> np.ndarray:
    return np.asarray(style.draw(char, np.random.RandomState(seed)))


@pytest.mark.parametrize("name", STYLES)
def test_the_same_seed_draws_the_same_picture(name):
    assert np.array_equal(pixels(STYLES[name]), pixels(STYLES[name]))
    assert not np.array_equal(pixels(STYLES[name]), pixels(STYLES[name], seed=4))


def test_a_plain_glyph_is_black_on_white():
    image = pixels(PLAIN, "■")
    assert image[0, 0].tolist() == [255] * 3 and image[16, 16].tolist() == [0] * 3


def test_height_is_a_share_of_the_picture():
    rows = np.flatnonzero((pixels(replace(PLAIN, height=(0.5, 0.5)), "■") < 128).any(axis=(1, 2)))
    assert rows[-1] - rows[0] + 1 == 16


@pytest.mark.parametrize(
    "change",
    [
        {"fonts": ("DejaVuSans-Bold",)},
        {"rotation": (20, 20)},
        {"shear": (20, 20)},
        {"height": (0.5, 0.5)},
        {"squeeze": (0.5, 0.5)},
        {"shift": 0.2},
        {"elastic": 0.05},
        {"thin_odds": 1.0},
        {"thick_odds": 1.0},
        {"hollow_odds": 1.0},
        {"blur": (0.03, 0.03)},
        {"low_res_odds": 1.0},
        {"low_res_odds": 1.0, "low_res": (9, 9)},
        {"colour_odds": 1.0},
        {"inverse_odds": 1.0},
        {"contrast": (0.5, 0.5)},
        {"gradient": (0.5, 0.5)},
        {"noise": (0.2, 0.2)},
        {"strokes": (2, 2)},
    ],
    ids=lambda change: "+".join(change),
)
def test_every_field_of_a_style_changes_the_picture(change):
    assert not np.array_equal(pixels(PLAIN, "α"), pixels(replace(PLAIN, **change), "α"))


def test_a_font_without_the_glyph_is_not_used_and_a_character_in_no_font_is_an_error():
    assert "DejaVuSerif" not in fonts_with("☂", ALL_FONTS)
    with pytest.raises(ValueError, match=r"U\+3042"):
        fonts_with("あ", ALL_FONTS)


def test_drawing_does_not_need_torch():
    folder = Path(__file__).parent.parent / "datasets" / "builtin"
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import drawing, numpy; "
        "drawing.STYLES['sketch'].draw('A', numpy.random.RandomState(0)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
