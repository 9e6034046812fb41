"""ProGrad's objective: gradients that do not act against what the frozen CLIP knows.

Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023, arXiv 2205.14865. It trains any learner.

Differences from the authors' code: the teacher computes in the precision of the towers (theirs: always in fp32);
gradients, their products and norms are in fp32 (theirs: in the type of the prompts, fp16); PREC amp works (theirs: an
error); class-specific contexts and the class name in the middle work as in CoOp (theirs: ignored where words start the
context, and an error).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.cuda_graph import OFF, ON
from ..core.prompted_clip import PromptedCLIP
from ..core.templates import template_with_name_last
from ..declaration import MOST_WEIGHT, Recipes, Settings, changed, setting
from ..learners import coop
from .objective import (
    Loss,
    Objective,
    frozen_class_features,
    frozen_image_features,
    register_objective,
)


def projected(gradient: Tensor, general: Tensor, share: float) -> Tensor:
    """A gradient without `share` of its part against the general direction (Eq. 5).

    G - share <G, u> u with u = general / |general| where <G, u> < 0, else G; also where `general` is 0.
    """
    direction = general / general.norm()
    along = (gradient * direction).sum()
    return torch.where(along < 0, gradient - share * along * direction, gradient)


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 times the cross-entropy of the teacher's softmax and the prompted one at temperature T: a scalar.

    It differs from the KL divergence (Eq. 3) by the entropy of the teacher, which has no gradient.

    Args:
        logits, teacher: `[batch, classes]`.
    """
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(temperature**2) * (F.softmax(teacher / temperature, dim=1) * log_p).sum(dim=1).mean()


@dataclass(frozen=True)
class ProjectedGradientConfig(Settings):
    """Settings of the projection."""

    share: float = setting(
        1.0,
        "LOSS.LAMBDA",
        "share of the gradient's part against the general direction that is taken away",
        root=True,
        least=0.0,
        most=MOST_WEIGHT,
    )
    temperature: float = setting(
        1.0,
        "LOSS.T",
        "temperature of the softmaxes whose divergence gives the general direction",
        root=True,
        least=1e-3,
        most=1e3,
    )
    name: str = setting(
        "prograd", "LOSS.NAME", "in the published files; it has no other value", root=True, choices=("prograd",)
    )


@register_objective
class ProjectedGradient(Objective):
    """Cross-entropy, whose gradient loses its part against that of the divergence from the frozen CLIP's logits.

    The logged loss is the cross-entropy. The projection is of each parameter tensor apart.
    """

    name = "projected_gradient"
    summary = (
        "its gradient loses, tensor by tensor, its part against the gradient of the divergence from the frozen CLIP's "
        "logits"
    )
    Config = ProjectedGradientConfig
    recordable = True
    venue, arxiv = "ICCV 2023", "2205.14865"

    teacher_text: Tensor  # normalised, [classes, embed] in fp32; `prepare` makes it

    def prepare(self, model: PromptedCLIP, classnames: Sequence[str]) -> None:
        template = template_with_name_last(self.run.dataset)
        self.teacher_text = frozen_class_features(model, template, classnames)

    def loss(self, model: PromptedCLIP, views: Sequence[Tensor], labels: Tensor) -> Loss:
        image_features, class_features = model.features(views[0])
        logits = model.logits(image_features, class_features)
        # Where nothing is learned in the image tower, its features are the frozen CLIP's.
        is_frozen = model.learner.vision() is None and model.learner.adapters is None
        teacher_image = image_features.detach() if is_frozen else frozen_image_features(model, views[0])
        teacher_logits = model.logits(teacher_image, self.teacher_text)
        loss = F.cross_entropy(logits, labels)
        terms = {"loss_ce": loss, "loss_kl": divergence(logits, teacher_logits, self.config.temperature)}
        return Loss(loss, logits, terms)

    def backward(self, found: Loss, parameters: Sequence[Tensor], scale: Callable[[Tensor], Tensor]) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        general, own = (
            torch.autograd.grad(scale(loss), trained, retain_graph=keep, allow_unused=True)
            for loss, keep in ((found.terms["loss_kl"], True), (found.total, False))
        )
        for parameter, gradient, direction in zip(trained, own, general):
            both = gradient is not None and direction is not None
            parameter.grad = projected(gradient, direction, self.config.share) if both else gradient


@dataclass(frozen=True)
class ProGradConfig(coop.CoOpConfig):
    """Settings of ProGrad's own prompts: CoOp's, with any number of context tokens, of which the last are words.

    Attributes:
        dataset: registered name of the data set, for its sentence.
    """

    context: str = changed(
        coop.CoOpConfig,
        "context",
        "",
        help="initial words, the last of the context tokens; on: those of the data set's sentence before the class "
        "name; empty or off: random prompts",
        told_by=None,  # tokens of the words beyond one each are not in a checkpoint
    )
    dataset: str = ""

    def for_dataset(self, dataset: str) -> ProGradConfig:
        return dataclasses.replace(self, dataset=dataset)

    def check(self) -> None:
        super().check()
        if self.padding < 0:
            raise self.error(
                "{length} is {}, but {context} is {!r}, which starts the context with the {} words {!r}; set {length} "
                "to that at least.",
                *(self.length, self.context, len(self.words.split()), self.words),
            )

    @property
    def words(self) -> str:
        if self.context == ON:
            return template_with_name_last(self.dataset).replace(" {}.", "")
        return "" if self.context == OFF else super().words

    @property
    def slots(self) -> int:
        return self.length


def few_shot_recipe(dataset: str, shots: int) -> str:
    """CoOp's schedule; a smaller share of three data sets with many shots."""
    recipe = coop.few_shot_recipe(dataset, shots)
    smaller = shots >= 8 and dataset in ("oxford_flowers", "dtd", "eurosat")
    return f"{recipe}_lambda08" if smaller else recipe


METHOD = coop.METHOD.trained_by(
    ProjectedGradient,
    "ProGrad",
    summary="CoOp's context tokens, the last of which begin as the words of the data set's sentence",
    config=ProGradConfig,
    recipes=Recipes(
        "vit_b16_ep100",
        base2new_imagenet="vit_b16_ep50",
        cross_dataset="rn50_ep50",
        few_shot=few_shot_recipe,
        chooses_context=True,
    ),
    venue=ProjectedGradient.venue,
    arxiv=ProjectedGradient.arxiv,
)
