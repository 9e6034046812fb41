"""A prompted CLIP as a scikit-learn classifier of images: fit on a few labelled images, predict, save, load.

It trains like the trainers: the same augmentation, order of random numbers, optimiser and schedule, hence the same
weights.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import reprlib
import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidassl.own.optim import build_lr_scheduler, build_optimizer

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..checkpoints.checks import adopt
from ..checkpoints.saved import Saved, read_saved, write_saved
from ..core.clip_weights import Precision, check_backbone, get_precision, is_named, load_clip
from ..core.design import images_of
from ..core.prompted_clip import PromptedCLIP
from ..declaration import Method, Settings
from ..errors import InputError, worded
from ..objectives.cross_entropy import CrossEntropy
from ..objectives.training_step import TrainingStep
from .images import TransformedImages, evaluation_transform, list_of, training_transform
from .recipe import Recipe, configure, in_python, method_for, recipe_of


@dataclass(frozen=True)
class _Plan:
    """The parameters of a classifier, checked and complete."""

    method: Method
    config: Settings
    backbone: str
    precision: Precision
    device: torch.device
    recipe: Recipe
    seed: int


class PromptClassifier(ClassifierMixin, BaseEstimator):
    """Classifies images by the names of their classes, with a frozen CLIP and trained prompts.

    Images are lists of paths, PIL images, uint8 arrays `[height, width(, 3)]` or tensors `[3, height, width]`; labels
    are class names. For arguments that are None, the method's recipe in `configs/trainers` decides: the published one,
    or `tiny` for the small CLIP.

    Args:
        method: BMIP, MaPLe, IVLP, VPT, CoOp, CoCoOp, ZeroshotCLIP or another that is trained by cross-entropy.
        backbone: OpenAI's name of a CLIP (downloaded to ~/.cache/clip), a path to a checkpoint in their layout,
            "tiny", a small one for trials, or one of another library (docs/BACKBONES.md).
        settings: of the learner, by name: the fields of the method's settings dataclass, or that dataclass.
        precision: "fp32", "bf16", "fp16" or "amp"; None: fp16 on a GPU and fp32 elsewhere.
        device: torch's name of it; None: the GPU if there is one.
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: after the recipe's warm-up, mostly one epoch at 1e-5.
        epochs: passes over the images.
        batch_size: images per training step; an incomplete last batch of an epoch is dropped.
        weight_decay: of the optimiser.
        crop_scale: smallest and largest share of the area that a random crop keeps in training.
        flip: mirror half of the training images.
        random_state: seed of prompts, order and augmentation; None draws one. The caller's random generators are not
            advanced.
        prediction_batch_size: images per step of a prediction.
        workers: processes that read images.
        progress: show progress bars.

    Attributes:
        classes_: class names in label order, sorted unless given.
        model_: the `PromptedCLIP`.
        config_: the complete settings.
        notes_: facts of the run that trained loaded prompts, such as its data set; empty for others.
        history_: for each epoch of `fit` its mean "loss", "accuracy" in 0..1, and "learning_rate".
    """

    def __init__(
        self,
        method: str = "BMIP",
        backbone: str = "ViT-B/16",
        *,
        settings: Any = None,
        precision: str | None = None,
        device: str | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        weight_decay: float | None = None,
        crop_scale: tuple[float, float] | None = None,
        flip: bool | None = None,
        random_state: Any = 1,
        prediction_batch_size: int = 100,
        workers: int = 0,
        progress: bool = True,
    ):
        self.method = method
        self.backbone = backbone
        self.settings = settings
        self.precision = precision
        self.device = device
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.crop_scale = crop_scale
        self.flip = flip
        self.random_state = random_state
        self.prediction_batch_size = prediction_batch_size
        self.workers = workers
        self.progress = progress

    def fit(
        self, images: Sequence[Any], labels: Sequence[str], classes: Sequence[str] | None = None
    ) -> PromptClassifier:
        """Train new prompts on labelled images.

        Args:
            images: see the class.
            labels: the class name of each image.
            classes: all class names, in label order; None: those of the labels, sorted. Names without an image are
                classes of the softmax, too.

        Raises:
            InputError: images, labels or a parameter cannot be used.
            FloatingPointError: the loss is not finite.
        """
        plan = self._plan()
        images = list_of(images)
        names = _check_labels(images, labels)
        classes = _check_classes(sorted(set(names)) if classes is None else classes)
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise InputError(
                f"labels has {', '.join(map(repr, unknown[:5]))}, not among the {len(classes)} classes; give all of "
                "them as classes."
            )
        if len(classes) < 2:
            raise InputError(f"labels has one class, {classes[0]!r}; a classifier needs two or more.")
        return self._built(plan, classes, images, [classes.index(name) for name in names])

    def _train(self, model: PromptedCLIP, images: Sequence[Any], labels: list[int], recipe: Recipe) -> list[dict]:
        """Train the learner in place; returns `history_`. Raises FloatingPointError if the loss is not finite."""
        parameters = list(model.learner.parameters())
        if not parameters or not images:
            return []
        transform = training_transform(images_of(model.clip_model), recipe.crop_scale, recipe.flip)
        loader = DataLoader(
            TransformedImages(images, transform, labels),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=len(images) >= recipe.batch_size,
            num_workers=self.workers,
        )
        optimizer = build_optimizer(parameters, recipe.optim)
        scheduler = build_lr_scheduler(optimizer, recipe.optim)
        step, device = TrainingStep(model, CrossEntropy(), optimizer), parameters[0].device
        history = []
        model.learner.train()
        with tqdm(total=recipe.epochs * len(loader), desc="fit", disable=not self.progress) as bar:
            for epoch in range(recipe.epochs):
                rate, seen = optimizer.param_groups[0]["lr"], []
                for batch, targets in loader:
                    values = step([batch.to(device)], targets.to(device))
                    seen.append(torch.stack([values["loss"], values["acc"]]).tolist())
                    if not math.isfinite(seen[-1][0]):
                        raise FloatingPointError(
                            f"The loss is {seen[-1][0]}; lower learning_rate, or set precision to fp32."
                        )
                    bar.update()
                loss, accuracy = (sum(values) / len(seen) for values in zip(*seen))
                history.append({"loss": loss, "accuracy": accuracy / 100, "learning_rate": rate})
                scheduler.step()
                bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.3f}", accuracy=f"{accuracy / 100:.2f}")
        return history

    def build(self, classes: Sequence[str]) -> PromptClassifier:
        """Build untrained prompts, or zero-shot CLIP, for a set of classes; raises as `fit`."""
        return self._built(self._plan(), _check_classes(classes), [], [])

    def set_classes(self, classes: Sequence[str]) -> PromptClassifier:
        """Replace the classes, with the same prompts; raises InputError for class-specific ones."""
        self._check_built()
        classes = _check_classes(classes)
        with worded(in_python):
            self.model_.set_classes(classes)
        self.classes_ = np.array(classes)
        return self

    def _seed(self) -> int:
        seed = self.random_state
        if seed is None:
            return secrets.randbits(31)
        if isinstance(seed, np.random.RandomState):
            return seed.randint(2**31 - 1)
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"random_state is {seed!r}; set it to 0 or more, or None.")
        return int(seed)

    def _plan(self) -> _Plan:
        """The checked parameters; raises InputError for one that cannot be used."""
        method, backbone, device = method_for(self.method), str(self.backbone), _device(self.device)
        given = {name: getattr(self, name) for name in Recipe.declared()}
        given = {name: value for name, value in given.items() if value is not None}
        recipe = dataclasses.replace(recipe_of(method, backbone), **given)
        with worded(in_python):
            check_backbone(backbone, method.needs_vit)
            precision = get_precision(self.precision or ("fp16" if device.type == "cuda" else "fp32"))
            config = configure(method, self.settings, backbone)
        return _Plan(method, config, backbone, precision, device, recipe, self._seed())

    def _built(
        self, plan: _Plan, classes: list[str], images: list[Any], labels: list[int], saved: Saved | None = None
    ) -> PromptClassifier:
        """Build prompts for the classes, in the CLIP of `saved` prompts alone, and train them if there are images."""
        with torch.random.fork_rng(devices=[]):
            # The only generator that is used.
            torch.random.default_generator.manual_seed(plan.seed)
            with worded(in_python):
                clip_model = load_clip(plan.backbone, plan.precision, plan.method.needs_vit)
                if saved is not None:
                    saved.check_clip(clip_model, plan.backbone)
                learner = plan.method.learner(plan.config, clip_model)
                clip_model = clip_model.to(plan.device)
                model = PromptedCLIP(clip_model, learner, classes, plan.precision).to(plan.device)
            self.history_ = self._train(model, images, labels, plan.recipe)
        self.model_, self.config_, self.classes_ = model.eval(), plan.config, np.array(classes)
        self.notes_ = dict(saved.notes) if saved is not None else {}
        return self

    def _check_built(self) -> None:
        check_is_fitted(
            self, "model_", msg="This %(name)s has no prompts yet; call fit or build first, or make it by load."
        )

    def predict(self, images: Sequence[Any]) -> np.ndarray:
        """Class names of images, `[images]`."""
        labels = self._logits(images).argmax(dim=1)
        return self.classes_[labels.numpy()]

    def predict_proba(self, images: Sequence[Any]) -> np.ndarray:
        """Probabilities of the classes in the order of `classes_`, `[images, classes]` in fp32."""
        return self._logits(images).softmax(dim=1).numpy()

    def score(
        self, images: Sequence[Any], labels: Sequence[str], sample_weight: Sequence[float] | None = None
    ) -> float:
        """The share of images whose predicted class is their label, or of their weights, in 0..1."""
        images = list_of(images)
        found, names = self.predict(images), _check_labels(images, labels)
        try:
            return float(np.average(found == np.array(names), weights=sample_weight))
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"sample_weight is {reprlib.repr(sample_weight)}; give a number for each of the {len(images)} "
                "images, whose sum is above 0."
            ) from error

    @torch.no_grad()
    def _logits(self, images: Sequence[Any]) -> Tensor:
        """`[images, classes]` in fp32, on the CPU."""
        self._check_built()
        images, model = list_of(images), self.model_
        if not images:
            return torch.empty(0, len(self.classes_))
        transform = evaluation_transform(images_of(model.clip_model))
        loader = DataLoader(
            TransformedImages(images, transform, range(len(images))),
            batch_size=self.prediction_batch_size,
            num_workers=self.workers,
            # Without it the loader would draw from the caller's generator.
            generator=torch.Generator(),
        )
        batches = tqdm(loader, desc="predict", disable=not self.progress or len(loader) == 1)
        return torch.cat([model(batch.to(model.ids.device)).cpu() for batch, _ in batches])

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a safetensors file for `load`, and return its path: prompts, with what they need as its metadata.

        It has the name of the CLIP and hashes of its weights, but not the weights.

        Args:
            path: a file that ends in `.safetensors`, or a folder for `prompts.safetensors`, made where it is missing.
            overwrite: replace a classifier that was saved there before.

        Raises:
            InputError: there is a file of this name, or a saved classifier without `overwrite`.
        """
        self._check_built()
        parameters = {**self.get_params(deep=False), "settings": self.config_.plain()}
        del parameters["device"]
        model = self.model_
        state = model.learner.state_dict()
        facts = parameters, self.classes_.tolist(), self.notes_
        return write_saved(path, state, *facts, model.clip_model, overwrite)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], classes: Sequence[str] | None = None, **parameters: Any
    ) -> PromptClassifier:
        """Build a classifier from trained prompts.

        Args:
            path: a file or folder that `save` or `scripts/export.py` wrote, the output folder of a run of train.py, or
                a checkpoint, ours or of a method's authors.
            classes: class names, in label order; None: the recorded ones.
            parameters: of the class; they overrule recorded ones, `settings` one by one. A single checkpoint outside
                its run's folder records nothing: it needs `method` and `classes`, and `backbone` if that is not
                ViT-B/16. Lengths and depths of prompts are read off its tensors. A `backbone` that is a path has to
                be given, even if it is recorded.

        Raises:
            InputError: the path has none of these, the prompts do not fit or belong to another CLIP, or parameters
                are missing.
        """
        saved = read_saved(path)
        unknown = sorted(saved.parameters.keys() - cls().get_params(deep=False).keys())
        if unknown:
            raise InputError(
                f"{str(saved.source)!r} was saved with parameters that this version does not have: "
                f"{', '.join(unknown)}. Load it with the version that saved it."
            )
        chosen = {**saved.parameters, **parameters}
        if "method" not in chosen:
            raise InputError(
                f"{str(saved.source)!r} does not record a method that is known here; give it as method, or import its "
                "module (--import)."
            )
        method = method_for(chosen["method"])
        classes = saved.classes if classes is None else classes
        if classes is None:
            raise InputError(f"{str(saved.source)!r} does not record its classes; give their names as classes.")
        chosen["settings"] = _settings_for(method, saved, parameters)
        on_gpu = _device(chosen.get("device")).type == "cuda"
        if not on_gpu and "precision" not in parameters and chosen.get("precision") in ("fp16", "amp"):
            chosen["precision"] = "fp32"  # half precision is slow on a CPU
        backbone = str(chosen.get("backbone", ""))
        if backbone and "backbone" not in parameters and not is_named(backbone):
            raise InputError(
                f"{str(saved.source)!r} names a file as its CLIP, {backbone!r}, and such a file is read only "
                "where you name it yourself: give it as backbone."
            )
        classifier = cls(**chosen)
        classifier._built(classifier._plan(), _check_classes(classes), [], [], saved)
        with worded(in_python, before=f"{str(saved.source)!r} cannot be loaded. "):
            _load_weights(classifier, method, saved.state_dict)
        return classifier


