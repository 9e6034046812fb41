"""DeCoOp's objective: detectors first, then the sub-classifiers that they choose for an image.

Zhou et al., "DeCoOp: Robust Prompt Tuning with Out-of-Distribution Detection", ICML 2024, arXiv 2406.00345.

Differences from the authors' code: a batch without images of own or of foreign classes leaves out the term that
compares them (theirs becomes NaN); an incomplete last batch of an epoch is dropped, as everywhere here; what they
compute once for each training image is computed in each step, out of the same features; `ood_margin` is a number
(theirs may be "auto", which their recipes do not use).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP
from ..declaration import MOST_WEIGHT, RUN_KEYS, Settings, setting
from ..learners.decoop import Router, membership
from .objective import Loss, Objective, RunFacts, register_objective

NODE = "TRAINER.DECOOP"
BY_STEP, BY_EPOCH = "step", "epoch"
SHARE = 3  # the detectors train for the epochs over this, unless a number is set
FOREIGN = -1  # the label of an image whose class is none of a detector's own
BINS = 256  # of Otsu's method


def mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean of the chosen entries of `values` `[batch]`, a scalar; 0 if none is chosen."""
    return values.masked_fill(~chosen, 0).sum() / chosen.sum().clamp(min=1)


def detector_loss(logits: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The two terms of a detector: cross-entropy of the images of own classes, and a margin between entropies.

    The latter is max(0, margin + H_own - H_foreign), of the mean entropies of the predictions for images of own and of
    foreign classes.

    Args:
        logits: `[batch, own classes]`.
        labels: `[batch]` among them, or FOREIGN.
    """
    log_p, own = logits.log_softmax(dim=1), labels != FOREIGN
    correct = log_p.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    gap = (margin + mean_where(own, entropy) - mean_where(~own, entropy)).clamp(min=0)
    return mean_where(own, -correct), gap.masked_fill(own.all() | ~own.any(), 0)


def classifier_loss(logits: Tensor, teacher: Tensor, accepted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of a sub-classifier: cross-entropy of accepted images, KL(teacher || it) of the others.

    Args:
        logits, teacher: `[batch, classes]`.
        accepted: `[batch]` bool.
    """
    log_p = logits.log_softmax(dim=1)
    cross_entropy = F.nll_loss(log_p, labels, reduction="none")
    divergence = F.kl_div(log_p, teacher.log_softmax(dim=1), reduction="none", log_target=True).sum(dim=1)
    return mean_where(accepted, cross_entropy), mean_where(~accepted, divergence)


def otsu(scores: Tensor) -> float:
    """Otsu's threshold of scores `[images]`: it separates two groups with the largest variance between them.

    Candidates are the middles of 256 equal bins between the smallest and the largest score; of equally good ones the
    first counts. One value in all scores is its own threshold.
    """
    scores = scores.double().cpu()
    low, high = scores.min(), scores.max()
    if low == high:
        return low.item()
    counts = torch.histc(scores, BINS, low.item(), high.item())
    middles = low + (torch.arange(BINS) + 0.5) * (high - low) / BINS
    below, sums = counts.cumsum(0)[:-1], (counts * middles).cumsum(0)
    above = len(scores) - below
    variance = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return middles[variance.argmax()].item()


@dataclass(frozen=True)
class DecompositionConfig(Settings):
    """Settings of the two stages."""

    margin: float = setting(
        0.4,
        f"{NODE}.OOD_MARGIN",
        "by which entropies of a detector's predictions differ between own and foreign classes",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    detector_epochs: int = setting(
        0,
        f"{NODE}.DETECTOR_EPOCHS",
        "first epochs, in which the detectors train; 0: a third of all, as published",
        root=True,
        least=0,
    )
    cosine: str = setting(
        BY_STEP,
        f"{NODE}.COSINE",
        "what the sub-classifiers' cosine schedule counts: step (as released: the rate falls to 0 and rises again, "
        "each in as many steps as they have epochs) or epoch",
        root=True,
        choices=(BY_STEP, BY_EPOCH),
    )


@register_objective
class Decomposition(Objective):
    """Trains DeCoOp's detectors, finds their threshold, and trains the sub-classifiers.

    The rate of the schedule holds for the detectors; for the sub-classifiers a cosine from 1 to 0 multiplies their
    gradients, which for SGD without momentum is their rate.

    Attributes:
        training_images: yields batches `[batch, 3, height, width]` of all training images, prepared as for a test, on
            the model's device; the trainer sets it. Without images, the threshold stays 0.
    """

    name = "decomposition"
    only_for = "DeCoOp"
    summary = (
        "of detectors: for images of own classes, + a margin between the entropies for own and other "
        "ones; then of sub-classifiers: for images that the detector accepts, + divergence of the others from the "
        "frozen CLIP's logits"
    )
    Config = DecompositionConfig
    takes_all_epochs = True
    recordable = True
    venue, arxiv = "ICML 2024", "2406.00345"
    training_images: Callable[[], Iterable[Tensor]] = staticmethod(lambda: ())

    def __init__(self, config: DecompositionConfig | None = None, run: RunFacts | None = None):
        super().__init__(config, run)
        self.detector_epochs = self.config.detector_epochs or round(self.run.epochs / SHARE)
        self.epochs = self.steps = 0  # finished ones, and steps of the sub-classifiers

    @property
    def stage(self) -> int:
        return int(self.epochs >= self.detector_epochs)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), RUN_KEYS["epochs"]: self.run.epochs}

    def check_training(self) -> None:
        if self.detector_epochs >= self.run.epochs:
            raise self.config.error(
                "{detector_epochs} is {}, which leaves none of the {} epochs ({epochs}) to the sub-classifiers; set "
                "it to less, or to 0, a third of all.",
                *(self.detector_epochs, self.run.epochs),
            )

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        model.learner.set_base(classnames)
        model.forget_class_features()
        self.model, device = model, model.ids.device
        router = self._router
        router.renew()
        self.teacher_text = router.zero_shot_features()
        self.rate = torch.ones((), device=device)
        # Each class among the own ones of each detector, and the other way round, averaged over the detectors.
        number = len(classnames)
        labels = torch.full((len(router.divisions), number), FOREIGN)
        places = torch.zeros(len(router.divisions), router.own_number, number)
        for i, division in enumerate(router.divisions):
            for place, j in enumerate(division):
                places[i, place, j] = 1
                if j % len(router.divisions) != i:
                    labels[i, j] = place
        self.own_labels = labels.to(device)
        self.places = (places / places.sum(dim=(0, 1)).clamp(min=1)).flatten(0, 1).to(device)
        if self.stage:
            self._fix_detectors()

    @property
    def _router(self) -> Router:
        return self.model.router

    @torch.no_grad()
    def _fix_detectors(self) -> None:
        """Keep the detectors' features, and set the threshold: the smallest one that Otsu's method finds for them."""
        self.detector_text = self._router.detector_features()
        if self.epochs != self.detector_epochs:
            return  # the checkpoint has it
        scores = [self._scores(self.model.frozen_features(images)) for images in self.training_images()]
        if scores:
            threshold = min(map(otsu, torch.cat(scores).unbind(dim=1)))
            self.model.learner.threshold.fill_(threshold)
            print(f"Detectors accept images from a probability of {threshold:.4f} on")

    def _scores(self, image_features: Tensor) -> Tensor:
        """`[batch, K]`, the detectors' largest probabilities of own classes, among all base classes."""
        logits = self.model.logits_of(image_features, self.detector_text.flatten(0, 1))
        return membership(logits.unflatten(1, (len(self.detector_text), -1)), self._router.own_number)

    def before_step(self) -> None:
        if not self.stage:
            return
        done = self.steps if self.config.cosine == BY_STEP else self.epochs - self.detector_epochs
        self.rate.fill_(0.5 + 0.5 * math.cos(math.pi * done / max(1, self.run.epochs - self.detector_epochs)))
        self.steps += 1

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features = model.frozen_features(views[0])
        parts = self._router.classifiers if self.stage else self._router.own
        logits = [model.logits_of(image_features, part.class_features()) for part in parts]
        if self.stage:
            teacher = model.logits_of(image_features, self.teacher_text)
            accepted = (self._scores(image_features) >= model.learner.threshold).unbind(dim=1)
            pairs = [classifier_loss(one, teacher, chosen, labels) for one, chosen in zip(logits, accepted)]
            shown = torch.stack(logits).mean(dim=0)
        else:
            of_all = zip(logits, self.own_labels)
            pairs = [detector_loss(one, own_labels[labels], self.config.margin) for one, own_labels in of_all]
            shown = torch.cat(logits, dim=1) @ self.places
        first, second = (torch.stack(terms).mean() for terms in zip(*pairs))
        terms = {"loss_ce": first, ("loss_kl" if self.stage else "loss_margin"): second}
        return Loss(first + second, shown.detach(), terms)

    def backward(self, found: Loss, parameters: Sequence[Tensor], scale: Callable[[Tensor], Tensor]) -> None:
        scale(found.total * self.rate).backward()

    def end_epoch(self, learner: PromptLearner, epoch: int) -> None:
        before, self.epochs = self.stage, epoch
        if self.stage and not before:
            self._fix_detectors()

    def training_state(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "steps": self.steps}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.epochs, self.steps = state["epochs"], state["steps"]
