"""The fast core computes what the equations say: logits, loss and gradients against the naive implementations.

Also where work is cut: classes in groups by length, several images or one at a time, activations computed again; and
whether a tower runs segments by themselves or one sequence.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from conftest import make_clip
from helpers.learners import TOLERANCE, assert_equal_to_naive, make
from naive_methods import cosine_logits, zero_shot_features

from trainers.prompting.core import batching, tower
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bitp import FIRST
from trainers.prompting.learners.bmip import AGGREGATIONS

WORDS = "a photo of a"
POSITIONS = ["end", "middle", "front"]
DEPTHS = (1, 2, 3)
VARIANTS = ("paper", "released")


@pytest.fixture(autouse=True, params=["segments", "one sequence"])
def segments_or_one_sequence(request, monkeypatch) -> None:
    cost = -1 if request.param == "segments" else float("inf")
    monkeypatch.setattr(tower, "SEGMENTS_COST", {"cpu": cost})


def ivlp(text: tuple[int, int], vision: tuple[int, int], **settings) -> tuple[str, dict]:
    """`text` and `vision` are length and depth."""
    names = ("text_length", "text_depth", "vision_length", "vision_depth")
    return "IVLP", {**dict(zip(names, (*text, *vision))), **settings}


def bmip(depth: int = 3, **settings) -> tuple[str, dict]:
    return "BMIP", dict(depth=depth, **settings)


def mma(first: int, depth: int, hidden: int = 7, scale: float = 0.1, **settings) -> tuple[str, dict]:
    return "MMA", dict(first=first, depth=depth, hidden=hidden, scale=scale, **settings)


def mmrl(layers: tuple[int, ...] = (2, 3), length: int = 3, width: int = 9, **settings) -> tuple[str, dict]:
    return "MMRL", dict(layers=layers, length=length, width=width, **settings)


def mmrlpp(**settings) -> tuple[str, dict]:
    return "MMRLpp", {**mmrl()[1], **dict(new_share=0.6, rank=2, projection_rank=3), **settings}


def bitp(connect: str, depth: int = 3, **settings) -> tuple[str, dict]:
    return "BITP", dict(connect=connect, depth=depth, **settings)


CASES = [
    *[
        bmip(depth, variant=variant, length=length, share_text=share, share_vision=share)
        for variant, share, depth, length in product(VARIANTS, (True, False), DEPTHS, (1, 2, 4, 5))
    ],
    *[bmip(aggregation=aggregation, length=length) for aggregation, length in product(AGGREGATIONS, (2, 3))],
    *[
        bmip(variant=variant, **settings)
        for variant in VARIANTS
        for settings in (
            *(dict(detach=False), dict(relative=True), dict(detach=False, relative=True), dict(context="")),
            dict(share_text=True, share_vision=False),
        )
    ],
    *[
        ("CoOp", dict(length=length, position=position, class_specific=class_specific))
        for length, position, class_specific in product((1, 2, 3, 5, 16), POSITIONS, (False, True))
    ],
    *[
        ("CoOp", dict(context=context, position=position))
        for context in ("this", "a_photo_of_a", "a bad photo of the big", "a jacuzzi of a")
        for position in POSITIONS
    ],
    *[("CoCoOp", settings) for settings in (dict(length=1), dict(length=3), dict(context=WORDS), dict(length=6))],
    *[
        ivlp((length, depth), (length, depth), context=context)
        for length, depth, context in product((1, 2, 4, 5), DEPTHS, (WORDS, ""))
    ],
    *[ivlp(text, vision) for text, vision in (((1, 3), (4, 1)), ((4, 1), (2, 3)), ((3, 2), (1, 1)))],
    *[
        ivlp((length, depth), (0, 0), context=context)
        for length, depth, context in product((1, 4), DEPTHS, (WORDS, ""))
    ],
    *[ivlp((3, depth), (2, depth), head_width=width) for width, depth in product((3, 7), DEPTHS)],
    *[("VPT", dict(vision_length=length, vision_depth=depth)) for length, depth in product((1, 8), DEPTHS)],
    *[
        ("MaPLe", dict(length=length, depth=depth, context=context))
        for length, depth, context in product((1, 2, 4, 5), DEPTHS, (WORDS, ""))
    ],
    *[("TCP", dict(length=length, class_layer=layer)) for length, layer in product((1, 4, 5), (0, 2, 3))],
    *[("TCP", settings) for settings in (dict(context=WORDS), dict(length=2, sentence="a {}.", ending="of {} sort"))],
    *[("ProDA", dict(number=number, length=length)) for number, length in product((2, 3, 4, 9), (1, 2, 5))],
    *[mma(first, depth) for first in DEPTHS for depth in range(first, 4)],
    *[mma(1, 3, **settings) for settings in (dict(scale=1.0), dict(hidden=40), dict(context="art of the"))],
    *[
        ("MMA_BMIP", dict(first_adapter=first, last_adapter=last, hidden=5, scale=0.1, **settings))
        for first, last in ((1, 1), (1, 3), (3, 3))
        for settings in (dict(depth=2), dict(depth=3, detach=False), dict(depth=3, variant="released"))
    ],
    *[
        ("HiCroPL", dict(variant=variant, length=length, depth=depth, cross=cross))
        for variant, length, (depth, cross) in product(VARIANTS, (1, 2, 5), ((2, 1), (3, 1), (3, 2)))
    ],
    *[
        ("UPT", dict(variant=variant, length=length, depth=depth, dropout=0.0))
        for variant, length, depth in product(VARIANTS, (1, 2, 5), DEPTHS)
    ],
    *[mmrl(layers, length) for layers in ((2, 3), (3,), (2,)) for length in (1, 4)],
    *[mmrlpp(layers=layers, length=length) for layers in ((2, 3), (3,), (2,)) for length in (1, 4)],
    *[mmrlpp(new_share=share, rank=rank) for share in (0.1, 1.0) for rank in (1, 5)],
    *[mmrl(**settings) for settings in (dict(width=30), dict(share=0.2), dict(sentence="{} as a type of being."))],
    *[
        bitp(connect, depth, length=length, share_text=share, share_vision=share)
        for connect, share, depth, length in product(FIRST, (True, False), DEPTHS, (1, 2, 5))
    ],
    *[bitp(connect, share_text=True, share_vision=False, context="") for connect in FIRST],
]


@pytest.mark.parametrize("name, settings", CASES, ids=str)
def test_a_method_equals_its_equations(small_clip, images, classnames, name, settings):
    assert_equal_to_naive(small_clip, make(small_clip, name, **settings), images, classnames)


OTHER_TOWERS = dict(embed_dim=48, vision_layers=4, transformer_width=128, transformer_heads=2)
ON_OTHER_TOWERS = [
    ("CoOp", dict(length=4, position="middle", class_specific=True)),
    ("CoCoOp", dict(length=2)),
    ivlp((2, 3), (2, 4), head_width=3),
    ("MaPLe", dict(depth=3)),
    ("HiCroPL", dict(depth=3, cross=1)),
    ("UPT", dict(depth=2, dropout=0.0)),
    bmip(),
    mma(2, 3),
    ("TCP", dict(length=2)),
    mmrl((2,)),
    mmrlpp(),
    ("ProDA", dict(number=4, length=3)),
    *[bitp(connect, 2) for connect in FIRST],
]


@pytest.mark.parametrize("name, settings", ON_OTHER_TOWERS, ids=str)
def test_several_heads_and_a_deeper_vision_tower_equal_the_equations(images, classnames, name, settings):
    clip_model = make_clip(**OTHER_TOWERS)
    assert_equal_to_naive(clip_model, make(clip_model, name, **settings), images, classnames)


NAMES = {
    "one class": ["cat"],
    "equal names": ["cat", "cat"],
    "names that begin alike": ["sun", "sun flower", "sun"],
    "names that end in a point": ["St. Bernard no.", "dog!", "cat"],
}
FOR_NAMES = [
    *[("CoOp", dict(length=3, position=position, class_specific=True), 4) for position in POSITIONS],
    *[("CoCoOp", dict(length=2), number) for number in (1, 4)],
    ("ProDA", dict(number=4, length=3), 4),
]


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("name, settings, number", FOR_NAMES, ids=str)
def test_names_of_all_kinds_equal_the_equations(small_clip, images, names, name, settings, number):
    learner = make(small_clip, name, len(names), **settings)
    assert_equal_to_naive(small_clip, learner, images[:number], names)


# ------------------------------------------------------------------------------------------------ cuts

# Of the work on five classes of four lengths and four images: most classes whose activations are held, most tokens of
# a group, whether every length gets a group of its own, free bytes of memory (None: as it is).
CUTS = {
    "uncut": (0, 2048, False, None),
    "a class at a time": (1, 2048, False, None),
    "two classes at a time": (2, 2048, False, None),
    "two images at a time": (10, 2048, False, None),
    "small groups": (0, 30, False, None),
    "groups by length": (0, 2048, True, None),
    "no memory for activations": (0, 60, True, 1),
}


@pytest.fixture
def cut(request, monkeypatch) -> int:
    """Cut the work as the test's parameter names it; gives the class chunk."""
    chunk, largest, by_length, memory = CUTS[request.param]
    monkeypatch.setattr(batching, "LARGEST_GROUP", {"cpu": largest})
    if by_length:
        monkeypatch.setattr(batching, "GROUP_COST", {"cpu": 0})
    if memory is not None:
        monkeypatch.setattr("trainers.prompting.core.memory.free_memory", lambda device: memory)
    return chunk


