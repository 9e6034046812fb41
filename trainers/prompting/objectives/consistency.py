"""CoPrompt's objective: prompted features consistent with the frozen CLIP's of another view and of descriptions.

Roy and Etemad, "Consistency-guided Prompt Learning for Vision-Language Models", ICLR 2024, arXiv 2306.01195. It trains
any learner, with adapters after both towers.

Differences from the authors' code: classes may have different numbers of descriptions; the command line overrules the
adapters' shares and the settings of each data set, which are configuration keys and files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.adapters import FeatureAdapter
from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP
from ..declaration import MOST_WEIGHT, Recipes, Settings, setting
from ..learners import bmip, maple
from .descriptions import check_lengths, describe, descriptions_setting, find_descriptions
from .objective import (
    SENTENCES_TOGETHER,
    Loss,
    Objective,
    cosine_distance,
    encode_in_steps,
    frozen_image_features,
    register_objective,
)

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "mse": lambda features, teacher: (features - teacher).square().mean(),
}
SHARE = dict(root=True, least=0.0, most=1.0, tested=True)


@dataclass(frozen=True)
class ConsistencyConfig(Settings):
    """Settings of the distances to the teachers, and of the adapters."""

    weight: float = setting(
        8.0, "TRAINER.W", "CoPrompt's weight of the distances to the teachers", root=True, least=0.0, most=MOST_WEIGHT
    )
    distance: str = setting(
        "cosine", "TRAINER.DISTILL", "CoPrompt's distance to them: cosine or mse", root=True, choices=tuple(DISTANCES)
    )
    image_share: float = setting(
        0.1, "TRAINER.CoPrompt.IMAGE_ADAPTER_SHARE", "share of the adapter's answer in the image features", **SHARE
    )
    text_share: float = setting(
        0.2, "TRAINER.CoPrompt.TEXT_ADAPTER_SHARE", "share of the adapter's answer in the text features", **SHARE
    )
    descriptions: str = descriptions_setting()


@register_objective
class Consistency(Objective):
    """Cross-entropy on one view of the image; distances from the frozen CLIP on another view, and on descriptions.

    Each step draws one description of each class; classes with equal numbers of descriptions get the same index, as in
    the authors' code.
    """

    name = "consistency"
    summary = (
        "+ cosine distance of image features from the frozen CLIP's of another view, and of class features from those "
        "of a description of the class"
    )
    Config = ConsistencyConfig
    views = 2
    recordable = True
    venue, arxiv = "ICLR 2024", "2306.01195"

    # Made by `prepare`: normalised features of all descriptions, class by class, [descriptions, embed] in fp32;
    # [classes], each class's number of descriptions and first row; and the number below 1 drawn for the step.
    described: Tensor
    counts: Tensor
    starts: Tensor
    drawn: Tensor

    def describe(self, classnames: Sequence[str]) -> Sequence[Sequence[str]]:
        """The sentences about each class."""
        return describe(self.run.dataset, self.config.descriptions, classnames)

    def check_training(self) -> None:
        find_descriptions(self.run.dataset, self.config.descriptions)

    def extend(self, learner: PromptLearner, clip_model: nn.Module) -> None:
        width = clip_model.text_projection.shape[1]
        shares = {"image": self.config.image_share, "text": self.config.text_share}
        learner.adapters = nn.ModuleDict({tower: FeatureAdapter(width, share) for tower, share in shares.items()})

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        by_class = self.describe(classnames)
        sentences = [sentence for described in by_class for sentence in described]
        print(f"Encoding {len(sentences)} descriptions of {len(by_class)} classes")
        check_lengths(classnames, by_class, model.clip_model)
        encoded = list(encode_in_steps(model.clip_model, sentences, SENTENCES_TOGETHER, model.precision))
        self.described = F.normalize(torch.cat(encoded), dim=-1)
        self.counts = torch.tensor([len(described) for described in by_class], device=self.described.device)
        self.starts = self.counts.cumsum(0) - self.counts
        self.drawn = torch.zeros((), dtype=torch.float64, device=self.described.device)

    def before_step(self) -> None:
        """Draw from Python's generator."""
        self.drawn.fill_(random.random())

    def drawn_features(self) -> Tensor:
        """The teacher's features of one description per class, `[classes, embed]`."""
        # In double precision, a number below 1 times a count stays below the count.
        chosen = self.starts + (self.drawn * self.counts.double()).long()
        return self.described[chosen]

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features, class_features = model.features(views[0])
        logits = model.logits(image_features, class_features)
        teacher_image = frozen_image_features(model, views[1])
        distance, weight = DISTANCES[self.config.distance], self.config.weight
        terms = {
            "loss_ce": F.cross_entropy(logits, labels),
            "loss_text": weight * distance(class_features, self.drawn_features()),
            "loss_image": weight * distance(image_features, teacher_image),
        }
        return Loss(sum(terms.values()), logits, terms)


METHOD = maple.METHOD.trained_by(
    Consistency,
    "CoPrompt",
    summary="MaPLe's prompts, and an adapter after each tower, consistent with the frozen CLIP",
    node="CoPrompt",
    recipes=Recipes("coprompt"),
    venue=Consistency.venue,
    arxiv=Consistency.arxiv,
)
STACKED = bmip.METHOD.trained_by(
    Consistency,
    "CoPrompt_BMIP",
    summary="BMIP's prompts, and adapters, trained as CoPrompt's (the paper's claim that BMIP stacks)",
    recipes=Recipes("vit_b16_ep8_batch4_2ctx"),
)
