"""PromptSRC's objective: prompts that stay near the frozen CLIP, and are averaged over the epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023, arXiv
2307.06948. It trains any learner.

Differences from the authors' code: the average covers the trained tensors alone, theirs also the frozen weights, in
half precision, which rounds them; checkpoints hold the average, theirs lose it when a run is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.learner import PromptLearner
from ..core.prompted_clip import PromptedCLIP
from ..core.templates import EIGHTY, SIXTY
from ..declaration import MOST_WEIGHT, RUN_KEYS, Recipes, Settings, changed, setting
from ..learners import bmip, ivlp
from .objective import (
    SENTENCES_TOGETHER,
    Loss,
    Objective,
    RunFacts,
    encode_in_steps,
    frozen_image_features,
    in_fp32,
    register_objective,
)

# PromptSRC's authors omit twenty of the eighty that OpenAI published for ImageNet; BMIP's use all.
TEACHER_SENTENCES = {60: SIXTY, 80: EIGHTY}
PUBLISHED_MEAN = 0.75  # of the Gaussian, as a share of the epochs
NODE = "TRAINER.PROMPTSRC"
SMALLEST_STD = 1e-6  # in epochs: one epoch has all the weight, and squared distances are far from overflow


def mean_difference(features: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference over all entries of normalised features and a teacher's, `[..., embed]` (Eq. 3)."""
    return (features - teacher).abs().mean()


def logit_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || prompted) of two `[batch, classes]`, divided by batch times classes as in the authors' code.

    Eq. 4 has no such factor; with it, the term vanishes as the number of classes grows.
    """
    log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(log_p, log_q, reduction="sum", log_target=True) / logits.numel()


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Weights of the epochs 1 ... `epochs`: the normal density there, divided by its sum (Eq. 6)."""
    exponents = [-0.5 * ((epoch - mean) / std) ** 2 for epoch in range(1, epochs + 1)]
    # The largest becomes 1, so that at most all others underflow to 0.
    largest = max(exponents, default=0.0)
    densities = [math.exp(exponent - largest) for exponent in exponents]
    total = sum(densities)
    return [density / total for density in densities]


