"""The objectives' equations, written for reading and not for speed: the reference that the fast ones are tested by.

Nothing of the project is imported. Features come from the naive towers of `naive_methods.py`, one image and one
sentence at a time; every sum over entries, classes and images is a loop.
"""

from __future__ import annotations

import math

import torch
from naive_methods import _embedded, _tokens, image_feature, text_feature, unit
from torch import Tensor

# ---------------------------------------------------------------------------------------------------------------------
# Teachers, and what they are compared with
# ---------------------------------------------------------------------------------------------------------------------


def frozen_sentence(clip_model, sentence: str) -> Tensor:
    """The frozen CLIP's feature of a sentence as it stands, `[embed]`, not normalised."""
    with torch.no_grad():
        ids = _tokens(sentence)
        return text_feature(clip_model, _embedded(clip_model, ids), ids)


def frozen_image(clip_model, image: Tensor) -> Tensor:
    """The frozen CLIP's feature of an image, `[embed]`, normalised."""
    with torch.no_grad():
        return unit(image_feature(clip_model, image))


def averaged_sentences(clip_model, classname: str, templates: list[str]) -> Tensor:
    """The mean of the features as they come, normalised afterwards."""
    total = 0
    for template in templates:
        total = total + frozen_sentence(clip_model, template.replace("{}", classname.replace("_", " ")))
    return unit(total / len(templates))


def mixed(feature: Tensor, frozen: Tensor) -> Tensor:
    """The normalised sum of a raw feature, normalised, and a frozen one, which is."""
    return unit(unit(feature) + frozen)


def normalised_then_averaged(clip_model, sentences: list[str]) -> Tensor:
    """The normalised mean of the sentences' normalised features."""
    return unit(sum(unit(frozen_sentence(clip_model, sentence)) for sentence in sentences) / len(sentences))


def adapted(feature: Tensor, inner: Tensor, outer: Tensor, share: float) -> Tensor:
    """share * ReLU(outer ReLU(inner f)) + (1 - share) * f, of a raw feature."""
    answer = (outer @ (inner @ feature).clamp(min=0)).clamp(min=0)
    return share * answer + (1 - share) * feature


# ---------------------------------------------------------------------------------------------------------------------
# Losses of normalised features: images [B][d], classes [C][d] or [B][C][d]
# ---------------------------------------------------------------------------------------------------------------------


def of_image(classes, i: int):
    """The classes as image i is compared with them."""
    return classes[i] if isinstance(classes[0], list) else classes