in_all_cuts = pytest.mark.parametrize("cut", CUTS, indirect=True)
CUT = [
    *[
        ("CoOp", dict(length=3, position=position, class_specific=class_specific))
        for position, class_specific in product(POSITIONS, (False, True))
    ],
    *[("CoCoOp", settings) for settings in (dict(length=2), dict(context=WORDS))],
    *[
        ivlp((2, 3), (2, 3)),
        ivlp((2, 3), (2, 3), head_width=3),
        ("VPT", dict(vision_depth=2)),
        ("MaPLe", dict(depth=3)),
        ("HiCroPL", dict(depth=3, cross=2)),
        ("UPT", dict(depth=3, dropout=0.0)),
    ],
    *[bmip(**settings) for settings in (dict(variant="released"), dict(detach=False), dict(relative=True))],
    *[bmip(aggregation=aggregation) for aggregation in AGGREGATIONS],
    mma(1, 3),
    mma(3, 3, scale=1.0),
    ("TCP", dict(length=2)),
    mmrl(),
    mmrl((2,)),
    mmrlpp(),
    mmrlpp(layers=(2,)),
    *[("ProDA", dict(number=number, length=3)) for number in (2, 5)],
    *[bitp(connect) for connect in FIRST],
]


@in_all_cuts
@pytest.mark.parametrize("name, settings", CUT, ids=str)
def test_a_method_equals_its_equations_however_work_is_cut(small_clip, images, classnames, name, settings, cut):
    assert_equal_to_naive(small_clip, make(small_clip, name, **settings), images, classnames, cut)