@dataclass(frozen=True)
class SelfRegulationConfig(Settings):
    """Settings of the weights and of the average; the divergence of logits has weight 1."""

    text_weight: float = setting(
        25.0,
        f"{NODE}.TEXT_LOSS_WEIGHT",
        "weight of the distance from the frozen CLIP's text features",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    image_weight: float = setting(
        10.0,
        f"{NODE}.IMAGE_LOSS_WEIGHT",
        "weight of the distance from its image features",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    mean: float = setting(
        15.0,
        f"{NODE}.GPA_MEAN",
        "mean of the Gaussian that weights the epochs' prompts, in epochs from 1",
        root=True,
        least=-1e6,
        most=1e6,
    )
    std: float = setting(
        1.0, f"{NODE}.GPA_STD", "its standard deviation in epochs", root=True, least=SMALLEST_STD, most=1e6
    )
    sentences: int = setting(
        60,
        f"{NODE}.TEACHER_SENTENCES",
        "of the frozen CLIP for each class: 60, or all 80 as in BMIP's released code",
        root=True,
        choices=tuple(TEACHER_SENTENCES),
    )


@register_objective
class SelfRegulation(Objective):
    """Cross-entropy; distances of features and logits from the frozen CLIP's; an average over the epochs.

    The frozen CLIP sees the same augmented image, and averages the features of sixty (or eighty) sentences per class.
    After the last epoch the prompts become the average of their values at the end of each epoch, weighted by a
    Gaussian (Section 3.3); the average does not affect training itself.
    """

    name = "self_regulation"
    summary = (
        "+ mean absolute difference of class features and of image features from the frozen CLIP's, + divergence of "
        "the logits; after the last epoch the prompts are their average over the epochs, weighted by a Gaussian"
    )
    Config = SelfRegulationConfig
    takes_all_epochs = True
    recordable = True
    venue, arxiv = "ICCV 2023", "2307.06948"
    teacher_text: Tensor  # normalised, [classes, embed] in fp32; `prepare` makes it

    def __init__(self, config: SelfRegulationConfig | None = None, run: RunFacts | None = None):
        super().__init__(config, run)
        self.weights = gaussian_weights(self.run.epochs, self.config.mean, self.config.std)
        self.average: dict[str, Tensor] = {}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), RUN_KEYS["epochs"]: self.run.epochs}

    def check_training(self) -> None:
        mean, epochs = self.config.mean, self.run.epochs
        if not 1 <= mean <= epochs:
            raise self.config.error(
                "{mean} is {}, but there are epochs 1 to {} ({epochs}) to average over; add {mean} {} to the options, "
                "which is {} of the epochs as published for base-to-new (15 of 20; for transfer 0.3).",
                *(mean, epochs, max(1.0, PUBLISHED_MEAN * epochs), PUBLISHED_MEAN),
            )

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        frozen, names = in_fp32(model.clip_model), [name.replace("_", " ") for name in classnames]
        templates = TEACHER_SENTENCES[self.config.sentences]
        sentences = [template.format(name) for template in templates for name in names]
        total = torch.zeros(len(names), frozen.text_projection.shape[1], device=model.ids.device)
        # Complete templates at a time, so that each step can be summed over them.
        together = max(1, SENTENCES_TOGETHER // len(names)) * len(names)
        for encoded in encode_in_steps(frozen, sentences, together):
            total += encoded.unflatten(0, (-1, len(names))).sum(dim=0)
        self.teacher_text = F.normalize(total, dim=-1)

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features, class_features = model.features(views[0])
        logits = model.logits(image_features, class_features)
        teacher_image = frozen_image_features(model, views[0])
        teacher_logits = model.logits(teacher_image, self.teacher_text)
        terms = {
            "loss_ce": F.cross_entropy(logits, labels),
            "loss_text": self.config.text_weight * mean_difference(class_features, self.teacher_text),
            "loss_image": self.config.image_weight * mean_difference(image_features, teacher_image),
            "loss_logits": logit_divergence(logits, teacher_logits),
        }
        return Loss(sum(terms.values()), logits, terms)

    @torch.no_grad()
    def end_epoch(self, learner: PromptLearner, epoch: int) -> None:
        for name, parameter in learner.named_parameters():
            part = self.weights[epoch - 1] * parameter
            self.average[name] = self.average[name].to(part.device) + part if name in self.average else part
        if epoch == self.run.epochs:
            print("The prompts are now their average over the epochs (Gaussian prompt aggregation)")
            for name, parameter in learner.named_parameters():
                parameter.copy_(self.average[name])

    def training_state(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.average = dict(state["average"])


@dataclass(frozen=True)
class PromptSRCConfig(ivlp.IVLPConfig):
    """Settings of PromptSRC's own prompts: IVLP's, with other lengths and no heads."""

    text_length: int = changed(ivlp.IVLPConfig, "text_length", 4)
    vision_length: int = changed(ivlp.IVLPConfig, "vision_length", 4)
    head_width: int = 0


def few_shot_recipe(dataset: str, shots: int) -> str:
    """PromptSRC's two averages over the epochs: a broad one for most data sets, one of late epochs for the others."""
    late = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")
    return "vit_b16_c2_ep50_batch4_4+4ctx_few_shot" + ("_late" if dataset in late else "")


METHOD = ivlp.METHOD.trained_by(
    SelfRegulation,
    "PromptSRC",
    summary="IVLP's prompts, which stay near the frozen CLIP and are averaged over the epochs",
    node="PROMPTSRC",
    config=PromptSRCConfig,
    recipes=Recipes(
        "vit_b16_c2_ep20_batch4_4+4ctx",
        cross_dataset="vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets",
        few_shot=few_shot_recipe,
    ),
    venue=SelfRegulation.venue,
    arxiv=SelfRegulation.arxiv,
)
# The authors' stacked trainer is this with TRAINER.BMIP.VARIANT released.
STACKED = bmip.METHOD.trained_by(
    SelfRegulation,
    "PromptSRC_BMIP",
    summary="BMIP's prompts, trained as PromptSRC's",
    recipes=Recipes("vit_b16_c2_ep20_batch4_2ctx", cross_dataset="vit_b16_c2_ep20_batch4_2ctx_cross_datasets"),
    folder="VLPromptLearner",
)
