"""Zero-shot CLIP: one sentence per class or the average of several, nothing trained."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from .base import TRAINER_REGISTRY, PromptTrainer
from .prompting.learner import FixedSentence, PromptLearner

# CoOp's sentences by registered data-set name; every other data set gets the first.
DEFAULT_TEMPLATE = "a photo of a {}."
TEMPLATES = {
    "OxfordPets": "a photo of a {}, a type of pet.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "Food101": "a photo of {}, a type of food.",
    "UCF101": "a photo of a person doing {}.",
}
# The seven sentences that OpenAI selected for ImageNet.
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """CLIP as it is, with the data set's sentence (Radford et al., arXiv 2103.00020)."""

    node = "ZEROSHOTCLIP"
    needs_vit = False
    defaults = {"TRAINER": {"ZEROSHOTCLIP": {"PREC": "fp32"}}}

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> PromptLearner:
        return FixedSentence(TEMPLATES.get(cfg.DATASET.NAME, DEFAULT_TEMPLATE))


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """CLIP as it is, with the average of several sentences; on all data sets but ImageNet its own one among them."""

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> PromptLearner:
        own = [] if cfg.DATASET.NAME == "ImageNet" else [TEMPLATES.get(cfg.DATASET.NAME, DEFAULT_TEMPLATE)]
        return FixedSentence(*ENSEMBLE, *own)
