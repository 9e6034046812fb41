"""DeCoOp: detectors of new classes decide for each image which contexts classify it, or the frozen CLIP.

Zhou et al., "DeCoOp: Robust Prompt Tuning with Out-of-Distribution Detection", ICML 2024, arXiv 2406.00345. K
detectors and K sub-classifiers each have a context of their own, as CoOp's. Detector i learns that the base classes j
with j mod K = i are none of its own, so that its probability of its own classes tells base from new images. A
sub-classifier counts where its detector accepts the image; where none does, the frozen CLIP classifies. No context
enters the image tower, so all of it is a function of one image feature.

The authors test a model among all classes, and take the accuracy of new images among new classes from the same
predictions. A test of the new classes alone gives the same here: detectors know the base classes in every test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.learner import FixedSentence, PromptLearner, TowerPrompts
from ..core.templates import SELECTED
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting
from .coop import CoOpConfig, CoOpLearner

_CONTEXT = "detectors.{}.text_prompts.0"


def divisions(number: int, parts: int) -> list[list[int]]:
    """The own classes of each detector, of `number` base classes: those j with j mod `parts` other than its place i.

    All have as many, ceil(number (parts - 1) / parts): where one is missing, class i is added, whose images stay those
    of a foreign class.
    """
    size = -(-number * (parts - 1) // parts)
    own = [[j for j in range(number) if j % parts != i] for i in range(parts)]
    return [classes + [i] * (size - len(classes)) for i, classes in enumerate(own)]


def membership(logits: Tensor, own: int) -> Tensor:
    """The largest probability of one of the first `own` classes, `[...]`, of logits `[..., classes]`."""
    return (logits[..., :own].amax(dim=-1) - logits.logsumexp(dim=-1)).exp()


def routed(accepted: Tensor, classified: Tensor, zero_shot: Tensor) -> Tensor:
    """Logits `[batch, classes]` of each image by those who are to classify it.

    Args:
        accepted: `[batch, K]` bool, the decisions of the detectors.
        classified: `[batch, K, classes]`, logits of the sub-classifiers. Those that do not count are 0 in their mean.
        zero_shot: `[batch, classes]`, for images that no detector accepts.
    """
    mean = classified.masked_fill(~accepted[..., None], 0).mean(dim=1)
    return torch.where(accepted.any(dim=1, keepdim=True), mean, zero_shot)


@dataclass(frozen=True)
class DeCoOpConfig(Settings):
    """Settings of the learner: K detectors and K sub-classifiers (`number`) of b context tokens each (`length`)."""

    length: int = setting(
        16,
        "N_CTX",
        "context tokens of each detector and sub-classifier, b",
        least=1,
        most=MOST_TOKENS,
        told_by=lambda state_dict: len(state_dict.get(_CONTEXT.format(0), ())),
    )
    number: int = setting(
        3,
        "K",
        "detectors, and sub-classifiers",
        least=2,
        most=100,
        told_by=lambda state_dict: sum(_CONTEXT.format(i) in state_dict for i in range(100)),
    )


class DeCoOpLearner(PromptLearner):
    """The contexts, and what a test needs to know of the training.

    Attributes:
        detectors, classifiers: K CoOp learners each.
        threshold: `[1]`, the score from which on a detector accepts an image; 0 before training.
        base_names: UTF-8 of the base classes' names, a line each, so that checkpoints have them.
        base: these names; empty before training, when the classes that are classified stand for them.
    """

    recordable = True

    def __init__(self, config: DeCoOpConfig, clip_model: nn.Module):
        super().__init__()
        self.config = config
        of_each = CoOpConfig(length=config.length)
        self.detectors, self.classifiers = (
            nn.ModuleList(CoOpLearner(of_each, clip_model) for _ in range(config.number)) for _ in range(2)
        )
        self.template, self.text_slots = self.detectors[0].template, config.length
        self.register_buffer("threshold", torch.zeros(1))
        self.set_base([])

    @property
    def inference(self) -> str:
        number = self.config.number
        return (
            f"A test encodes each image once, each base or tested class {number} times for the detectors, and each "
            f"tested class {number} times for the sub-classifiers and {len(SELECTED)} times for the frozen CLIP; "
            f"{number} decisions route each image."
        )

    def set_base(self, names: Sequence[str]) -> None:
        """Set the names of the base classes."""
        self.base = list(names)
        encoded = torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)
        self.register_buffer("base_names", encoded.to(self.threshold.device))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        names = state_dict.get(f"{prefix}base_names")
        if names is not None and names.dtype == torch.uint8:
            text = bytes(names.flatten().tolist()).decode(errors="replace")
            self.set_base(text.split("\n") if text else [])
        super()._load_from_state_dict(state_dict, prefix, *others)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        raise TypeError("DeCoOp's classes have no single features; its router encodes them for each context.")

    def router(self, prompted: Callable[..., nn.Module], classnames: Sequence[str]) -> Router:
        return Router(self, prompted, classnames)


class Router(nn.Module):
    """Classifies images by the contexts of a learner, as their detectors decide.

    Args:
        prompted: makes a `PromptedCLIP` of some learner and some classes within the same CLIP.
        classnames: of the classes to tell apart.

    Attributes:
        own: for each detector the CLIP of its own classes; all have `own_number`.
        foreign: for each the CLIP of all others, base classes included; none where there are no others.
    """

    def __init__(self, learner: DeCoOpLearner, prompted: Callable[..., nn.Module], classnames: Sequence[str]):
        super().__init__()
        self.learner, self.prompted, self.classnames = learner, prompted, list(classnames)
        self.classifiers = nn.ModuleList(prompted(one, classnames) for one in learner.classifiers)
        self.plain = prompted(FixedSentence(*SELECTED), classnames)
        self.base: list[str] | None = None
        self.renew()

    def renew(self) -> None:
        """Divide the base classes anew, where they have become others."""
        base = self.learner.base or self.classnames
        if base == self.base:
            return
        self.base, self.divisions = base, divisions(len(base), len(self.learner.detectors))
        self.own_number = len(self.divisions[0])
        self.own, self.foreign = nn.ModuleList(), nn.ModuleList()
        for detector, division in zip(self.learner.detectors, self.divisions):
            self.own.append(self.prompted(detector, [base[j] for j in division]))
            # By their numbers, because ImageNet has classes of one name.
            others = [base[j] for j in range(len(base)) if j not in division]
            others += [name for name in self.classnames if name not in base]
            if others:
                self.foreign.append(self.prompted(detector, others))

    def detector_features(self) -> Tensor:
        """Normalised features for the detectors, `[K, classes, embed]` in fp32: the own classes first."""
        self.renew()
        parts = [self.own, *([self.foreign] if self.foreign else [])]
        return torch.stack([torch.cat([part.class_features() for part in of_one]) for of_one in zip(*parts)])

    def zero_shot_features(self) -> Tensor:
        """The mean of the normalised features of a class's sentences, `[classes, embed]` in fp32.

        It is not normalised, so that its logits are the mean of theirs.
        """
        with torch.no_grad():
            features = F.normalize(self.plain.encode_text().float(), dim=-1)
        return features.unflatten(0, (len(SELECTED), -1)).mean(dim=0)

    def class_features(self) -> Tensor:
        """All features that `logits` needs, `[rows, embed]`: of detectors, sub-classifiers, and the frozen CLIP."""
        classified = [one.class_features() for one in self.classifiers]
        return torch.cat([self.detector_features().flatten(0, 1), *classified, self.zero_shot_features()])

    def logits(self, image_features: Tensor, class_features: Tensor, scale: Tensor) -> Tensor:
        """Logits `[batch, classes]`.

        Args:
            image_features: of the frozen CLIP, normalised `[batch, embed]`.
            class_features: as above.
            scale: of cosines.
        """
        number, tested = len(self.classifiers), len(self.classnames)
        logits = scale * image_features @ class_features.t()
        detected, classified, zero_shot = logits.tensor_split([-(number + 1) * tested, -tested], dim=1)
        scores = membership(detected.unflatten(1, (number, -1)), self.own_number)
        return routed(scores >= self.learner.threshold, classified.unflatten(1, (number, -1)), zero_shot)

    def forget_class_features(self) -> None:
        """Let all parts compute them again; see `PromptedCLIP`."""
        for part in (*self.own, *self.foreign, *self.classifiers):
            part.forget_class_features()


METHOD = declare(
    Method(
        "DeCoOp",
        summary="contexts of detectors, which tell new from base classes, and of sub-classifiers that they choose",
        node="DECOOP",
        config=DeCoOpConfig,
        learner=DeCoOpLearner,
        recipes=Recipes("vit_b16"),
        objective="decomposition",
        own_objective=True,
        needs_vit=False,
        venue="ICML 2024",
        arxiv="2406.00345",
    )
)
