"""What a training step minimises: the loss of any learner's prompts, with teachers where it has some.

An objective asks the model for features, and knows neither the learner nor how the towers run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..core.clip_weights import PRECISIONS, Precision
from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP, encode_sentences

SENTENCES_TOGETHER = 1000  # that a teacher encodes between two steps of its progress bar


class Loss(NamedTuple):
    """The loss of one batch.

    Attributes:
        total: what is minimised, a scalar.
        logits: `[batch, classes]` of the first view, for the accuracy.
        terms: scalars that `total` is made of, as they enter it, by name; for the log.
    """

    total: Tensor
    logits: Tensor
    terms: Mapping[str, Tensor]


class Objective:
    """Base of all objectives: cross-entropy. A subclass overrides what differs.

    Attributes:
        views: how many times each image is augmented independently.
        takes_all_epochs: training must reach its last epoch for the model to be what the objective is about.
        tested_keys: those of `settings` that a trained model answers by, so that its tests need the same values.
    """

    views: int = 1
    takes_all_epochs: bool = False
    tested_keys: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The configuration's keys that shape the training by this objective, dotted, with their values.

        A checkpoint holds them, and training goes on from it with the same ones alone.
        """
        return {}

    def check_training(self) -> None:
        """Refuse what a model can be tested with, but not trained; called before any data is read.

        Raises:
            InputError: a value, or a file that training needs.
        """

    def extend(self, learner: PromptLearner, clip_model: nn.Module) -> None:
        """Give the learner further parts that train, on the CPU; called once, before any checkpoint is loaded."""

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        """Compute what the teachers say about the classes, on the model's device; called once before training."""

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        """The loss of a batch.

        Args:
            views: as many as the attribute says, each `[batch, 3, height, width]`.
            labels: `[batch]`.
        """
        logits = model(views[0])
        return Loss(F.cross_entropy(logits, labels), logits, {})

    def end_epoch(self, learner: PromptLearner, epoch: int) -> None:
        """Called after the last step of an epoch (1-based), before validation and saving; may change the learner."""

    def training_state(self) -> dict[str, Any]:
        """What must be in a checkpoint for training to go on exactly: plain data and tensors."""
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `training_state` gave under the same settings."""


def frozen_image_features(model: PromptedCLIP, images: Tensor) -> Tensor:
    """Normalised features of the CLIP without prompts, `[batch, embed]` in fp32, without gradient."""
    with torch.no_grad():
        return F.normalize(model.encode_image(images, prompted=False).float(), dim=-1)


def encode_in_steps(
    clip_model: nn.Module, sentences: Sequence[str], together: int, precision: Precision = PRECISIONS["fp32"]
) -> Iterator[Tensor]:
    """What `encode_sentences` gives, of at most `together` sentences at a time, with a progress bar."""
    for start in tqdm(range(0, len(sentences), together), desc="Teacher's sentences", leave=False):
        yield encode_sentences(clip_model, sentences[start : start + together], precision)


def cosine_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between normalised features and those of a teacher, `[..., embed]`: a scalar."""
    return 1 - F.cosine_similarity(features, teacher, dim=-1, eps=1e-7).mean()
