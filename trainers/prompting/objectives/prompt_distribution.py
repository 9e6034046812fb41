"""ProDA's objective: an upper bound of the cross-entropy over a distribution of class features.

Lu et al., "Prompt Distribution Learning", CVPR 2022, arXiv 2205.03340, as BMIP's authors have it in their repository.
The features of a class's sentences are samples of a Gaussian, whose covariance is diagonal in the features. It trains
learners with several sentences of a class.

Their code (`variant="released"`) computes the orthogonality of the contexts, and does not add it to the loss. As it
stands it cannot be tested, nor trained with validation: no caller computes the class features of a test. Here they are
those of all sentences, in both variants. It encodes as many sentences a step as there are images in a batch; here that
is a setting, which need not divide their number.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.prompted_clip import PromptedCLIP
from ..declaration import MOST_TOKENS, MOST_WEIGHT, Settings, setting
from .objective import Loss, Objective, register_objective

VARIANTS = ("paper", "released")


def spread(image_features: Tensor, deviations: Tensor, labels: Tensor) -> Tensor:
    """f^T (S_cc + S_yy - 2 S_yc) f with diagonal covariances S of the classes' features, `[batch, classes]`.

    It is the variance of an image's similarity with class c, taken from that with its own class y; 0 where c is y.

    Args:
        image_features: f, `[batch, embed]`.
        deviations: of the samples from their mean, `[samples, classes, embed]`; S is their sum of products, divided
            by one more than their number.
        labels: y, `[batch]`.
    """
    squares, own = image_features.square(), deviations[:, labels]
    common = ((squares * own) @ deviations.transpose(1, 2)).sum(dim=0)
    of_class = squares @ deviations.square().sum(dim=0).t()
    of_own = (squares * own.square().sum(dim=0)).sum(dim=1, keepdim=True)
    return (of_class + of_own - 2 * common) / (len(deviations) + 1)


def mean_similarity(features: Tensor) -> Tensor:
    """Mean of the absolute cosines of each two of the normalised features `[number, embed]`: a scalar."""
    number = len(features)
    cosines = (features @ features.t()).abs()
    return (cosines.sum() - cosines.diagonal().sum()) / (number * (number - 1))


@dataclass(frozen=True)
class PromptDistributionConfig(Settings):
    """Settings of the loss."""

    variant: str = setting(
        "paper",
        "TRAINER.ProDA.VARIANT",
        "the paper's loss, or that of the authors' code, without the orthogonality of the contexts",
        root=True,
        choices=VARIANTS,
    )
    weight: float = setting(
        0.1,
        "TRAINER.ProDA.ORTHOGONALITY",
        "ProDA's weight of the contexts' similarity, in the paper's loss",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    together: int = setting(
        4,
        "TRAINER.ProDA.PROMPTS_PER_STEP",
        "sentences of each class that a step encodes, in turn",
        root=True,
        least=2,
        most=MOST_TOKENS,
    )


@register_objective
class PromptDistribution(Objective):
    """Cross-entropy of the upper bound's logits, and the similarity of the contexts without a class name.

    Accuracies of steps are those of the mean features alone, since the bound's logits see the labels.
    """

    name = "prompt_distribution"
    summary = (
        "an upper bound of it for class features that are distributed as those of several sentences; + the similarity "
        "of the contexts without a class name"
    )
    Config = PromptDistributionConfig
    recordable = True
    only_for = "ProDA"  # of several learned sentences of a class
    venue, arxiv = "CVPR 2022", "2205.03340"

    # Made by `prepare`: the number of templates; those of the step, [together]; the sentences without a class name.
    number: int
    drawn: Tensor
    nameless: PromptedCLIP

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.left: list[int] = []  # templates whose turn comes in the next steps

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        self.number = len(model.learner.templates)
        self.drawn = torch.arange(min(self.config.together, self.number), device=model.ids.device)
        self.nameless = PromptedCLIP(model.clip_model, model.learner, [""], model.precision, model.class_chunk)

    def before_step(self) -> None:
        """Draw an order of the templates when too few are left, from Python's generator; none is twice in a step."""
        together = len(self.drawn)
        if len(self.left) < together:
            self.left += [one for one in random.sample(range(self.number), self.number) if one not in self.left]
        for place, template in zip(self.drawn.unbind(), self.left):
            place.fill_(template)  # waits for nothing, unlike the copy of a tensor
        self.left = self.left[together:]

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        # All at once are in order, as tests have them.
        samples = model.sentence_features(None if len(self.drawn) == self.number else self.drawn)
        mean = samples.mean(dim=0)
        image_features = model.image_features(views[0])
        logits = model.logits(image_features, mean)
        scale = model.clip_model.logit_scale.exp().float()
        bound = logits + scale.square() / 2 * spread(image_features, samples - mean, labels)
        terms = {"loss_ce": F.cross_entropy(bound, labels)}
        if self.config.variant == "paper":
            contexts = self.nameless.sentence_features()[:, 0]
            terms["loss_orthogonality"] = self.config.weight * mean_similarity(contexts)
        return Loss(sum(terms.values()), logits, terms)

    def training_state(self) -> dict[str, Any]:
        return {"left": list(self.left)}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.left = list(state["left"])
