"""Draw glyphs of the DejaVu fonts in named styles; needs no torch.

The drawn data sets (`symbols.py`) and the pre-training of the tiny CLIP (`scripts/tools/pretrain_tiny_clip.py`) share
this code. A picture is a pure function of character, style and random generator, a `numpy.random.RandomState`: numpy
guarantees its stream, while that of `default_rng` may change between versions.

A style is an entry of `STYLES`. The steps: glyph mask, stroke, affine and elastic warp, blur, low resolution, colours
and noise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

SANS = ("DejaVuSans", "DejaVuSans-Bold")
ALL_FONTS = (
    *SANS,
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
)

CANVAS = 64  # side of the working mask; twice the picture's side, so that the last step always averages
MARGIN = 4  # of the working mask, on all sides: room for thicker or hollow strokes
PICTURE = 32  # side of a finished picture: the tiny CLIP's input resolution
GRID = 4  # the warp moves the corners of GRID x GRID cells
_STEPS = [CANVAS * i // GRID for i in range(GRID + 1)]
NODES = np.stack(np.meshgrid(_STEPS, _STEPS), axis=-1)  # [row, column, (x, y)] of the cells' corners
CELLS = [(x, y, x + CANVAS // GRID, y + CANVAS // GRID) for y in _STEPS[:-1] for x in _STEPS[:-1]]


@dataclass(frozen=True)
class Style:
    """Parameters of drawing. Pairs are ranges of a uniform draw; `*_odds` are probabilities.

    Lengths are fractions of the picture's side, angles are degrees, grey levels run from 0 to 1.
    """

    fonts: tuple[str, ...] = SANS
    rotation: tuple[float, float] = (0.0, 0.0)
    shear: tuple[float, float] = (0.0, 0.0)
    height: tuple[float, float] = (0.8, 0.9)  # the glyph's larger side
    squeeze: tuple[float, float] = (1.0, 1.0)  # width over height, relative to the font's
    shift: float = 0.0  # largest offset of the centre, to either side
    elastic: float = 0.0  # standard deviation of the warp
    thin_odds: float = 0.0  # strokes made thinner
    thick_odds: float = 0.0  # strokes made thicker
    hollow_odds: float = 0.0  # only the outline remains
    blur: tuple[float, float] = (0.0, 0.0)  # Gaussian radius
    low_res_odds: float = 0.0  # shrunk and enlarged again
    low_res: tuple[int, int] = (8, 24)  # side after shrinking
    colour_odds: float = 0.0  # coloured rather than grey
    inverse_odds: float = 0.0  # light on dark rather than dark on light
    contrast: tuple[float, float] = (0.9, 1.0)  # grey distance of ink and paper
    gradient: tuple[float, float] = (0.0, 0.0)  # grey distance of two opposite edges of the paper
    noise: tuple[float, float] = (0.0, 0.0)  # standard deviation of pixel noise
    strokes: tuple[int, int] = (0, 0)  # stray lines drawn across, in ink

    def draw(self, char: str, rng: np.random.RandomState) -> Image.Image:
        """One RGB picture of `char` in one of the style's fonts, `PICTURE` pixels a side."""
        fonts = fonts_with(char, self.fonts)
        return self.draw_mask(glyph_mask(char, fonts[rng.randint(len(fonts))]), rng)

    def draw_mask(self, mask: Image.Image, rng: np.random.RandomState) -> Image.Image:
        """One RGB picture of a glyph's mask, as of `glyph_mask`."""
        mask = self._stray_strokes(self._warped(mask, rng), rng)
        mask = self._resampled(mask, rng)
        return Image.fromarray(self._coloured(np.asarray(mask, dtype=np.float32) / 255.0, rng))

    def _warped(self, mask: Image.Image, rng: np.random.RandomState) -> Image.Image:
        """Stroke changes, then rotation, shear, scale, shift and elastic noise in a single resampling."""
        draw = rng.random_sample()
        if draw < self.thin_odds:
            mask = mask.filter(ImageFilter.MinFilter(3))
        elif draw < self.thin_odds + self.thick_odds:
            mask = mask.filter(ImageFilter.MaxFilter(5))
        if rng.random_sample() < self.hollow_odds:
            mask = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(5)))

        angle = np.deg2rad(rng.uniform(*self.rotation))
        shear = np.tan(np.deg2rad(rng.uniform(*self.shear)))
        height, squeeze = rng.uniform(*self.height), rng.uniform(*self.squeeze)
        forward = (
            np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            @ np.array([[1.0, shear], [0.0, 1.0]])
            @ np.diag([height * squeeze, height])
        )
        centre = CANVAS * (0.5 + rng.uniform(-self.shift, self.shift, 2))
        ink = (CANVAS - 2 * MARGIN) / CANVAS  # a glyph's share of its mask's side
        source = ink * (NODES - centre) @ np.linalg.inv(forward).T + CANVAS / 2
        source += rng.standard_normal(source.shape) * (self.elastic * CANVAS)
        # Pillow takes each cell's source corners from the top left, anticlockwise.
        corners = np.stack([source[:-1, :-1], source[1:, :-1], source[1:, 1:], source[:-1, 1:]], axis=2)
        mesh = list(zip(CELLS, corners.reshape(len(CELLS), 8).tolist()))
        return mask.transform(mask.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)

    def _stray_strokes(self, mask: Image.Image, rng: np.random.RandomState) -> Image.Image:
        if self.strokes[1]:
            mask = mask.copy()
            pen = ImageDraw.Draw(mask)
            for _ in range(rng.randint(self.strokes[0], self.strokes[1] + 1)):
                pen.line([float(v) for v in rng.uniform(0, CANVAS, 4)], fill=int(rng.randint(128, 256)), width=2)
        return mask

    def _resampled(self, mask: Image.Image, rng: np.random.RandomState) -> Image.Image:
        radius = rng.uniform(*self.blur) * CANVAS
        if radius > 0:
            mask = mask.filter(ImageFilter.GaussianBlur(radius))
        if rng.random_sample() < self.low_res_odds:
            side = rng.randint(self.low_res[0], self.low_res[1] + 1)
            mask = mask.resize((side, side), Image.Resampling.BOX)
            return mask.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)
        return mask.resize((PICTURE, PICTURE), Image.Resampling.BOX)

    def _coloured(self, mask: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Mask [side, side] in 0..1 to an image [side, side, 3] of bytes, ink where the mask is 1."""
        contrast = rng.uniform(*self.contrast)
        dark = rng.uniform(0.0, 1.0 - contrast)
        paper, ink = np.full(3, dark + contrast), np.full(3, dark)
        if rng.random_sample() < self.colour_odds:
            paper, ink = paper - rng.uniform(0, 0.2, 3), ink + rng.uniform(0, 0.2, 3)
        if rng.random_sample() < self.inverse_odds:
            paper, ink = ink, paper
        image = paper + mask[:, :, None] * (ink - paper)
        slope = rng.uniform(*self.gradient)
        if slope > 0:
            angle = rng.uniform(0, 2 * np.pi)
            steps = np.linspace(-0.5, 0.5, len(mask))
            ramp = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
            image = image + slope * ramp[:, :, None]
        sigma = rng.uniform(*self.noise)
        if sigma > 0:
            image = image + sigma * rng.standard_normal(mask.shape)[:, :, None]
        return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def font_file(font: str) -> str:
    """The path of a DejaVu font."""
    # Imported here because only drawing needs matplotlib, for its fonts.
    import matplotlib

    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")


@cache
def _characters_of(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_file(font)).get_charmap())


@cache
def fonts_with(char: str, fonts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `fonts` with a glyph for `char`; a ValueError without any, since fonts would draw an empty box."""
    found = tuple(font for font in fonts if ord(char) in _characters_of(font))
    if not found:
        raise ValueError(f"no font of {', '.join(fonts)} has a glyph for {char!r} (U+{ord(char):04X})")
    return found


@cache
def glyph_mask(char: str, font: str) -> Image.Image:
    """`drawn_glyph` of a DejaVu font."""
    return drawn_glyph(char, font_file(font))


@cache
def _face(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, 4 * CANVAS)


def drawn_glyph(char: str, path: str) -> Image.Image:
    """Grey mask, `CANVAS` a side, of the glyph centred and enlarged until its larger side reaches the margins."""
    sheet = Image.new("L", (12 * CANVAS, 12 * CANVAS))
    ImageDraw.Draw(sheet).text((4 * CANVAS, 4 * CANVAS), char, fill=255, font=_face(path))
    ink = sheet.crop(sheet.getbbox())  # the font's own box counts the space beside the glyph
    side = max(ink.size)
    square = Image.new("L", (side, side))
    square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
    mask = Image.new("L", (CANVAS, CANVAS))
    inner = CANVAS - 2 * MARGIN
    mask.paste(square.resize((inner, inner), Image.Resampling.BOX), (MARGIN, MARGIN))
    return mask


_DRAWN = Style(rotation=(-12, 12), height=(0.75, 0.95), shift=0.05, elastic=0.02, contrast=(0.6, 0.9))
_COLOURED = replace(_DRAWN, colour_odds=1.0, inverse_odds=0.5, gradient=(0.2, 0.5))
STYLES = {
    # Pre-training of the tiny CLIP. Low resolutions go down to 8, the side of scikit-learn's digits.
    "pretraining": Style(
        fonts=ALL_FONTS,
        rotation=(-12, 12),
        shear=(-12, 12),
        height=(0.75, 1.05),
        squeeze=(0.65, 1.1),
        shift=0.06,
        elastic=0.03,
        thin_odds=0.1,
        thick_odds=0.2,
        blur=(0.0, 0.03),
        low_res_odds=0.5,
        low_res=(8, 24),
        colour_odds=0.5,
        inverse_odds=0.5,
        contrast=(0.6, 1.0),
        noise=(0.0, 0.04),
    ),
    # The drawn data sets; each style leaves the range of pre-training in another way.
    "outline": replace(_COLOURED, hollow_odds=1.0),
    "sketch": replace(
        _DRAWN,
        fonts=("DejaVuSans",),
        shift=0.03,
        elastic=0.06,
        thin_odds=0.2,
        contrast=(0.7, 1.0),
        noise=(0.02, 0.08),
        strokes=(1, 3),
    ),
    "inverse": replace(
        _COLOURED,
        fonts=("DejaVuSans-Bold",),
        rotation=(-25, 5),
        shear=(-20, 0),
        height=(0.7, 0.95),
        elastic=0.0,
        thick_odds=0.5,
        hollow_odds=0.5,
        inverse_odds=1.0,
    ),
    "noise": replace(_DRAWN, low_res_odds=0.5, low_res=(14, 24), inverse_odds=0.3, noise=(0.06, 0.14)),
    "tilt": replace(_COLOURED, rotation=(15, 35)),
}
