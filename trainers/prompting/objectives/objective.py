"""The interface of objectives: the loss of a training step for any learner, with or without teachers.

An objective asks the model for features, and depends neither on the learner nor on how the towers run.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..core.clip_weights import PRECISIONS, Precision
from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP, encode_sentences
from ..declaration import Settings
from ..errors import InputError
from ..recipes import CONFIGS, OWN_OBJECTIVES

SENTENCES_TOGETHER = 1000  # encoded by a teacher per step of its progress bar


class Loss(NamedTuple):
    """The loss of one batch.

    Attributes:
        total: the scalar to minimise.
        logits: `[batch, classes]` of the first view, for the accuracy.
        terms: weighted summands of `total` by name, or other losses that `Objective.backward` reads; for the log.
    """

    total: Tensor
    logits: Tensor
    terms: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run, for objectives.

    Attributes:
        epochs: of the training.
        dataset: registered name of the data set.
    """

    epochs: int = 0
    dataset: str = ""


class Objective:
    """Base of all objectives, which `register_objective` declares.

    Attributes of a class:
        name: its value of TRAINER.OBJECTIVE.
        summary: its terms, in a line for readers of the documentation.
        Config: its settings class, whose keys are complete (`root=True`).
        views: number of independent augmentations of each image.
        takes_all_epochs: the result needs training up to the last epoch.
        recordable: each step runs the same operations and changes nothing but gradients; what changes from step to
            step is in tensors that `before_step` writes. A recorded step (`core.cuda_graph`) would repeat all else.
            False unless the class itself says so.
        stage: of training; a recorded step is recorded again in another stage.
        only_for: the method whose prompts alone it trains; empty: any method's.
        mixes_features: `extend` gives the learner `anchors`, so that tests need this objective, too.
        venue, arxiv: of its publication.
    """

    name: str
    summary: str = ""
    Config: type[Settings] = Settings
    views: int = 1
    takes_all_epochs: bool = False
    recordable: bool = False
    stage: int = 0
    only_for: str = ""
    mixes_features: bool = False
    venue: str = ""
    arxiv: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A class says it of its own work, not of that of a class over it.
        cls.recordable = vars(cls).get("recordable", False)

    def __init__(self, config: Any = None, run: RunFacts | None = None):
        self.config = self.Config() if config is None else config
        self.run = run or RunFacts()

    def check_training(self) -> None:
        """Refuse settings that allow tests, but no training; called before any data is read.

        Raises:
            InputError: a value that is not allowed, or a missing file that training needs.
        """

    def settings(self) -> dict[str, Any]:
        """Dotted keys of this objective that shape training, with their values.

        A checkpoint holds them, and training resumes with the same values only.
        """
        return self._keyed("shapes_training")

    def tested_settings(self) -> dict[str, Any]:
        """Dotted keys that affect predictions of a trained model, with the values that its tests need."""
        return self._keyed("tested")

    def _keyed(self, flag: str) -> dict[str, Any]:
        declared = self.config.declared().items()
        return {one.key: getattr(self.config, name) for name, one in declared if getattr(one, flag)}

    def extend(self, learner: PromptLearner, clip_model: nn.Module) -> None:
        """Add trainable parts to the learner, on the CPU; called once, before any checkpoint is loaded."""

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        """Compute the teachers' class features, on the model's device; called once before training."""

    def before_step(self) -> None:
        """Called before each training step, to draw what it needs into tensors that stay where they are."""

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        """The loss of a batch.

        Args:
            views: `self.views` tensors `[batch, 3, height, width]`.
            labels: `[batch]`.
        """
        raise NotImplementedError

    def backward(self, found: Loss, parameters: Sequence[Tensor], scale: Callable[[Tensor], Tensor]) -> None:
        """Compute the gradients of a step, into `grad` of the parameters, where it is None; part of a recorded step.

        Args:
            found: the loss of the batch.
            parameters: all that train.
            scale: multiplies losses by the factor that the precision needs; the optimiser's step divides gradients by
                it, so they may be any function of scaled gradients that is proportional to the factor.
        """
        scale(found.total).backward()

    def end_epoch(self, learner: PromptLearner, epoch: int) -> None:
        """Called after the last step of an epoch (1-based), before validation and saving; may change the learner."""

    def training_state(self) -> dict[str, Any]:
        """Plain data and tensors that a checkpoint needs for exact resuming."""
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore a `training_state` of the same settings."""


OBJECTIVES: dict[str, type[Objective]] = {}


def register_objective(objective: type[Objective]) -> type[Objective]:
    """Class decorator that registers an objective as the value `name` of TRAINER.OBJECTIVE.

    That of an objective outside this project is a variant of every recipe, too.

    Raises:
        InputError: the name is taken, or none for files and folders; a key of a setting is not complete.
    """
    name, is_own = getattr(objective, "name", ""), not objective.__module__.startswith(f"{__package__}.")
    if not re.fullmatch(r"\w+", name):
        raise InputError(
            f"The name of the objective {objective.__name__} is {name!r}; set its class attribute to one word of "
            "letters, digits and _."
        )
    # In the name of a recipe it would stand for that file.
    files = [f"{kind}/{name}.yaml" for kind in ("variants", "datasets") if (CONFIGS / kind / f"{name}.yaml").is_file()]
    if name in OBJECTIVES or (is_own and files):
        raise InputError(
            f"There is an objective {name!r} already; choose another name than {', '.join(OBJECTIVES)}."
            if name in OBJECTIVES
            else f"There is a file configs/{files[0]}; choose another name of {objective.__name__} than {name!r}."
        )
    for field, one in objective.Config.declared().items():
        if not one.root:
            raise InputError(
                f"The key of {objective.Config.__name__}.{field} is {one.key!r}; make it complete, as in "
                f'key="TRAINER.{field.upper()}", root=True.'
            )
    OBJECTIVES[name] = objective
    if is_own:
        OWN_OBJECTIVES.add(name)
    return objective


def frozen_class_features(model: PromptedCLIP, template: str, classnames: Sequence[str]) -> Tensor:
    """Normalised features, `[classes, embed]` in fp32, of the frozen CLIP for one sentence a class, in its precision.

    Args:
        template: a sentence with `{}` for the name, in which blanks stand for underscores.
    """
    sentences = [template.format(name.replace("_", " ")) for name in classnames]
    encoded = encode_in_steps(model.clip_model, sentences, SENTENCES_TOGETHER, model.precision)
    return F.normalize(torch.cat(list(encoded)), dim=-1)


def frozen_image_features(model: PromptedCLIP, images: Tensor) -> Tensor:
    """Normalised features of the CLIP without prompts, `[batch, embed]` in fp32, without gradient."""
    return model.frozen_features(images)


def in_fp32(clip_model: nn.Module) -> nn.Module:
    """A text teacher that computes in fp32 in every precision of the towers, as some authors' do.

    Its weights are those that the towers store: OpenAI's fp16 weights are restored exactly, but not from bf16.
    """
    if all(parameter.dtype == torch.float32 for parameter in clip_model.parameters()):
        return clip_model
    return copy.deepcopy(clip_model).float()


def encode_in_steps(
    clip_model: nn.Module, sentences: Sequence[str], together: int, precision: Precision = PRECISIONS["fp32"]
) -> Iterator[Tensor]:
    """`encode_sentences` in steps of `together` sentences, with a progress bar."""
    for start in tqdm(range(0, len(sentences), together), desc="Teacher's sentences", leave=False):
        yield encode_sentences(clip_model, sentences[start : start + together], precision)


def cosine_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between normalised features and those of a teacher, `[..., embed]`: a scalar."""
    return 1 - F.cosine_similarity(features, teacher, dim=-1, eps=1e-7).mean()