def _settings_for(method: Method, saved: Saved, parameters: Mapping[str, Any]) -> Any:
    """The settings of trained prompts: those given, else the recorded ones, else those read off the tensors."""
    given = parameters.get("settings") or {}
    if not isinstance(given, Mapping):
        return given
    if saved.parameters.get("method") == method.name and "settings" in saved.parameters:
        return {**saved.parameters["settings"], **given}
    state_dict, implied = saved.state_dict, {}
    if method.layout is not None and method.layout.matches(state_dict):
        with worded(in_python, before=f"{str(saved.source)!r} cannot be loaded. "):
            state_dict, _ = method.layout.translate(state_dict)
        implied = method.layout.implies
    told = method.told(state_dict)
    if method.learns and not any(re.match(r"\w+_prompts\.|block_adapters\.", key) for key in state_dict):
        raise InputError(f"{str(saved.source)!r} holds no prompts of {method.name}; give a checkpoint of that method.")
    return {**told, **implied, **given}


def _load_weights(classifier: PromptClassifier, method: Method, state_dict: Mapping[str, Tensor]) -> None:
    """Load prompts, under our names or those of the method's authors; raises InputError where they do not fit."""
    model = classifier.model_
    state_dict, _ = adopt(state_dict, method.layout, model.learner, model.clip_model, str(classifier.backbone))
    if any(key.startswith("adapters.") for key in state_dict):
        raise InputError(
            "It has adapters after the towers, as CoPrompt trains them, which this classifier does not have; test it "
            "with train.py --eval-only."
        )
    try:
        model.learner.load_state_dict(state_dict)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise InputError(
            f"It does not fit {method.name} with these settings: {details}; set method and settings to those that "
            "it was trained with."
        ) from error


