"""The inside of trained models of one data set, for the report and for scripts/look_inside.py.

Examples of the data, images on which two models differ, pictures of features, gates and attention, and the words
nearest to the text prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.records import kept_settings

from . import pictures
from .methods import BASELINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from .models import Sight

SAMPLES, DIFFERENCES, NEAREST = 12, 6, 6
BMIP = "BMIP"
GATES = (
    "the weight of a layer's own prompts, by class (text) and by image (vision), mean of the tokens. One column is a "
    "layer, one line a class or an image. Above a column stand the mean of its gates and, of few layers, their "
    "standard deviation; the colour is the difference from that mean. Lines are in the order of the sum of these "
    "differences, each in units of its column's deviation; beside them are those at both ends."
)
ATTENTION = (
    "the attention that prompts receive in each layer, in units of uniform attention (dotted); mean and standard "
    "deviation over classes (text) and images (vision)."
)


@dataclass(frozen=True)
class Example:
    """A test image as the models see it.

    Attributes:
        png: a small file.
        label: its class.
        answers: the class that each method predicts among all classes, by the method's row name.
    """

    png: bytes
    label: str
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Words:
    """The words nearest to a text prompt.

    Attributes:
        layer, token: place of the prompt, from 0.
        nearest: pieces of words, and their Euclidean distances from the prompt, nearest first.
    """

    layer: int
    token: int
    nearest: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Inside:
    """See `look`.

    Attributes:
        dataset: its registered name.
        samples: images of different classes, base and new.
        differences: {(right, wrong): images that the first method gets right and the other one wrong}, by row names.
        counts: {(right, wrong): the number of such images among those seen}.
        figures: {name: matplotlib's figure, and its caption}.
        words: by row name, for methods with text prompts in the space of words.
        wordless: by row name, the reason why other methods have none.
        images: number of test images seen.
    """

    dataset: str
    samples: tuple[Example, ...]
    differences: Mapping[tuple[str, str], tuple[Example, ...]]
    counts: Mapping[tuple[str, str], int]
    figures: Mapping[str, tuple[Figure, str]]
    words: Mapping[str, tuple[Words, ...]]
    wordless: Mapping[str, str]
    images: int

    def files(self) -> dict[str, Example]:
        """The examples by name, of the sample and of the differences in turn."""
        found = {f"sample_{number:02}": example for number, example in enumerate(self.samples)}
        for (right, wrong), examples in self.differences.items():
            found |= {f"{right}_not_{wrong}_{number}": example for number, example in enumerate(examples)}
        return found

    def lines(self) -> list[str]:
        """The differences, and the words nearest to the prompts, as text."""
        found = [
            f"{right} is right and {wrong} wrong on {number} of {self.images} images"
            for (right, wrong), number in self.counts.items()
        ]
        for name, words in self.words.items():
            found.append(f"Words nearest to the text prompts of {name} in the first layer, with their distances:")
            for each in words:
                nearest = ", ".join(f"{piece} {distance:.2f}" for piece, distance in each.nearest)
                found.append(f"  token {each.token}: {nearest}")
        return found + [f"No words for {name}: {reason}" for name, reason in self.wordless.items()]


def together(runs: Sequence[Path]) -> list[list[Path]]:
    """Training runs in groups that `look` takes: those of the same data set and CLIP."""
    groups: dict[tuple, list[Path]] = {}
    for run in runs:
        settings = kept_settings(run) or {}
        key = settings.get("DATASET", {}).get("NAME"), settings.get("MODEL", {}).get("BACKBONE", {}).get("NAME")
        groups.setdefault(key, []).append(run)
    return [*groups.values()]


def look(runs: Sequence[Path], data: str | None = None) -> Inside:
    """Look into the models of some training runs, and into zero-shot CLIP, on test images of all classes.

    BMIP, or the method of the first run, is compared with each other one. Where the test has more than
    `models.MOST_IMAGES` images, that many are seen, evenly spread over it. Nothing is random.

    Args:
        runs: output folders of training runs of one data set and one CLIP.
        data: folder of the data sets; None: that of the runs.

    Raises:
        InputError: a run without model or data, or runs of several data sets or CLIPs.
    """
    from .models import look_at  # here, because torch comes with it

    sight = look_at(runs, data)
    names = [name for name in sight.models if name != BASELINE]
    chief = next((name for name in names if name == BMIP or name.startswith(f"{BMIP}, ")), names[0])
    pairs = [pair for other in sight.models if other != chief for pair in ((chief, other), (other, chief))]
    numbers = {pair: _differ(sight, *pair) for pair in pairs}
    prompts = {name: sight.models[name].prompts for name in names}
    return Inside(
        dataset=sight.dataset,
        samples=_examples(sight, _samples(sight)),
        differences={pair: _examples(sight, _spread(sight, found, DIFFERENCES)) for pair, found in numbers.items()},
        counts={pair: len(found) for pair, found in numbers.items()},
        figures=_figures(sight, chief),
        words={name: _words(sight, found) for name, found in prompts.items() if not isinstance(found, str)},
        wordless={name: reason for name, reason in prompts.items() if isinstance(reason, str)},
        images=len(sight.labels),
    )


def _differ(sight: Sight, right: str, wrong: str) -> list[int]:
    """Numbers of the images that one model gets right and the other one wrong."""
    hits = {name: sight.models[name].answers == sight.labels for name in (right, wrong)}
    return (hits[right] & ~hits[wrong]).nonzero()[:, 0].tolist()


def _samples(sight: Sight) -> list[int]:
    """One image of each of some classes, half of them base classes where there are both."""
    is_base = sight.is_base[sight.labels]
    parts = [part.nonzero()[:, 0].tolist() for part in (is_base, ~is_base)]
    parts = [part for part in parts if part]
    return [number for part in parts for number in _spread(sight, part, SAMPLES // len(parts))]


def _spread(sight: Sight, numbers: Sequence[int], most: int) -> list[int]:
    """Some of the images, of as many classes as there are, evenly spread over them; in the order of the labels."""
    rank: Counter[int] = Counter()
    ranked: dict[int, list[int]] = {}
    for number in numbers:
        label = int(sight.labels[number])
        ranked.setdefault(rank[label], []).append(number)
        rank[label] += 1
    chosen: list[int] = []
    for _, found in sorted(ranked.items()):
        found = sorted(found, key=lambda number: int(sight.labels[number]))
        chosen += evenly(found, most - len(chosen))
    return sorted(chosen, key=lambda number: (int(sight.labels[number]), number))


def evenly(items: Sequence[int], most: int) -> list[int]:
    """All items, or some of them, evenly spread."""
    return [*items] if len(items) <= most else [items[place * len(items) // most] for place in range(most)]


def _examples(sight: Sight, numbers: Sequence[int]) -> tuple[Example, ...]:
    from .models import png

    names = sight.classnames
    return tuple(
        Example(
            png=png(sight.picture(number)),
            label=names[sight.labels[number]],
            answers={name: names[model.answers[number]] for name, model in sight.models.items()},
        )
        for number in numbers
    )


def _words(sight: Sight, prompts: Tensor) -> tuple[Words, ...]:
    found = sight.nearest(prompts, NEAREST)
    return tuple(Words(0, token, tuple(nearest)) for token, nearest in enumerate(found))


def _figures(sight: Sight, chief: str) -> dict[str, tuple[Figure, str]]:
    """Those of the chief method by kind, those of others by kind and method."""
    number, total = len(sight.labels), sight.total
    images = f"{number:,} test images" if number == total else f"{number:,} of {total:,} test images"
    on = f"on {images} of {sight.dataset}"
    places = evenly(range(number), pictures.MOST_POINTS)
    of = "" if len(places) == number else f"{len(places):,} of "
    features = {name: sight.models[name].features[places] for name in (BASELINE, chief)}
    drawn = pictures.draw_features(features, sight.labels[places], sight.classnames, sight.is_base)
    caption = f"Features of {of}{images} of {sight.dataset} in zero-shot CLIP and in {chief}, laid out by t-SNE"
    made = {"features": (drawn, f"{caption} (distances between groups mean little).")}
    for name in sorted(sight.models, key=lambda name: name != chief):
        model, suffix = sight.models[name], "" if name == chief else f"_{name}"
        if model.gates:
            drawn = pictures.draw_gates(model.gates, sight.classnames, sight.picture)
            made[f"gates{suffix}"] = drawn, f"Gates of {name} {on}: {GATES}"
        if model.attention:
            made[f"attention{suffix}"] = pictures.draw_attention(model.attention), f"{name} {on}: {ATTENTION}"
    return made
