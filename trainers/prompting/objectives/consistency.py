"""CoPrompt's objective: prompted features consistent with the frozen CLIP's of another view, and of descriptions.

Roy and Etemad, "Consistency-guided Prompt Learning for Vision-Language Models", ICLR 2024, arXiv 2306.01195. It fits
any learner, and gives it adapters behind both towers.

Differences from the authors' code: classes may have different numbers of descriptions; the adapters' shares and the
settings of each data set are configuration keys and files, which the command line overrules.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.adapters import FeatureAdapters
from ..core.class_tokens import tokenize_sentences
from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP
from ..errors import InputError
from .descriptions import KEY
from .objective import (
    SENTENCES_TOGETHER,
    Loss,
    Objective,
    cosine_distance,
    encode_in_steps,
    frozen_image_features,
)

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "mse": lambda features, teacher: (features - teacher).square().mean(),
}
SHOWN_CHARACTERS = 60
SHARE_KEYS = "TRAINER.CoPrompt.IMAGE_ADAPTER_SHARE", "TRAINER.CoPrompt.TEXT_ADAPTER_SHARE"


def check_length(path: Path, name: str, sentences: Sequence[str], context_length: int) -> None:
    """Raises InputError if a sentence about class `name` has more tokens than the text tower takes."""
    for sentence in sentences:
        try:
            tokenize_sentences([sentence], context_length)
        except InputError as error:
            raise InputError(
                f"{path}: a description of {name!r} has more than the {context_length} tokens of this backbone: "
                f"{sentence[:SHOWN_CHARACTERS]!r}... Shorten it, or name another file in {KEY}."
            ) from error


@dataclass(frozen=True)
class ConsistencyConfig:
    """Settings; names in messages are those of the configuration keys.

    Attributes:
        weight: of the distances to the teachers.
        distance: a key of `DISTANCES`.
        image_share, text_share: of the adapters' answers in the features.
    """

    weight: float = 8.0
    distance: str = "cosine"
    image_share: float = 0.1
    text_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InputError(f"TRAINER.W is {self.weight}; set it to a finite number, 0.0 or more.")
        if self.distance not in DISTANCES:
            raise InputError(f"TRAINER.DISTILL is {self.distance!r}; set it to one of {', '.join(DISTANCES)}.")


class Consistency(Objective):
    """Cross-entropy on one view of the image; distance to the frozen CLIP on another, and to a described class.

    Each step draws a description of each class; classes with the same number of them get the same one's number, so
    with equal numbers all do, as in the authors' code.

    Args:
        config: settings.
        describe: from class names to the sentences of each.
        find: gives the file that they are from, where there is one; fails where one is asked for that cannot be read.
    """

    views = 2
    tested_keys = SHARE_KEYS

    def __init__(
        self,
        config: ConsistencyConfig,
        describe: Callable[[Sequence[str]], Sequence[Sequence[str]]],
        find: Callable[[], Path | None] = lambda: None,
    ):
        self.config = config
        self.describe = describe
        self.find = find
        # Made by `prepare`: normalised features of all descriptions, class by class, [descriptions, embed] in fp32;
        # and on the CPU, [classes], how many a class has, and the row of its first.
        self.described: Tensor | None = None
        self.counts: Tensor | None = None
        self.starts: Tensor | None = None

    def check_training(self) -> None:
        self.find()

    def settings(self) -> dict[str, Any]:
        config = self.config
        shares = dict(zip(SHARE_KEYS, (config.image_share, config.text_share)))
        return {"TRAINER.W": config.weight, "TRAINER.DISTILL": config.distance, **shares}

    def extend(self, learner: PromptLearner, clip_model: nn.Module) -> None:
        width = clip_model.text_projection.shape[1]
        learner.adapters = FeatureAdapters(width, self.config.image_share, self.config.text_share, SHARE_KEYS)

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        by_class = self.describe(classnames)
        sentences = [sentence for described in by_class for sentence in described]
        print(f"Encoding {len(sentences)} descriptions of {len(by_class)} classes")
        path = self.find()
        for name, described in zip(classnames, by_class if path else ()):
            check_length(path, name, described, model.clip_model.context_length)
        encoded = list(encode_in_steps(model.clip_model, sentences, SENTENCES_TOGETHER, model.precision))
        self.described = F.normalize(torch.cat(encoded), dim=-1)
        self.counts = torch.tensor([len(described) for described in by_class])
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self) -> Tensor:
        """The teacher's features of a described class, `[classes, embed]`; draws from Python's generator.

        `prepare` must have been called.
        """
        # In double precision, in which a number below 1 times a count stays below the count.
        chosen = self.starts + (random.random() * self.counts.double()).long()
        return self.described[chosen.to(self.described.device)]

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features, class_features = model.features(views[0])
        logits = model.logits(image_features, class_features)
        teacher_image = frozen_image_features(model, views[1])
        distance, weight = DISTANCES[self.config.distance], self.config.weight
        terms = {
            "loss_ce": F.cross_entropy(logits, labels),
            "loss_text": weight * distance(class_features, self.draw()),
            "loss_image": weight * distance(image_features, teacher_image),
        }
        return Loss(sum(terms.values()), logits, terms)