def _device(name: str | int | None) -> torch.device:
    """torch's device for a name or a GPU's number; raises InputError if there is none."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, TypeError, AssertionError) as error:  # AssertionError: a torch without CUDA
        raise InputError(
            f"device is {name!r}, which torch does not find here; set it to cpu, cuda, or None."
        ) from error


def _check_labels(images: list[Any], labels: Any) -> list[str]:
    """The labels as a list of class names; raises InputError unless each image has one."""
    if isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise InputError(f"labels is a {type(labels).__name__}; give a list of class names.")
    if len(images) != len(labels):
        raise InputError(f"There are {len(images)} images and {len(labels)} labels; give a label for each image.")
    if not images:
        raise InputError("There are no images; give some of each class.")
    return [_check_name(label, f"Label {number}") for number, label in enumerate(labels)]


def _check_classes(classes: Any) -> list[str]:
    """The class names as a list; raises InputError unless they are distinct names in words."""
    # Label order is the order of the names; a set has none.
    if isinstance(classes, (str, Set)) or not hasattr(classes, "__len__") or not len(classes):
        raise InputError(f"classes is {classes!r}; give a list of class names.")
    names = [_check_name(name, f"Class {number}") for number, name in enumerate(classes)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"classes has {', '.join(map(repr, twice))} more than once; give each name once.")
    return names


def _check_name(name: Any, what: str) -> str:
    """The name as `str`; raises InputError, with the description `what`, for anything else."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"{what} is {name!r}, a {type(name).__name__}; give the name of the class in words, which is what CLIP "
            "reads."
        )
    return str(name)
