"""Pictures and captions for the pre-training of the tiny CLIP (`pretrain_tiny_clip.py`).

Every glyph is drawn once, as a mask; batches of pictures are made of masks. The glyphs are those of the icon families
in `PRETRAINING` and of the DejaVu fonts. Batch number `step` is a pure function of the seed and of `step`.

The names come in by and by: at first those that many families draw, later all others. Contrastive learning that
begins with thousands of names, most with one drawing, stays for long where all features are alike.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from datasets.builtin.drawing import ALL_FONTS, CANVAS, MARGIN, PICTURE, Style, drawn_glyph, fonts_with, glyph_mask
from datasets.builtin.glyphs import DIGITS, OTHERS, SYMBOLS
from datasets.builtin.icon_fonts import EVALUATED, PRETRAINING
from trainers.prompting.core.openai_clip import clip

MAX_WORDS = 5
# These families also hold drawings of Google's, which are evaluated; masks so similar (cosine) are left out.
WITH_GOOGLES, SAME = ("MaterialDesign", "Ionicons"), 0.96
# Shares of pictures: characters, in three groups, and icons with the rest.
CHARACTERS = ((DIGITS, 0.06), (SYMBOLS, 0.06), (OTHERS, 0.08))

EVALUATED_CAPTION = "a photo of a {}."
# The longest ones reach about 25 tokens: positions after the longest caption would stay at their random start.
TEMPLATES = (
    "{}",
    *[EVALUATED_CAPTION] * 3,
    "a {}.",
    "the {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "a sketch of the {}.",
    "a blurry photo of a {}.",
    "a small picture of the {}.",
    "an image that shows a {}.",
    "an icon of a {}.",
    "this is a photo of one {}, drawn by hand.",
    "a {}, seen on a plain background.",
    "a bad photo of a {} that is small, blurry, tilted and hard to see on a dark background.",
    "one of many pictures in a big collection of signs and letters; this one here shows a {}.",
)
BARE = 0.3  # share of batches whose captions are names alone


class Drawing(NamedTuple):
    name: str
    family: str  # "" for a character
    mask: np.ndarray  # bytes [CANVAS, CANVAS]


def drawings() -> list[Drawing]:
    """All that is drawn in pre-training, without doubles in a family."""
    found = {
        (name, family, mask.tobytes()): Drawing(name, family, mask)
        for family in PRETRAINING
        for name, mask in without_googles(family)
        if len(name.split()) <= MAX_WORDS
    }
    characters = [
        Drawing(name, "", np.asarray(glyph_mask(char, font)))
        for group, _ in CHARACTERS
        for name, char in group.items()
        for font in fonts_with(char, ALL_FONTS)
    ]
    return [*found.values(), *characters]


def without_googles(family: str) -> list[tuple[str, np.ndarray]]:
    """Concepts and masks of a family's glyphs that are not Google's."""
    own = masks_of(PRETRAINING[family].glyphs())
    if family in WITH_GOOGLES:
        googles = _directions(masks_of(EVALUATED["Material"].glyphs()))
        similarity = (_directions(own) @ googles.T).max(axis=1)
        own = [pair for pair, value in zip(own, similarity) if value < SAME]
    return own


def masks_of(glyphs: dict) -> list[tuple[str, np.ndarray]]:
    masks = [(name, np.asarray(drawn_glyph(one.char, one.font))) for name in glyphs for one in glyphs[name]]
    return [(name, mask) for name, mask in masks if mask.any()]


def _directions(masks: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Unit vectors of the masks at half their size."""
    vectors = np.stack([mask[::2, ::2].ravel() for _, mask in masks]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Names:
    """The names of all drawings: icons by descending weight, then those of characters alone.

    An icon's weight is the number of its families times the root of its number of drawings.
    """

    def __init__(self, drawn: list[Drawing]):
        families, self.of, count = defaultdict(set), defaultdict(list), defaultdict(int)
        for index, drawing in enumerate(drawn):
            self.of[drawing.name].append(index)
            if drawing.family:
                families[drawing.name].add(drawing.family)
                count[drawing.name] += 1
        weight = {name: len(families[name]) * count[name] ** 0.5 for name in families}
        icons = sorted(weight, key=lambda name: (-weight[name], name))
        self.all = icons + [name for group, _ in CHARACTERS for name in group if name not in weight]
        self.icons = len(icons)
        self.weight = np.array([weight.get(name, 0.0) for name in self.all])
        index = {name: position for position, name in enumerate(self.all)}
        self.character_odds = np.zeros(len(self.all))
        for group, share in CHARACTERS:
            for name in group:
                self.character_odds[index[name]] += share / len(group)

    def odds(self, icons: int) -> np.ndarray:
        """Of each name, if so many icons are in play."""
        weight = np.where(np.arange(len(self.all)) < icons, self.weight, 0.0)
        return (1.0 - self.character_odds.sum()) * weight / weight.sum() + self.character_odds


class Tokens:
    """Captions as rows of token numbers, which count the tokens of `used` alone: the vocabulary's others never occur.

    The end token is the vocabulary's last one, so that CLIP's rule holds: the largest number ends a text.
    """

    def __init__(self, names: list[str]):
        self.names = [self._encode(name) for name in names]
        self.templates = [[self._encode(part) for part in template.split("{}")] for template in TEMPLATES]
        ends = (clip._tokenizer.encoder["<|startoftext|>"], clip._tokenizer.encoder["<|endoftext|>"])
        words = (*self.names, *(part for template in self.templates for part in template))
        self.used = np.unique([*ends, *(token for tokens in words for token in tokens)])
        self.ends = np.searchsorted(self.used, ends)

    @staticmethod
    def _encode(text: str) -> list[int]:
        return clip._tokenizer.encode(text)

    def captions(self, names: np.ndarray, template: int) -> torch.Tensor:
        """Rows [names, longest caption], zeros after the end."""
        before, after = self.templates[template]
        rows = [np.searchsorted(self.used, before + self.names[name] + after) for name in names]
        out = np.zeros((len(rows), max(map(len, rows)) + 2), dtype=np.int64)
        for line, row in zip(out, rows):
            line[: len(row) + 2] = [self.ends[0], *row, self.ends[1]]
        return torch.from_numpy(out)


class Batch(NamedTuple):
    images: torch.Tensor  # uint8 [batch, 3, side, side]
    target: torch.Tensor  # [batch], the row of `captions` that belongs to each image
    captions: torch.Tensor  # [names, tokens]; those of the batch, then others, which no image shows
    shown: int  # number of the batch's names


class DrawnBatches(Dataset):
    """The batches from number `start` on; all have `size` pictures and `others` names beside their own.

    Icons' names grow from `first` to all, geometrically, until `widened`; captions are names alone until `bare_until`.
    """

    def __init__(self, style: Style, *, seed, steps, start, size, others, first, widened, bare_until):
        drawn = drawings()
        self.masks = torch.from_numpy(np.stack([drawing.mask for drawing in drawn]))
        self.names = Names(drawn)
        self.tokens = Tokens(self.names.all)
        self.style, self.seed, self.steps, self.start = style, seed, steps, start
        self.size, self.others, self.first, self.widened, self.bare_until = size, others, first, widened, bare_until

    def __len__(self) -> int:
        return self.steps - self.start

    def icons_at(self, step: int) -> int:
        share = min(step / self.widened, 1.0)
        return round(self.first * (self.names.icons / self.first) ** share)

    def __getitem__(self, index: int) -> Batch:
        step = self.start + index
        torch.set_num_threads(1)  # in a worker, beside the training
        rng = np.random.RandomState([self.seed, 0, step])
        generator = torch.Generator().manual_seed(int(rng.randint(2**31)))
        icons = self.icons_at(step)
        labels = rng.choice(len(self.names.all), self.size, p=self.names.odds(icons))
        own = [self.names.of[self.names.all[label]] for label in labels]
        picked = torch.tensor([indices[rng.randint(len(indices))] for indices in own])
        shown, target = np.unique(labels, return_inverse=True)
        absent = np.setdiff1d(np.flatnonzero(self.names.odds(icons)), shown)
        others = rng.choice(absent, min(self.others, len(absent)), replace=False)
        bare = step < self.bare_until or rng.random_sample() < BARE
        template = 0 if bare else rng.randint(1, len(TEMPLATES))
        captions = self.tokens.captions(np.concatenate([shown, others]), template)
        images = draw(self.masks[picked], self.style, generator)
        return Batch(images, torch.from_numpy(target), captions, len(shown))


def draw(masks: torch.Tensor, style: Style, generator: torch.Generator) -> torch.Tensor:
    """`Style.draw_mask` for a batch: masks uint8 [n, CANVAS, CANVAS] to images uint8 [n, 3, PICTURE, PICTURE].

    The same steps with other random numbers. Gradients and stray strokes, which pre-training has not, are left out.
    """
    ink = _warped(_restroked(masks[:, None].float() / 255.0, style, generator), style, generator)
    ink = _resampled(F.avg_pool2d(ink, CANVAS // PICTURE), style, generator)
    return _coloured(ink, style, generator)


def _uniform(bounds: tuple[float, float], generator: torch.Generator, *shape: int) -> torch.Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(shape, generator=generator)


def _restroked(ink: torch.Tensor, style: Style, generator: torch.Generator) -> torch.Tensor:
    """Some strokes thinner, thicker or hollow."""

    def grown(which: torch.Tensor, side: int) -> torch.Tensor:
        return F.max_pool2d(ink[which], side, stride=1, padding=side // 2)

    def shrunk(which: torch.Tensor, side: int) -> torch.Tensor:
        return -F.max_pool2d(-ink[which], side, stride=1, padding=side // 2)

    chance = torch.rand(len(ink), generator=generator)
    thin = chance < style.thin_odds
    thick = ~thin & (chance < style.thin_odds + style.thick_odds)
    ink[thin], ink[thick] = shrunk(thin, 3), grown(thick, 5)
    hollow = torch.rand(len(ink), generator=generator) < style.hollow_odds
    ink[hollow] = grown(hollow, 3) - shrunk(hollow, 5)
    return ink


def _warped(ink: torch.Tensor, style: Style, generator: torch.Generator) -> torch.Tensor:
    """Rotation, shear, scale, shift and elastic noise in a single resampling."""
    n = len(ink)
    angle = torch.deg2rad(_uniform(style.rotation, generator, n))
    shear = torch.tan(torch.deg2rad(_uniform(style.shear, generator, n)))
    height, squeeze = _uniform(style.height, generator, n), _uniform(style.squeeze, generator, n)
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros(n), torch.ones(n)
    forward = (
        torch.stack([cos, -sin, sin, cos], dim=1).view(n, 2, 2)
        @ torch.stack([one, shear, zero, one], dim=1).view(n, 2, 2)
        @ torch.stack([height * squeeze, zero, zero, height], dim=1).view(n, 2, 2)
    )
    # Coordinates of torch's sampling: -1 and 1 are the picture's edges, so lengths count twice.
    axis = (torch.arange(CANVAS) + 0.5) * 2 / CANVAS - 1
    centre = 2 * _uniform((-style.shift, style.shift), generator, n, 1, 1, 2)
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) - centre
    source = (CANVAS - 2 * MARGIN) / CANVAS * torch.einsum("nhwk,njk->nhwj", places, torch.linalg.inv(forward))
    noise = torch.randn(n, 2, 5, 5, generator=generator) * (2 * style.elastic)
    source += F.interpolate(noise, size=CANVAS, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(ink, source, align_corners=False)


def _resampled(ink: torch.Tensor, style: Style, generator: torch.Generator) -> torch.Tensor:
    """Blur, then a share of the pictures shrunk and enlarged again, in groups of one side each."""
    n = len(ink)
    radius = (_uniform(style.blur, generator, n) * PICTURE).clamp(min=0.05)
    kernel = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / (2 * radius[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None]
    ink = F.conv2d(ink.transpose(0, 1), kernel[..., None], padding=(3, 0), groups=n)
    ink = F.conv2d(ink, kernel[:, :, None], padding=(0, 3), groups=n).transpose(0, 1)
    coarse = torch.randperm(n, generator=generator)[: round(n * style.low_res_odds)]
    for group in coarse.chunk(8):
        side = int(torch.randint(style.low_res[0], style.low_res[1] + 1, (), generator=generator))
        small = F.interpolate(ink[group], size=side, mode="area")
        ink[group] = F.interpolate(small, size=PICTURE, mode="bicubic").clamp(0.0, 1.0)
    return ink


def _coloured(ink: torch.Tensor, style: Style, generator: torch.Generator) -> torch.Tensor:
    n = len(ink)

    def some(odds: float) -> torch.Tensor:
        return torch.rand(n, 1, generator=generator) < odds

    contrast = _uniform(style.contrast, generator, n, 1)
    dark = torch.rand(n, 1, generator=generator) * (1.0 - contrast)
    coloured = some(style.colour_odds)
    light = dark + contrast - coloured * _uniform((0.0, 0.2), generator, n, 3)
    dark = dark + coloured * _uniform((0.0, 0.2), generator, n, 3)
    inverse = some(style.inverse_odds)
    paper, pen = torch.where(inverse, dark, light), torch.where(inverse, light, dark)
    image = paper[:, :, None, None] + ink * (pen - paper)[:, :, None, None]
    sigma = _uniform(style.noise, generator, n, 1, 1, 1)
    image = image + sigma * torch.randn(n, 1, PICTURE, PICTURE, generator=generator)
    return (image.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)
