"""Facts of a CLIP that OpenAI's module does not hold: its words, its readout, its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .words import Words

# OpenAI's normalisation of CLIP's training images, by channel.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Images:
    """How the images that a checkpoint was trained on were prepared.

    Attributes:
        side: of the square input in pixels.
        mean, std: of the normalisation, by channel; pixels are 0 to 1.
        interpolation: of the resizing, in Dassl's words.
    """

    side: int
    mean: tuple[float, ...] = PIXEL_MEAN
    std: tuple[float, ...] = PIXEL_STD
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class Design:
    """The design of a CLIP where it may differ from OpenAI's; `load_clip` sets it as the model's `design`.

    Attributes:
        images: see `Images`; None: a file that does not tell, so OpenAI's in the size of the vision tower.
        words: the tokeniser; None: OpenAI's.
        causal: a token of the text tower sees only itself and earlier ones.
        reads_last: the text feature is read at the last token of the context, padding or not; else at the end of the
            sentence.
        pooled: those of the vision tower's tokens that its module `pool` turns into the feature, after the last layer;
            prompts are never among them. None: the feature is that of the class token, and there is no such module.
        whole_image_tower: `visual` is called as it is, in fp32, because no prompts can enter it.
    """

    images: Images | None = None
    words: Words | None = None
    causal: bool = True
    reads_last: bool = False
    pooled: slice | None = None
    whole_image_tower: bool = False

    @property
    def cut_at_end(self) -> bool:
        """Tokens after a sentence's end cannot reach its feature."""
        return self.causal and not self.reads_last


OPENAI = Design()


def design_of(model: nn.Module) -> Design:
    """A CLIP's design; OpenAI's for a bare module of OpenAI's."""
    return getattr(model, "design", OPENAI)


def images_of(model: nn.Module) -> Images:
    """How a CLIP wants its images prepared."""
    return design_of(model).images or Images(model.visual.input_resolution)