TEMPLATES = ["a photo of a {}.", "art of the {}.", "a {} in a video game, or rather not."]


@in_all_cuts
@pytest.mark.parametrize("number", [1, 3])
def test_zero_shot_is_the_average_of_its_sentences(small_clip, images, classnames, number, cut):
    model = PromptedCLIP(small_clip, FixedSentence(*TEMPLATES[:number]), classnames, class_chunk=cut)
    slow = cosine_logits(small_clip, *zero_shot_features(small_clip, images, classnames, TEMPLATES[:number]))
    torch.testing.assert_close(model(images), slow, **TOLERANCE)


@pytest.mark.parametrize(
    "cut, pieces, together",
    [("uncut", 1, 4), ("two images at a time", 2, 2), ("two classes at a time", 12, 1), ("small groups", 20, 1)],
    indirect=["cut"],
)
def test_images_are_encoded_together_as_far_as_a_group_allows(small_clip, classnames, cut, pieces, together):
    model = PromptedCLIP(small_clip, make(small_clip, "CoCoOp", length=2), classnames, class_chunk=cut)
    found, *_ = model._batches(4)
    assert len(found) == pieces and max(piece.images.stop - piece.images.start for piece in found) == together


def test_another_batch_size_makes_another_plan(small_clip, images, classnames):
    model = PromptedCLIP(small_clip, make(small_clip, "CoCoOp", length=2), classnames)
    whole = model(images)
    for number in (1, 3, 4, 2):
        torch.testing.assert_close(model(images[:number]), whole[:number], **TOLERANCE)
