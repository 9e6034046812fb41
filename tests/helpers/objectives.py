"""The objectives with settings that matter, and the naive terms of their losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import naive_objectives as naive
import torch
from torch import Tensor

from helpers.learners import in_kinds, naive_features
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import SIXTY
from trainers.prompting.objectives.alignment import Alignment, AlignmentConfig
from trainers.prompting.objectives.anchoring import Anchoring, AnchoringConfig
from trainers.prompting.objectives.consistency import Consistency, ConsistencyConfig
from trainers.prompting.objectives.knowledge_guidance import KnowledgeGuidance, KnowledgeGuidanceConfig
from trainers.prompting.objectives.knowledge_independence import KnowledgeIndependence, KnowledgeIndependenceConfig
from trainers.prompting.objectives.objective import Objective, RunFacts
from trainers.prompting.objectives.projected_gradient import ProjectedGradient, ProjectedGradientConfig
from trainers.prompting.objectives.self_regulation import SelfRegulation, SelfRegulationConfig

LABELS = torch.tensor([0, 3, 1, 4])
# Of the five classes in their order, with characters that are others in class names and templates.
SENTENCES = [
    ["a cat with whiskers.", "soft fur and claws."],
    ["a dog with stripes.", "a striped_dog {barks}, and wears {}."],
    ["an old jet with four engines.", "silver wings."],
    ["much water.", "waves to the horizon."],
    ["a yellow disc.", "the sun shines."],
]


def consistency(sentences: list[list[str]] = SENTENCES, **settings) -> Consistency:
    """The objective with these sentences in the place of a file's."""
    objective = Consistency(ConsistencyConfig(**{**dict(weight=3.0, image_share=0.3, text_share=0.6), **settings}))
    objective.describe = lambda names: sentences
    return objective


def anchoring(sentences: list[list[str]] = SENTENCES) -> Anchoring:
    """The objective with these sentences in the place of a file's."""
    objective = Anchoring(AnchoringConfig(weight=4.0))
    objective.describe = lambda names: sentences
    return objective


def prepared(clip_model, learner, classnames, objective: Objective) -> PromptedCLIP:
    """The model that the objective trains; adapters are large enough to matter."""
    objective.extend(learner, clip_model)
    if learner.adapters is not None:
        with torch.no_grad():
            for seed, parameter in enumerate(learner.adapters.parameters()):
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(seed))
    model = PromptedCLIP(clip_model, learner, classnames).train()
    objective.prepare(model, classnames)
    return model


def units(features: list) -> list:
    return [units(feature) if isinstance(feature, list) else naive.unit(feature) for feature in features]


@cache
def sixty_averaged(clip_model, classnames: tuple[str, ...]) -> list[Tensor]:
    return [naive.averaged_sentences(clip_model, name, SIXTY) for name in classnames]


@dataclass
class Seen:
    """What the terms are made of: normalised features, the student's logits, and the views of the images.

    Of images that have two features, `images` are their weighted sums, and `kinds` has both apart with their weights.
    """

    clip_model: torch.nn.Module
    classnames: list[str]
    views: list[Tensor]
    images: list[Tensor]
    classes: list
    logits: list
    kinds: list[tuple[float, list[Tensor]]]

    def of_frozen(self, view: int) -> list[Tensor]:
        return [naive.frozen_image(self.clip_model, image) for image in self.views[view]]


def self_regulation_terms(seen: Seen) -> dict[str, Tensor]:
    text, images = sixty_averaged(seen.clip_model, tuple(seen.classnames)), seen.of_frozen(0)
    of_teacher = naive.logits(seen.clip_model.logit_scale.exp(), images, text)
    return {
        "loss_text": 7 * naive.mean_absolute(naive.all_pairs(seen.classes, text)),
        "loss_image": 3 * naive.mean_absolute(list(zip(seen.images, images))),
        "loss_logits": naive.divergence(seen.logits, of_teacher),
    }


def consistency_terms(seen: Seen, distance: Callable) -> dict[str, Tensor]:
    described = [naive.unit(naive.frozen_sentence(seen.clip_model, sentences[1])) for sentences in SENTENCES]
    return {
        "loss_text": 3 * distance(naive.all_pairs(seen.classes, described)),
        "loss_image": 3 * distance(list(zip(seen.images, seen.of_frozen(1)))),
    }


def guidance_terms(seen: Seen) -> dict[str, Tensor]:
    template = "a centered satellite photo of {}."
    text = [naive.averaged_sentences(seen.clip_model, name, [template]) for name in seen.classnames]
    return {"loss_text": 5 * naive.mean_cosine_distance(naive.all_pairs(seen.classes, text))}


def independence_terms(seen: Seen) -> dict[str, Tensor]:
    template = "a photo of a person doing {}."
    text = [naive.averaged_sentences(seen.clip_model, name, [template]) for name in seen.classnames]
    rows = seen.classes if isinstance(seen.classes[0], list) else [seen.classes]
    return {
        "loss_text": 5 * naive.mean_cosine_distance(naive.all_pairs(seen.classes, text)),
        "loss_dependence": 30 * sum(naive.linear_hsic(row, text) for row in rows) / len(rows),
    }


