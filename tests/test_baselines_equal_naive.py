"""The baselines on the fast core compute what their equations say: logits, loss and gradients against the naive ones.

Also where work is cut: classes in groups by length, several images or one at a time, activations computed again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import make_clip
from naive_methods import cocoop_logits, coop_logits, ivlp_logits, maple_logits, zero_shot_logits
from test_bmip_equals_naive import TOLERANCE
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.prompting.core import batching
from trainers.prompting.core.learner import FixedSentence, PromptLearner
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.cocoop import CoCoOpConfig, CoCoOpLearner
from trainers.prompting.learners.coop import CoOpConfig, CoOpLearner
from trainers.prompting.learners.ivlp import IVLPConfig, IVLPLearner
from trainers.prompting.learners.maple import MaPLeConfig, MaPLeLearner
from trainers.prompting.learners.vpt import VPTConfig

WORDS = "a photo of a"
# Cuts of the work on five classes of four lengths and four images: most classes whose activations are held, most
# tokens of a group, whether every length gets a group of its own, free bytes of memory (None: as it is).
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


def enlarged(learner: PromptLearner, classes: int = 5) -> PromptLearner:
    """The learner with trained tensors large enough to matter, different in every layer and class."""
    learner.set_class_count(classes)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.normal_(std=0.3)
    return learner


def linear(module: nn.Linear) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias


def by_layer(group) -> dict:
    return {int(layer): value for layer, value in group.items()}


def assert_equal(clip_model, learner, images, classnames, slow: Callable[[], Tensor], chunk: int = 0) -> None:
    """Logits, cross-entropy and the gradient of every trained tensor."""
    model = PromptedCLIP(clip_model, learner, classnames, class_chunk=chunk).train()
    labels = torch.arange(len(images)) * 3 % len(classnames)
    names, parameters = zip(*learner.named_parameters())
    fast, slow = model(images), slow()
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    fast_loss, slow_loss = F.cross_entropy(fast, labels), F.cross_entropy(slow, labels)
    torch.testing.assert_close(fast_loss, slow_loss, **TOLERANCE)
    if len(set(classnames)) == 1:
        fast_loss, slow_loss = fast.sum(), slow.sum()  # cross-entropy has no gradient then
    fast_gradients = torch.autograd.grad(fast_loss, parameters)
    # The naive code never uses a tensor that takes no part, so a superfluous one is an error here.
    slow_gradients = torch.autograd.grad(slow_loss, parameters)
    for name, ours, reference in zip(names, fast_gradients, slow_gradients):
        assert reference.abs().max() > 10 * TOLERANCE["atol"], f"{name} matters too little to be compared"
        torch.testing.assert_close(ours, reference, **TOLERANCE, msg=lambda message, name=name: f"{name}: {message}")


# ------------------------------------------------------------------------------------------------ zero-shot


TEMPLATES = ["a photo of a {}.", "art of the {}.", "a {} in a video game, or rather not."]


@in_all_cuts
@pytest.mark.parametrize("number", [1, 3])
def test_zero_shot_is_the_average_of_its_sentences(small_clip, images, classnames, number, cut):
    model = PromptedCLIP(small_clip, FixedSentence(*TEMPLATES[:number]), classnames, class_chunk=cut)
    slow = zero_shot_logits(small_clip, images, classnames, TEMPLATES[:number])
    torch.testing.assert_close(model(images), slow, **TOLERANCE)


# ------------------------------------------------------------------------------------------------ CoOp


def assert_coop_equal(clip_model, images, classnames, chunk=0, **settings):
    learner = enlarged(CoOpLearner(CoOpConfig(**settings), clip_model), len(classnames))
    config, prompts = learner.config, learner.text_prompts["0"]
    contexts = list(prompts) if config.class_specific else [prompts] * len(classnames)

    def slow():
        return coop_logits(clip_model, images, classnames, contexts, config.words, config.position)

    assert_equal(clip_model, learner, images, classnames, slow, chunk)


POSITIONS = ["end", "middle", "front"]


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 16])
def test_coop_equals_the_equations(small_clip, images, classnames, length, position, class_specific):
    settings = dict(length=length, position=position, class_specific=class_specific)
    assert_coop_equal(small_clip, images, classnames, **settings)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("context", ["this", "a_photo_of_a", "a bad photo of the big", "a jacuzzi of a"])
def test_coop_with_words_equals_the_equations(small_clip, images, classnames, context, position):
    assert_coop_equal(small_clip, images, classnames, context=context, position=position)


@in_all_cuts
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("class_specific", [False, True])
def test_coop_equals_the_equations_however_work_is_cut(small_clip, images, classnames, position, class_specific, cut):
    settings = dict(length=3, position=position, class_specific=class_specific)
    assert_coop_equal(small_clip, images, classnames, cut, **settings)


NAMES = {
    "one class": ["cat"],
    "equal names": ["cat", "cat"],
    "names that begin alike": ["sun", "sun flower", "sun"],
    "names that end in a point": ["St. Bernard no.", "dog!", "cat"],
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_coop_equals_the_equations_for_names_of_all_kinds(small_clip, images, names, position):
    assert_coop_equal(small_clip, images, names, length=3, position=position, class_specific=True)


# ------------------------------------------------------------------------------------------------ CoCoOp


def make_cocoop(clip_model, **settings) -> CoCoOpLearner:
    learner = enlarged(CoCoOpLearner(CoCoOpConfig(**settings), clip_model))
    with torch.no_grad():
        learner.meta_net.linear1.bias.fill_(0.3)  # so that no hidden unit is off for all images
    return learner


def assert_cocoop_equal(clip_model, images, classnames, chunk=0, **settings):
    learner = make_cocoop(clip_model, **settings)
    context, layers = learner.text_prompts["0"], learner.meta_net

    def slow():
        first, second = linear(layers.linear1), linear(layers.linear2)
        return cocoop_logits(clip_model, images, classnames, context, first, second, learner.config.words)

    assert_equal(clip_model, learner, images, classnames, slow, chunk)


@pytest.mark.parametrize("settings", [dict(length=1), dict(length=3), dict(context=WORDS), dict(length=6)], ids=str)
def test_cocoop_equals_the_equations(small_clip, images, classnames, settings):
    assert_cocoop_equal(small_clip, images, classnames, **settings)


@in_all_cuts
@pytest.mark.parametrize("settings", [dict(length=2), dict(context=WORDS)], ids=str)
def test_cocoop_equals_the_equations_however_work_is_cut(small_clip, images, classnames, settings, cut):
    assert_cocoop_equal(small_clip, images, classnames, cut, **settings)


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("number", [1, 4])
def test_cocoop_equals_the_equations_for_names_of_all_kinds(small_clip, images, names, number):
    assert_cocoop_equal(small_clip, images[:number], names, length=2)


@pytest.mark.parametrize(
    "cut, pieces, together",
    [("uncut", 1, 4), ("two images at a time", 2, 2), ("two classes at a time", 12, 1), ("small groups", 20, 1)],
    indirect=["cut"],
)
def test_images_are_encoded_together_as_far_as_a_group_allows(small_clip, classnames, cut, pieces, together):
    learner = make_cocoop(small_clip, length=2)
    model = PromptedCLIP(small_clip, learner, classnames, class_chunk=cut)
    found, _ = model._batches(4)
    assert len(found) == pieces and max(piece.images.stop - piece.images.start for piece in found) == together


@in_all_cuts
def test_cocoop_of_several_images_is_that_of_each_alone(small_clip, images, classnames, cut):
    model = PromptedCLIP(small_clip, make_cocoop(small_clip, length=2), classnames, class_chunk=cut)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, **TOLERANCE)
    assert (alone.softmax(dim=1).std(dim=0) > 0.001).all(), "all images have the same logits"


def test_the_shift_depends_on_the_image(small_clip, images, classnames):
    learner = make_cocoop(small_clip, length=2)
    features = PromptedCLIP(small_clip, learner, classnames).encode_text(F.normalize(torch.randn(3, 32), dim=1))
    assert features.shape == (3, 5, 32)
    assert all((features[i] - features[j]).abs().max() > 1e-3 for i, j in [(0, 1), (1, 2), (0, 2)])


def test_another_batch_size_makes_another_plan(small_clip, images, classnames):
    model = PromptedCLIP(small_clip, make_cocoop(small_clip, length=2), classnames)
    whole = model(images)
    for number in (1, 3, 4, 2):
        torch.testing.assert_close(model(images[:number]), whole[:number], **TOLERANCE)


# ------------------------------------------------------------------------------------------------ IVLP, language, VPT


def make_ivlp(clip_model, **settings) -> IVLPLearner:
    config = VPTConfig if settings.get("text_depth") == 0 else IVLPConfig
    return enlarged(IVLPLearner(config(**settings), clip_model))


def assert_ivlp_equal(clip_model, images, classnames, chunk=0, **settings):
    learner = make_ivlp(clip_model, **settings)

    def heads(modules, depth):
        if not learner.config.head_width:
            return None
        return {
            layer: (linear(modules["deep" if layer else "0"][0]), linear(modules["deep" if layer else "0"][2]))
            for layer in range(depth)
        }

    def slow():
        return ivlp_logits(
            clip_model,
            images,
            classnames,
            by_layer(learner.text_prompts),
            by_layer(learner.vision_prompts),
            learner.config.context,
            heads(learner.text_heads, learner.config.text_depth),
            heads(learner.vision_heads, learner.config.vision_depth),
        )

    assert_equal(clip_model, learner, images, classnames, slow, chunk)


@pytest.mark.parametrize("context", [WORDS, ""])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_ivlp_equals_the_equations(small_clip, images, classnames, length, depth, context):
    settings = dict(text_length=length, vision_length=length, text_depth=depth, vision_depth=depth)
    assert_ivlp_equal(small_clip, images, classnames, context=context, **settings)


@pytest.mark.parametrize("text, vision", [((1, 3), (4, 1)), ((4, 1), (2, 3)), ((3, 2), (1, 1))], ids=str)
def test_the_towers_of_ivlp_may_differ_in_length_and_depth(small_clip, images, classnames, text, vision):
    settings = dict(text_length=text[0], text_depth=text[1], vision_length=vision[0], vision_depth=vision[1])
    assert_ivlp_equal(small_clip, images, classnames, **settings)


@pytest.mark.parametrize("context", [WORDS, ""])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 4])
def test_language_prompting_equals_the_equations(small_clip, images, classnames, length, depth, context):
    settings = dict(text_length=length, text_depth=depth, vision_length=0, vision_depth=0)
    assert_ivlp_equal(small_clip, images, classnames, context=context, **settings)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 8])
def test_vpt_equals_the_equations(small_clip, images, classnames, length, depth):
    settings = dict(text_length=0, text_depth=0, vision_length=length, vision_depth=depth)
    assert_ivlp_equal(small_clip, images, classnames, **settings)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("width", [3, 7])
def test_residual_heads_equal_the_equations(small_clip, images, classnames, width, depth):
    settings = dict(text_length=3, text_depth=depth, vision_length=2, vision_depth=depth)
    assert_ivlp_equal(small_clip, images, classnames, head_width=width, **settings)


@in_all_cuts
@pytest.mark.parametrize("settings", [dict(), dict(head_width=5)], ids=str)
def test_ivlp_equals_the_equations_however_work_is_cut(small_clip, images, classnames, settings, cut):
    assert_ivlp_equal(small_clip, images, classnames, cut, text_depth=3, vision_depth=3, **settings)


# ------------------------------------------------------------------------------------------------ MaPLe


def assert_maple_equal(clip_model, images, classnames, chunk=0, **settings):
    learner = enlarged(MaPLeLearner(MaPLeConfig(**settings), clip_model))

    def slow():
        couplings = {layer: linear(module) for layer, module in by_layer(learner.text_to_vision).items()}
        prompts = by_layer(learner.text_prompts)
        return maple_logits(clip_model, images, classnames, prompts, couplings, learner.config.context)

    assert_equal(clip_model, learner, images, classnames, slow, chunk)


@pytest.mark.parametrize("context", [WORDS, ""])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_maple_equals_the_equations(small_clip, images, classnames, length, depth, context):
    assert_maple_equal(small_clip, images, classnames, length=length, depth=depth, context=context)


@in_all_cuts
def test_maple_equals_the_equations_however_work_is_cut(small_clip, images, classnames, cut):
    assert_maple_equal(small_clip, images, classnames, cut, depth=3)


# ------------------------------------------------------------------------------------------------ other towers


OTHER_TOWERS = dict(embed_dim=48, vision_layers=4, transformer_width=128, transformer_heads=2)


@pytest.mark.parametrize(
    "assert_method_equal, settings",
    [
        (assert_coop_equal, dict(length=4, position="middle", class_specific=True)),
        (assert_cocoop_equal, dict(length=2)),
        (assert_ivlp_equal, dict(text_depth=3, vision_depth=4, head_width=3)),
        (assert_maple_equal, dict(depth=3)),
    ],
    ids=["CoOp", "CoCoOp", "IVLP", "MaPLe"],
)
def test_several_heads_and_a_deeper_vision_tower_equal_the_equations(
    images, classnames, assert_method_equal, settings
):
    assert_method_equal(make_clip(**OTHER_TOWERS), images, classnames, **settings)