def all_pairs(classes, teachers: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Every class feature there is, each with its class's teacher."""
    rows = classes if isinstance(classes[0], list) else [classes]
    return [(feature, teacher) for row in rows for feature, teacher in zip(row, teachers)]


def logits(scale: Tensor, images: list[Tensor], classes) -> list[list[Tensor]]:
    return [[scale * (image * feature).sum() for feature in of_image(classes, i)] for i, image in enumerate(images)]


def cross_entropy(rows: list[list[Tensor]], labels: list[int]) -> Tensor:
    return _mean([-_log_probabilities(row)[label] for row, label in zip(rows, labels)])


def mean_absolute(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return _mean([(x - y).abs() for feature, teacher in pairs for x, y in zip(feature, teacher)])


def mean_square(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return _mean([(x - y) ** 2 for feature, teacher in pairs for x, y in zip(feature, teacher)])


def mean_cosine_distance(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return _mean([1 - (unit(feature) * unit(teacher)).sum() for feature, teacher in pairs])


def divergence(student: list[list[Tensor]], teacher: list[list[Tensor]]) -> Tensor:
    """sum of q (log q - log p), divided by images times classes."""
    terms = []
    for row, teacher_row in zip(student, teacher):
        for log_p, log_q in zip(_log_probabilities(row), _log_probabilities(teacher_row)):
            terms.append(log_q.exp() * (log_q - log_p))
    return _mean(terms)


def linear_hsic(features: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """trace(H K H L), entry by entry; K and L are products of rows over the norms of all entries."""
    number = len(features)

    def kernel(rows: list[Tensor]) -> list[list[Tensor]]:
        square = sum((value * value) for row in rows for value in row)
        return [[(one * other).sum() / square for other in rows] for one in rows]

    def product(one: list[list], other: list[list]) -> list[list]:
        return [[sum(one[i][k] * other[k][j] for k in range(number)) for j in range(number)] for i in range(number)]

    h = [[(i == j) - 1 / number for j in range(number)] for i in range(number)]
    whole = product(product(h, kernel(features)), product(h, kernel(teacher)))
    return sum(whole[i][i] for i in range(number))


def upper_bound(
    scale: Tensor, images: list[Tensor], samples: list[list[Tensor]], labels: list[int]
) -> list[list[Tensor]]:
    """Mean logits plus half the scaled variance of their difference from that of the label.

    Args:
        samples: features of the classes, `[samples][classes][embed]`.
    """
    means = [sum(of_class) / len(of_class) for of_class in zip(*samples)]

    def covariance(one: int, other: int) -> Tensor:
        """Of two classes, feature by feature, `[embed]`."""
        products = [(sample[one] - means[one]) * (sample[other] - means[other]) for sample in samples]
        return sum(products) / (len(samples) + 1)

    rows = []
    for image, y in zip(images, labels):
        row = []
        for c, mean in enumerate(means):
            difference = covariance(y, y) + covariance(c, c) - covariance(y, c) - covariance(c, y)
            row.append(scale * image @ mean + scale**2 / 2 * (image * difference * image).sum())
        rows.append(row)
    return rows


def mean_absolute_cosine(features: list[Tensor]) -> Tensor:
    """Of each two of the features."""
    pairs = [(one, other) for one in features for other in features if one is not other]
    return _mean([(unit(one) @ unit(other)).abs() for one, other in pairs])


def softened_cross_entropy(student: list[list[Tensor]], teacher: list[list[Tensor]], temperature: float) -> Tensor:
    """T^2 times the mean over images of -sum q log p, with the softmaxes p and q of logits / T."""
    rows = []
    for row, teacher_row in zip(student, teacher):
        log_p = _log_probabilities([value / temperature for value in row])
        log_q = _log_probabilities([value / temperature for value in teacher_row])
        rows.append(-sum(q.exp() * p for p, q in zip(log_p, log_q)))
    return temperature**2 * _mean(rows)


def projected(gradient: Tensor, general: Tensor, share: float) -> Tensor:
    """G_d, or where <G_d, G_g> < 0, G_d - share <G_d, G_g> / |G_g|^2 G_g, entry by entry."""
    pairs = list(zip(gradient.flatten().tolist(), general.flatten().tolist()))
    product, square = sum(d * g for d, g in pairs), sum(g * g for _, g in pairs)
    if product >= 0:
        return gradient
    return torch.tensor([d - share * product / square * g for d, g in pairs]).view_as(gradient)


def _mean(terms: list[Tensor]) -> Tensor:
    return sum(terms) / len(terms)


def _log_probabilities(row: list[Tensor]) -> list[Tensor]:
    largest = max(value.item() for value in row)
    total = sum((value - largest).exp() for value in row)
    return [value - largest - total.log() for value in row]


# ---------------------------------------------------------------------------------------------------------------------
# The average over the epochs
# ---------------------------------------------------------------------------------------------------------------------


def normal_density(t: float, mean: float, std: float) -> float:
    return math.exp(-((t - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))


def weighted_sum(states: list[dict[str, Tensor]], mean: float, std: float) -> dict[str, Tensor]:
    """Of the states at the ends of the epochs 1, 2, ..., in double precision."""
    densities = [normal_density(epoch, mean, std) for epoch in range(1, len(states) + 1)]
    averaged = {}
    for name in states[0]:
        averaged[name] = sum(
            density / sum(densities) * state[name].double() for density, state in zip(densities, states)
        )
    return averaged


# ---------------------------------------------------------------------------------------------------------------------
# DeCoOp: logits [B][classes] of one detector or sub-classifier
# ---------------------------------------------------------------------------------------------------------------------


def detector_terms(rows: list[list[Tensor]], places: list[int | None], margin: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of images of own classes, and margin; `places` of the labels among the own classes, or None."""
    inside = [(row, place) for row, place in zip(rows, places) if place is not None]
    outside = [row for row, place in zip(rows, places) if place is None]
    gap = torch.zeros(())
    if inside and outside:
        gap = margin + _mean([entropy(row) for row, _ in inside]) - _mean([entropy(row) for row in outside])
    losses = [-_log_probabilities(row)[place] for row, place in inside]
    return _mean(losses) if losses else torch.zeros(()), gap.clamp(min=0)


def classifier_terms(rows, teacher, accepted: list[bool], labels: list[int]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of accepted images, and the divergence of the others from a teacher, in sum over the classes."""
    losses, divergences = [], []
    for row, teacher_row, takes, label in zip(rows, teacher, accepted, labels):
        log_p, log_q = _log_probabilities(row), _log_probabilities(teacher_row)
        if takes:
            losses.append(-log_p[label])
        else:
            divergences.append(sum(q.exp() * (q - p) for p, q in zip(log_p, log_q)))
    return tuple(_mean(values) if values else torch.zeros(()) for values in (losses, divergences))


def entropy(row: list[Tensor]) -> Tensor:
    return -sum(log_p.exp() * log_p for log_p in _log_probabilities(row))


def otsu(scores: list[float], bins: int = 256) -> float:
    """The middle of the bin after which a cut leaves the largest variance between the groups."""
    low, high = min(scores), max(scores)
    if low == high:
        return low
    width = (high - low) / bins
    middles = [low + (number + 0.5) * width for number in range(bins)]
    of_bin = [min(int((score - low) / width), bins - 1) for score in scores]
    best, threshold = -1.0, low
    for cut in range(bins - 1):
        below = [middles[number] for number in of_bin if number <= cut]
        above = [middles[number] for number in of_bin if number > cut]
        distance = sum(below) / len(below) - sum(above) / len(above)
        variance = len(below) * len(above) * distance**2
        if variance > best * (1 + 1e-12):
            best, threshold = variance, middles[cut]
    return threshold
