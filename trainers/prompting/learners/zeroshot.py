"""Zero-shot CLIP: one sentence per class or the average of several, nothing trained.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..core.learner import FixedSentence
from ..core.templates import DEFAULT, SELECTED
from ..declaration import Method, Recipes, Settings, declare, setting


@dataclass(frozen=True)
class ZeroshotConfig(Settings):
    """Settings of zero-shot CLIP."""

    templates: tuple[str, ...] = setting(
        (DEFAULT,), "", "sentences of a class, with {} for its name; the features of several are averaged"
    )

    def check(self) -> None:
        if not self.templates:
            raise self.error("{templates} is empty; set it to a list of sentences with {} for the class.", "{}")
        for template in self.templates:
            if "{}" not in template:
                raise self.error("The template {!r} has no place for the class; write {} there.", template, "{}")


@dataclass(frozen=True)
class SelectedConfig(ZeroshotConfig):
    """Settings with the sentences that OpenAI selected for ImageNet."""

    templates: tuple[str, ...] = setting(
        SELECTED, "", "sentences of a class, with {} for its name; their features are averaged"
    )


def learner(config: ZeroshotConfig, clip_model: nn.Module) -> FixedSentence:
    return FixedSentence(*config.templates)


PUBLISHED = dict(
    node="ZEROSHOTCLIP",
    learner=learner,
    recipes=Recipes("vit_b16"),
    needs_vit=False,
    precision="fp32",
    learns=False,
    venue="ICML 2021",
    arxiv="2103.00020",
)
METHOD = declare(
    Method(
        "ZeroshotCLIP",
        summary="nothing: the data set's own sentence for each class",
        config=ZeroshotConfig,
        **PUBLISHED,
    )
)
ENSEMBLE = declare(
    Method(
        "ZeroshotCLIP2",
        summary="nothing: the average of seven sentences and, except on ImageNet, its own",
        config=SelectedConfig,
        **PUBLISHED,
    )
)