def projection_terms(seen: Seen) -> dict[str, Tensor]:
    template = "a type of pet, a photo of a {}."
    text = [naive.averaged_sentences(seen.clip_model, name, [template]) for name in seen.classnames]
    of_teacher = naive.logits(seen.clip_model.logit_scale.exp(), seen.of_frozen(0), text)
    return {"loss_kl": naive.softened_cross_entropy(seen.logits, of_teacher, 2.0)}


def anchoring_terms(seen: Seen) -> dict[str, Tensor]:
    described = [naive.normalised_then_averaged(seen.clip_model, sentences) for sentences in SENTENCES]
    return {
        "loss_text": 4 * naive.mean_cosine_distance(naive.all_pairs(seen.classes, described)),
        "loss_image": 4 * naive.mean_cosine_distance(list(zip(seen.images, seen.of_frozen(0)))),
    }


def alignment_terms(seen: Seen) -> dict[str, Tensor]:
    template, scale = "a photo of {}, a type of food.", seen.clip_model.logit_scale.exp()
    text = [naive.averaged_sentences(seen.clip_model, name, [template]) for name in seen.classnames]
    of_each = [
        share * naive.cross_entropy(naive.logits(scale, images, seen.classes), LABELS.tolist())
        for share, images in seen.kinds
    ]
    (_, first), *_ = seen.kinds
    return {
        "loss_ce": sum(of_each),
        "loss_text": 4 * naive.mean_cosine_distance(naive.all_pairs(seen.classes, text)),
        "loss_image": 4 * naive.mean_cosine_distance(list(zip(first, seen.of_frozen(0)))),
    }


# Objective, and its terms beside the cross-entropy. Of two descriptions the second is drawn.
EQUATIONS = {
    "self-regulation": (
        lambda: SelfRegulation(SelfRegulationConfig(text_weight=7.0, image_weight=3.0)),
        self_regulation_terms,
    ),
    "consistency": (consistency, lambda seen: consistency_terms(seen, naive.mean_cosine_distance)),
    "consistency by squares": (
        lambda: consistency(distance="mse"),
        lambda seen: consistency_terms(seen, naive.mean_square),
    ),
    "knowledge guidance": (
        lambda: KnowledgeGuidance(KnowledgeGuidanceConfig(weight=5.0), RunFacts(dataset="EuroSAT")),
        guidance_terms,
    ),
    "knowledge independence": (
        lambda: KnowledgeIndependence(
            KnowledgeIndependenceConfig(weight=5.0, independence=30.0), RunFacts(dataset="UCF101")
        ),
        independence_terms,
    ),
    "projected gradient": (
        lambda: ProjectedGradient(ProjectedGradientConfig(share=0.7, temperature=2.0), RunFacts(dataset="OxfordPets")),
        projection_terms,
    ),
    "anchoring": (anchoring, anchoring_terms),
    "alignment": (lambda: Alignment(AlignmentConfig(weight=4.0), RunFacts(dataset="Food101")), alignment_terms),
}


def naive_terms(name: str, clip_model, learner, views: list[Tensor], classnames) -> dict[str, Tensor]:
    def changed(tower: str, share: float, frozen: Callable) -> Callable:
        """A raw feature as it is classified, but for its norm; `frozen` gives what an anchored one is mixed with."""
        if learner.anchors is not None:
            return lambda feature, source: naive.mixed(feature, frozen(source))
        if learner.adapters is None:
            return lambda feature, source: feature
        inner, _, outer, *_ = getattr(learner.adapters, tower).layers
        return lambda feature, source: naive.adapted(feature, inner.weight, outer.weight, share)

    of_image = changed("image", 0.3, lambda image: naive.frozen_image(clip_model, image))
    of_class = changed("text", 0.6, lambda described: naive.normalised_then_averaged(clip_model, described))
    raw_images, raw_classes = naive_features(clip_model, learner, views[0], classnames, of_image)
    kinds = [
        (share, units([of_image(*pair) for pair in zip(raw, views[0])]))
        for share, raw in in_kinds(raw_images, learner.class_share)
    ]
    images = [sum(share * one for (share, _), one in zip(kinds, of_one)) for of_one in zip(*(one for _, one in kinds))]
    nested = isinstance(raw_classes[0], list)
    rows = [[of_class(*pair) for pair in zip(row, SENTENCES)] for row in (raw_classes if nested else [raw_classes])]
    classes = units(rows if nested else rows[0])
    logits = naive.logits(clip_model.logit_scale.exp(), images, classes)
    terms = EQUATIONS[name][1](Seen(clip_model, classnames, views, images, classes, logits, kinds))
    return {"loss_ce": naive.cross_entropy(logits, LABELS.tolist()), **terms}


def naive_gradients(name: str, terms: dict[str, Tensor], inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss of the terms, and its gradients as the objective's step takes them."""
    if name != "projected gradient":
        loss = sum(terms.values())
        return loss, torch.autograd.grad(loss, inputs, retain_graph=True)
    own, general = (torch.autograd.grad(terms[key], inputs, retain_graph=True) for key in ("loss_ce", "loss_kl"))
    return terms["loss_ce"], [naive.projected(*pair, 0.7) for pair in zip(own, general)]
