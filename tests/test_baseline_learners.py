"""The baselines' learners: how their tensors start, how many train, what is computed once, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import SMALL, make_clip
from test_prompted_clip import VIT_B16
from torch.nn import functional as F

import datasets  # noqa: F401  (registers the data set that a configuration names)
import trainers
from trainers.config import default_cfg
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.openai_clip import CLIP, clip
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.learners.cocoop import CoCoOpConfig, CoCoOpLearner
from trainers.prompting.learners.coop import CoOpConfig, CoOpLearner
from trainers.prompting.learners.ivlp import IVLPConfig, IVLPLearner
from trainers.prompting.learners.maple import MaPLeConfig, MaPLeLearner
from trainers.prompting.learners.vpt import VPTConfig
from trainers.zsclip import ZeroshotCLIP2

trainers.register_all()

WORDS = "a photo of a"
DEVIATION = 0.02


def coop(clip_model, **settings) -> CoOpLearner:
    return CoOpLearner(CoOpConfig(**settings), clip_model)


def coop_around(clip_model) -> CoOpLearner:
    """A context of its own for each class, around the class name."""
    return coop(clip_model, length=4, class_specific=True, position="middle")


def cocoop(clip_model, **settings) -> CoCoOpLearner:
    return CoCoOpLearner(CoCoOpConfig(**settings), clip_model)


def ivlp(clip_model, text=(2, 3), vision=(2, 3), **settings) -> IVLPLearner:
    lengths = dict(text_length=text[0], text_depth=text[1], vision_length=vision[0], vision_depth=vision[1])
    return IVLPLearner(IVLPConfig(**lengths, **settings), clip_model)


def language(clip_model, length=4, depth=3) -> IVLPLearner:
    return ivlp(clip_model, (length, depth), (0, 0))


def vpt(clip_model, length=8, depth=3, **settings) -> IVLPLearner:
    return IVLPLearner(VPTConfig(vision_length=length, vision_depth=depth, **settings), clip_model)


def maple(clip_model, length=2, depth=3, **settings) -> MaPLeLearner:
    return MaPLeLearner(MaPLeConfig(length, depth, **settings), clip_model)


@pytest.fixture(scope="module")
def wide_clip() -> CLIP:
    """Wide enough for a standard deviation to be seen in a few rows."""
    return make_clip(vision_width=640, transformer_width=512, transformer_heads=8, embed_dim=512)


@pytest.fixture(scope="module")
def vit_b16() -> CLIP:
    """The sizes of ViT-B/16, all 12 layers; the weights are whatever lies in memory."""
    with torch.device("meta"):
        model = CLIP(**{**SMALL, **VIT_B16})
    return model.to_empty(device="cpu")


def words(clip_model, text: str) -> torch.Tensor:
    ids = clip.tokenize(text)[0]
    return clip_model.token_embedding(ids[1 : int(ids.argmax())])


def assert_random(prompts: torch.Tensor) -> None:
    assert prompts.std().item() == pytest.approx(DEVIATION, rel=0.1) and abs(prompts.mean().item()) < 0.003


# ------------------------------------------------------------------------------------------------ initial values


@pytest.mark.parametrize("make", [coop, cocoop, ivlp, maple])
def test_without_words_all_prompts_are_normal_and_differ(wide_clip, make):
    torch.manual_seed(0)
    learner = make(wide_clip, context="")
    prompts = [parameter for name, parameter in learner.named_parameters() if "prompts" in name]
    for prompt in prompts:
        assert_random(prompt)
    for one, other in zip(prompts, prompts[1:]):
        assert one.shape != other.shape or not torch.equal(one, other)


def test_vision_prompts_are_normal_and_differ(wide_clip):
    torch.manual_seed(0)
    prompts = list(vpt(wide_clip).vision_prompts.values())
    assert [tuple(prompt.shape) for prompt in prompts] == [(8, 640)] * 3
    for prompt in prompts:
        assert_random(prompt)
    assert not torch.equal(prompts[0], prompts[1]) and not torch.equal(prompts[1], prompts[2])


@pytest.mark.parametrize("make", [coop, cocoop])
@pytest.mark.parametrize("context", ["photo", "a_photo_of_a", "a photo of one of the"])
def test_the_words_of_the_context_set_the_number_of_tokens_and_start_them(wide_clip, make, context):
    learner = make(wide_clip, length=16, context=context)
    spaced = context.replace("_", " ")
    assert learner.text_slots == len(spaced.split()) and learner.template == f"{spaced} {{}}."
    assert torch.equal(learner.text_prompts["0"], words(wide_clip, spaced))


@pytest.mark.parametrize("make", [coop, cocoop])
def test_without_words_placeholders_hold_the_places_of_all_tokens(wide_clip, make):
    learner = make(wide_clip, length=6)
    assert learner.text_slots == 6 and learner.template == "X X X X X X {}."


@pytest.mark.parametrize(
    "make", [lambda *a: ivlp(a[0], (a[1], 3)), lambda *a: maple(a[0], a[1])], ids=["IVLP", "MaPLe"]
)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_deep_methods_keep_their_length_and_the_remaining_words(wide_clip, make, length):
    torch.manual_seed(0)
    learner = make(wide_clip, length)
    assert learner.text_slots == length and learner.template == "a photo of a {}."
    assert torch.equal(learner.text_prompts["0"], words(wide_clip, WORDS)[:length])
    for layer in ("1", "2"):
        assert_random(learner.text_prompts[layer])


@pytest.mark.parametrize(
    "make", [lambda *a: ivlp(a[0], (a[1], 3)), lambda *a: maple(a[0], a[1])], ids=["IVLP", "MaPLe"]
)
def test_more_than_four_tokens_of_deep_methods_are_random_between_placeholders(wide_clip, make):
    torch.manual_seed(0)
    learner = make(wide_clip, 5)
    assert learner.template == "X X X X X {}."
    assert_random(learner.text_prompts["0"])


def test_vpt_says_the_plain_sentence():
    for context, template in ((WORDS, "a photo of a {}."), ("an image of", "an image of {}.")):
        learner = vpt(make_clip(), 2, 1, context=context)
        assert learner.template == template and not learner.text_prompts


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_the_deep_heads_of_maple_start_as_separate_copies_of_one_and_layer_0_has_its_own(wide_clip):
    heads = maple(wide_clip, depth=3).text_to_vision
    assert same(heads["1"], heads["2"]) and not same(heads["0"], heads["1"])
    assert heads["1"].weight.data_ptr() != heads["2"].weight.data_ptr()


def test_heads_start_as_linear_layers_do(wide_clip):
    torch.manual_seed(0)
    modules = [*maple(wide_clip).text_to_vision.values(), cocoop(wide_clip).meta_net.linear1]
    for module in modules:
        bound = module.in_features**-0.5
        for tensor in (module.weight, module.bias):
            assert 0.9 * bound < tensor.abs().max() <= bound


def test_class_specific_contexts_are_drawn_for_each_class_alike_for_one_seed(wide_clip):
    drawn = []
    for ahead in (0, 7):
        torch.manual_seed(3)
        learner = coop(wide_clip, length=4, class_specific=True)
        torch.randn(ahead)  # e.g. a sampler's, before the classes are known
        learner.set_class_count(5)
        drawn.append(learner.text_prompts["0"])
    assert drawn[0].shape == (5, 4, 512) and torch.equal(*drawn)
    assert_random(drawn[0])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    torch.manual_seed(4)
    other = coop(wide_clip, length=4, class_specific=True)
    other.set_class_count(5)
    assert not torch.equal(other.text_prompts["0"], drawn[0])


# ------------------------------------------------------------------------------------------------ what trains


COUNTS = {
    "IVLP 2+2, depth 12": (lambda model: ivlp(model, (2, 12), (2, 12)), 30_720),
    "IVLP 4+4, depth 9": (lambda model: ivlp(model, (4, 9), (4, 9)), 46_080),
    "language only": (lambda model: language(model, 4, 12), 24_576),
    "VPT": (lambda model: vpt(model, 8, 12), 73_728),
    "MaPLe": (lambda model: maple(model, 2, 9, context=""), 3_555_072),
    "MaPLe across data sets": (lambda model: maple(model, 2, 3, context=""), 1_185_024),
    "CoCoOp": (lambda model: cocoop(model, length=4), 35_360),
    "CoOp": (lambda model: coop(model, length=16), 8_192),
}


@pytest.mark.parametrize("method", COUNTS)
def test_as_many_parameters_train_on_vit_b16_as_published(vit_b16, method):
    make, count = COUNTS[method]
    assert sum(parameter.numel() for parameter in make(vit_b16).parameters()) == count


def test_class_specific_contexts_have_as_many_parameters_as_classes(vit_b16):
    learner = coop(vit_b16, length=16, class_specific=True)
    learner.set_class_count(100)
    assert sum(parameter.numel() for parameter in learner.parameters()) == 100 * 8_192


def test_residual_heads_are_one_for_layer_0_and_one_for_all_others_in_each_tower(vit_b16):
    learner = ivlp(vit_b16, (2, 9), (2, 9), head_width=64)
    heads = sum(2 * (2 * width * 64 + 64 + width) for width in (512, 768))
    assert sum(parameter.numel() for parameter in learner.parameters()) == 2 * 9 * (512 + 768) + heads


PROMPTS = {f"{tower}_prompts.{layer}" for tower in ("text", "vision") for layer in range(3)}
NAMES = {
    coop: {"text_prompts.0"},
    coop_around: {"text_prompts.0"},
    cocoop: {"text_prompts.0"} | {f"meta_net.linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")},
    ivlp: PROMPTS,
    language: {name for name in PROMPTS if name.startswith("text")},
    vpt: {name for name in PROMPTS if name.startswith("vision")},
    maple: {name for name in PROMPTS if name.startswith("text")}
    | {f"text_to_vision.{layer}.{kind}" for layer in range(3) for kind in ("weight", "bias")},
}
METHODS = pytest.mark.parametrize("make", NAMES, ids=lambda make: make.__name__)


def train_step(make, classnames, images, precision="fp32", model=None) -> PromptedCLIP:
    model = model or make_clip(embed_dim=256)  # of which CoCoOp's network has more than a few units
    cast_matmul_weights(model, PRECISIONS[precision].matmul)
    torch.manual_seed(0)
    prompted = PromptedCLIP(model, make(model), classnames, PRECISIONS[precision]).train()
    F.cross_entropy(prompted(images), torch.tensor([0, 1, 2, 3])).backward()
    return prompted


@METHODS
def test_these_tensors_train_and_nothing_else_does(images, classnames, make):
    model = train_step(make, classnames, images)
    assert {name for name, _ in model.learner.named_parameters()} == NAMES[make] == set(model.learner.state_dict())
    for name, parameter in model.learner.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    for name, parameter in model.clip_model.named_parameters():
        assert not parameter.requires_grad and parameter.grad is None, name


def test_residual_heads_train(images, classnames):
    model = train_step(lambda clip_model: ivlp(clip_model, head_width=8), classnames, images)
    for name, parameter in model.learner.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@METHODS
def test_clip_is_bit_identical_after_training(images, classnames, make):
    clip_model = make_clip(embed_dim=256)
    before = copy.deepcopy(clip_model.state_dict())
    model = train_step(make, classnames, images, model=clip_model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    optimiser.step()
    F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    optimiser.step()
    for key, value in clip_model.state_dict().items():
        assert torch.equal(value, before[key]), key


@METHODS
@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.06), ("fp16", 0.01), ("amp", 0.01)])
def test_reduced_precision_agrees_with_fp32_and_trains_fp32_masters(images, classnames, make, precision, tolerance):
    exact, reduced = (train_step(make, classnames, images, name) for name in ("fp32", precision))
    difference = (exact(images) - reduced(images)).abs().max()
    assert 0 < difference < tolerance * exact(images).abs().max()
    for parameter in reduced.learner.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------ computed once


FIXED = {
    "VPT": vpt,
    "zero-shot": lambda clip_model: FixedSentence("a photo of a {}."),
    "ensemble": lambda clip_model: FixedSentence("a photo of a {}.", "art of the {}."),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_text_without_prompts_is_encoded_once_for_each_class_set(images, classnames, make, training, monkeypatch):
    encoded = []
    encode = PromptedCLIP.encode_text
    monkeypatch.setattr(PromptedCLIP, "encode_text", lambda *a, **k: encoded.append(1) or encode(*a, **k))
    clip_model = make_clip()
    model = PromptedCLIP(clip_model, make(clip_model), classnames).train(training)
    parameters = list(model.learner.parameters())
    for _ in range(3):
        with torch.set_grad_enabled(training):
            logits = model(images)
        if training and parameters:
            logits.square().sum().backward()
            torch.optim.SGD(parameters, lr=0.1).step()
    model.eval()
    with torch.no_grad():
        model(images)
    assert len(encoded) == 1
    before = model.class_features()
    model.set_classes(["moon", "river", "bridge"])
    for _ in range(2):
        assert model(images).shape == (4, 3)
    assert len(encoded) == 2 and not torch.equal(model.class_features()[:3], before[:3])


@pytest.mark.parametrize("make", [coop, ivlp, maple], ids=lambda make: make.__name__)
def test_text_with_prompts_is_encoded_anew_while_they_train_and_once_in_a_test(images, classnames, make, monkeypatch):
    encoded = []
    encode = PromptedCLIP.encode_text
    monkeypatch.setattr(PromptedCLIP, "encode_text", lambda *a, **k: encoded.append(1) or encode(*a, **k))
    clip_model = make_clip()
    model = PromptedCLIP(clip_model, make(clip_model), classnames)
    for _ in range(2):
        model(images)
    assert len(encoded) == 2
    with torch.no_grad():
        for _ in range(3):
            model(images)
    assert len(encoded) == 3


# ------------------------------------------------------------------------------------------------ the ensemble


@pytest.mark.parametrize(
    "dataset, own",
    [
        ("ImageNet", None),
        ("ImageNetV2", "a photo of a {}."),
        ("OxfordPets", "a photo of a {}, a type of pet."),
        ("Digits", "a photo of a {}."),
    ],
)
def test_the_ensemble_has_seven_sentences_and_the_data_sets_own_except_on_imagenet(dataset, own):
    cfg = default_cfg()
    cfg.DATASET.NAME = dataset
    for _ in range(2):  # building it again adds nothing
        templates = ZeroshotCLIP2.settings(cfg).templates
        assert len(set(templates)) == len(templates) == (8 if own else 7)
        assert templates[7:] == ((own,) if own else ())
        assert templates[0] == "itap of a {}." and templates[6] == "a photo of the small {}."


def test_the_ensemble_averages_normalised_features(small_clip, classnames):
    templates = ("a photo of a {}.", "art of the {}.")
    single = [PromptedCLIP(small_clip, FixedSentence(template), classnames).class_features() for template in templates]
    mean = F.normalize((single[0] + single[1]) / 2, dim=1)
    both = PromptedCLIP(small_clip, FixedSentence(*templates), classnames)
    torch.testing.assert_close(both.class_features(), mean, rtol=1e-5, atol=1e-6)
    assert both.encode_text().shape == (10, 32) and both.class_features().shape == (5, 32)


# ------------------------------------------------------------------------------------------------ what is refused


def test_class_specific_contexts_refuse_another_number_of_classes(small_clip, classnames):
    model = PromptedCLIP(small_clip, coop(small_clip, length=2, class_specific=True), classnames)
    with pytest.raises(InputError, match="class_specific is True.* 5 classes.* 3 others.*class_specific False"):
        model.set_classes(classnames[:3])


# What a declaration's bounds and choices refuse is in test_declarations.py.
REFUSED = {
    "class_specific is True and context is 'a photo of a', .*; set class_specific to False": (
        lambda model: coop(model, class_specific=True, context=WORDS)
    ),
    "length is 0; set it to 1 or more": lambda model: coop(model, length=0),
    r"text_depth is 4, .* 3 layers; set it to 1\.\.3": lambda model: ivlp(model, (2, 4), (2, 3)),
    r"vision_depth is 4, .* 3 layers; set it to 1\.\.3": lambda model: vpt(model, depth=4),
    r"^depth is 4, .* 3 layers; set it to 1\.\.3": lambda model: maple(model, depth=4),
    "text_length is 0; set it to 1 or more": lambda model: ivlp(model, (0, 3), (2, 3)),
    "text_depth is 0; set it to 1 or more": lambda model: ivlp(model, (2, 0), (2, 3)),
    "vision_length is 0 and vision_depth is 3; set both to 0": lambda model: ivlp(model, (2, 3), (0, 3)),
    "vision_length is 2 and vision_depth is 0; set both to 0": lambda model: ivlp(model, (2, 3), (2, 0)),
    "vision_length is 0; set it to 1 or more": lambda model: vpt(model, length=0),
    "context is 'a photo', which has 2 tokens, .* first 3; .* a smaller text_length": (
        lambda model: ivlp(model, (3, 3), context="a photo")
    ),
    "context is 'a photo', which has 2 tokens, .* first 3; .* a smaller length": (
        lambda model: maple(model, length=3, context="a photo")
    ),
    "77 tokens of this backbone; .* prompts around it": (
        lambda model: PromptedCLIP(model, coop(model, length=75), ["cat"])
    ),
    "77 tokens of this backbone; shorten the class name, or the words": (
        lambda model: PromptedCLIP(model, cocoop(model, context=" ".join(["so"] * 75)), ["cat"])
    ),
    "77 tokens of this backbone; shorten the class name": (
        lambda model: PromptedCLIP(model, coop(model, length=16, position="front"), ["cat", " ".join(["so"] * 60)])
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused_with_the_setting_and_remedy(small_clip, message):
    with pytest.raises(InputError, match=message):
        REFUSED[message](small_clip)


def test_as_many_tokens_as_a_sentence_holds_are_allowed(small_clip, images):
    model = PromptedCLIP(small_clip, coop(small_clip, length=73, position="middle"), ["cat"])
    assert model(images).isfinite().all() and model.ids.shape == (1, 77)
