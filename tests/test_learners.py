"""The learners: how their tensors start, how many train and in which types, what is kept, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import RESNET, SMALL, make_clip
from helpers.learners import SETTINGS, new_learner
from test_prompted_clip import VIT_B16
from torch.nn import functional as F

import trainers
from trainers.config import default_cfg
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.openai_clip import CLIP, clip
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.learners.bmip import AGGREGATIONS
from trainers.zsclip import ZeroshotCLIP2

trainers.register_all()
WORDS = "a photo of a"
LANGUAGE = dict(text_depth=3, vision_length=0, vision_depth=0)
HEADS = dict(text_depth=3, vision_depth=3, head_width=8)


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


def start(clip_model, name: str, **settings):
    torch.manual_seed(0)
    return new_learner(clip_model, name, **settings)


# ------------------------------------------------------------------------------------------------ initial values


def words(clip_model, text: str) -> torch.Tensor:
    ids = clip.tokenize(text)[0]
    return clip_model.token_embedding(ids[1 : int(ids.argmax())])


def assert_random(prompts: torch.Tensor) -> None:
    """Of N(0, 0.02²)."""
    assert prompts.std().item() == pytest.approx(0.02, rel=0.1) and abs(prompts.mean().item()) < 0.003


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"MMA", "MMRL", "MMRLpp"}))
def test_without_words_all_prompts_are_normal_and_differ(wide_clip, name):
    learner = start(wide_clip, name, **{**SETTINGS[name], "context": ""})
    prompts = [parameter for key, parameter in learner.named_parameters() if "prompts" in key]
    assert prompts
    for prompt in prompts:
        assert_random(prompt)
    if name in ("HiCroPL", "BITP"):
        prompts = list(learner.text_prompts.values())  # those of vision are copies of one
    for one, other in zip(prompts, prompts[1:]):
        assert one.shape != other.shape or not torch.equal(one, other)


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp"])
@pytest.mark.parametrize("context", ["photo", "a_photo_of_a", "a photo of one of the"])
def test_the_words_of_the_context_set_the_number_of_tokens_and_start_them(wide_clip, name, context):
    learner = start(wide_clip, name, length=16, context=context)
    spaced = context.replace("_", " ")
    assert learner.text_slots == len(spaced.split()) and learner.template == f"{spaced} {{}}."
    assert torch.equal(learner.text_prompts["0"], words(wide_clip, spaced))


DEEP = [("IVLP", "text_length", {}), ("MaPLe", "length", {}), ("BMIP", "length", {})]
DEEP.append(("BMIP", "length", dict(variant="released")))


@pytest.mark.parametrize("name, key, settings", DEEP, ids=str)
@pytest.mark.parametrize("length", [1, 4, 5])
def test_deep_methods_start_up_to_four_tokens_of_layer_0_by_words(wide_clip, name, key, settings, length):
    learner = start(wide_clip, name, **{**SETTINGS[name], key: length, **settings})
    first, *others = learner.text_prompts.values()
    assert learner.text_slots == length
    if length > 4:
        assert learner.template == "X X X X X {}." and start(wide_clip, "CoOp", length=6).template == "X X X X X X {}."
        assert_random(first)
    else:
        assert learner.template == "a photo of a {}." and torch.equal(first, words(wide_clip, WORDS)[:length])
    for prompt in others:
        assert_random(prompt)


def test_joint_prompts_have_slots_for_the_tokens_of_both_towers(small_clip):
    learner = start(small_clip, "BMIP", depth=3, aggregation="joint", length=3)
    assert learner.text_slots == 6 and learner.template == "X X X X X X {}."


def test_vpt_says_the_plain_sentence(small_clip):
    for context, template in ((WORDS, "a photo of a {}."), ("an image of", "an image of {}.")):
        learner = start(small_clip, "VPT", vision_depth=1, context=context)
        assert learner.template == template and not learner.text_prompts


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


UNSHARED = dict(share_text=False, share_vision=False)


@pytest.mark.parametrize(
    "name, settings",
    [("MaPLe", {}), *(("BMIP", {**UNSHARED, "variant": variant}) for variant in ("paper", "released"))],
    ids=str,
)
def test_deep_heads_start_as_separate_copies_of_one_and_layer_0_has_its_own(wide_clip, name, settings):
    heads = start(wide_clip, name, depth=3, **settings).text_to_vision
    assert set(heads) == {"0", "1", "2"}
    assert same(heads["1"], heads["2"]) and not same(heads["0"], heads["1"])
    assert heads["1"].weight.data_ptr() != heads["2"].weight.data_ptr()


def test_maple_in_one_layer_draws_the_start_of_the_deep_heads_as_the_authors_do(small_clip):
    start(small_clip, "MaPLe", depth=1, context="")
    after = torch.rand(3)
    torch.manual_seed(0)
    torch.randn(2, 64), torch.nn.Linear(64, 128), torch.nn.Linear(64, 128)
    assert torch.equal(torch.rand(3), after)


def test_heads_start_as_linear_layers_do(wide_clip):
    coupling, network = start(wide_clip, "MaPLe", depth=2).text_to_vision, start(wide_clip, "CoCoOp").meta_net
    for module in (*coupling.values(), network.linear1):
        bound = module.in_features**-0.5
        for tensor in (module.weight, module.bias):
            assert 0.9 * bound < tensor.abs().max() <= bound


def test_released_vision_prompts_are_copies_of_one_or_uniform_within_the_authors_bound(wide_clip):
    prompts = start(wide_clip, "BMIP", depth=3, variant="released").vision_prompts
    assert set(prompts) == {"1", "2"} and torch.equal(prompts["1"], prompts["2"])
    assert prompts["1"].data_ptr() != prompts["2"].data_ptr()
    prompts = start(wide_clip, "BMIP", depth=3, variant="released", share_vision=False, length=4).vision_prompts
    bound = (6 / (3 * 16 + 640)) ** 0.5
    assert not torch.equal(prompts["1"], prompts["2"])
    for prompt in prompts.values():
        assert 0.98 * bound < prompt.abs().max() <= bound


def test_class_specific_contexts_are_drawn_for_each_class_alike_for_one_seed(wide_clip):
    drawn = []
    for seed, ahead in ((3, 0), (3, 7), (4, 0)):
        torch.manual_seed(seed)
        learner = new_learner(wide_clip, "CoOp", length=4, class_specific=True)
        torch.randn(ahead)  # e.g. a sampler's, before the classes are known
        learner.set_class_count(5)
        drawn.append(learner.text_prompts["0"])
    assert drawn[0].shape == (5, 4, 512) and torch.equal(*drawn[:2]) and not torch.equal(*drawn[1:])
    assert_random(drawn[0])
    assert not torch.equal(drawn[0][0], drawn[0][1])


@pytest.mark.parametrize("layers, expected", [(12, 9), (4, 3), (3, 3), (2, 2)])
def test_tcps_class_tokens_enter_after_two_thirds_of_the_tower(layers, expected):
    clip_model = make_clip(transformer_layers=layers)
    assert new_learner(clip_model, "TCP").class_layer + 1 == expected


# ------------------------------------------------------------------------------------------------ what trains


def ivlp(tokens: int, depth: int, **settings) -> dict:
    return dict(text_length=tokens, text_depth=depth, **{"vision_length": tokens, "vision_depth": depth, **settings})


COUNTS = [
    ("IVLP", ivlp(2, 12), 30_720),
    ("IVLP", ivlp(4, 9), 46_080),
    ("IVLP", ivlp(4, 12, vision_length=0, vision_depth=0), 24_576),
    # Of the residual heads each tower has one for layer 0 and one for all others.
    ("IVLP", ivlp(2, 9, head_width=64), 18 * (512 + 768) + sum(2 * (2 * w * 64 + 64 + w) for w in (512, 768))),
    ("VPT", dict(vision_length=8, vision_depth=12), 73_728),
    ("MaPLe", dict(length=2, depth=9, context=""), 3_555_072),
    ("MaPLe", dict(length=2, depth=3, context=""), 1_185_024),
    ("MMA", {}, 674_560),
    ("MMA_BMIP", {}, 1_598_500 + 674_560),
    ("TCP", dict(length=4), 331_904),
    ("MMRL", {}, 4_992_256),
    ("MMRLpp", {}, 813_312),
    ("CoCoOp", dict(length=4), 35_360),
    ("CoOp", dict(length=16), 8_192),
    ("CoOp", dict(length=16, class_specific=True), 100 * 8_192),
]


@pytest.mark.parametrize("name, settings, count", COUNTS, ids=str)
def test_as_many_parameters_train_on_vit_b16_as_published(vit_b16, name, settings, count):
    learner = new_learner(vit_b16, name, **settings)
    learner.set_class_count(100)
    assert sum(parameter.numel() for parameter in learner.parameters()) == count


EACH = pytest.mark.parametrize("name", SETTINGS)


def train_step(classnames, images, name, precision="fp32", **settings) -> PromptedCLIP:
    model = make_clip(embed_dim=256)  # of which CoCoOp's network has more than a few units
    cast_matmul_weights(model, PRECISIONS[precision].matmul)
    learner = start(model, name, **(settings or SETTINGS[name]))
    prompted = PromptedCLIP(model, learner, classnames, PRECISIONS[precision]).train()
    F.cross_entropy(prompted(images), torch.tensor([0, 1, 2, 3])).backward()
    return prompted


TRAINED = [
    *SETTINGS.items(),
    *[("IVLP", LANGUAGE), ("IVLP", HEADS), ("CoOp", dict(length=4, class_specific=True, position="middle"))],
    *[("BMIP", dict(depth=3, aggregation=name)) for name in AGGREGATIONS],
    ("BMIP", dict(depth=3, variant="released")),
]


@pytest.mark.parametrize("name, settings", TRAINED, ids=str)
def test_every_tensor_that_is_saved_trains_and_nothing_else_does(images, classnames, name, settings):
    model = train_step(classnames, images, name, **settings)
    trained = dict(model.learner.named_parameters())
    assert trained.keys() == model.learner.state_dict().keys()
    for key, parameter in trained.items():
        # The released text readout is exactly 0, so the scale of its gate gets a gradient of exactly 0.
        zero_by_design = settings.get("variant") == "released" and key.startswith("text_gate") and "weight" in key
        assert (parameter.grad.abs().max() > 0) is not zero_by_design, key
    assert all(not one.requires_grad and one.grad is None for one in model.clip_model.parameters())


@EACH
def test_clip_is_bit_identical_after_training(images, classnames, name):
    model = train_step(classnames, images, name)
    before = copy.deepcopy(model.clip_model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    optimiser.step()
    F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    optimiser.step()
    for key, value in model.clip_model.state_dict().items():
        assert torch.equal(value, before[key]), key


@EACH
@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.06), ("fp16", 0.01), ("amp", 0.01)])
def test_reduced_precision_agrees_with_fp32_and_trains_fp32_masters(images, classnames, name, precision, tolerance):
    exact, reduced = (train_step(classnames, images, name, chosen) for chosen in ("fp32", precision))
    difference = (exact(images) - reduced(images)).abs().max()
    assert 0 < difference < tolerance * exact(images).abs().max()
    for parameter in reduced.learner.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_and_residual_stream_have_the_types_of_the_precision(images, classnames, precision):
    model = train_step(classnames, images, "BMIP", precision)
    seen = set()
    for tower in (model.clip_model.transformer, model.clip_model.visual.transformer):
        for block in tower.resblocks:
            block.attn.out_proj.register_forward_hook(lambda _, args, output: seen.add(("product", output.dtype)))
            block.ln_2.register_forward_hook(lambda _, args, output: seen.add(("stream", args[0].dtype)))
    model(images)
    expected = PRECISIONS[precision]
    assert seen == {("product", expected.matmul), ("stream", expected.stream)}


# ------------------------------------------------------------------------------------------------ computed once

FIXED = {
    "VPT": lambda clip_model: start(clip_model, "VPT", vision_depth=3),
    "ensemble": lambda clip_model: FixedSentence("a photo of a {}.", "art of the {}."),
}


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """One entry for each time that the classes are encoded."""
    calls, encode = [], PromptedCLIP.encode_text
    monkeypatch.setattr(PromptedCLIP, "encode_text", lambda *a, **k: calls.append(1) or encode(*a, **k))
    return calls


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_text_without_prompts_is_encoded_once_for_each_class_set(images, classnames, make, training, encoded):
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


@pytest.mark.parametrize("name", ["CoOp", "IVLP", "MaPLe", "BMIP"])
def test_text_with_prompts_is_encoded_anew_while_they_train_and_once_in_a_test(small_clip, images, encoded, name):
    model = PromptedCLIP(small_clip, start(small_clip, name, **SETTINGS[name]), ["cat", "dog"])
    for _ in range(2):
        model(images)
    assert len(encoded) == 2
    with torch.no_grad():
        for _ in range(3):
            model(images)
    assert len(encoded) == 3


@pytest.mark.parametrize(
    "dataset, own",
    [("ImageNet", ()), ("Digits", (f"{WORDS} {{}}.",)), ("OxfordPets", ("a photo of a {}, a type of pet.",))],
)
def test_the_ensemble_has_seven_sentences_and_the_data_sets_own_except_on_imagenet(dataset, own):
    cfg = default_cfg()
    cfg.DATASET.NAME = dataset
    for _ in range(2):  # building it again adds nothing
        templates = ZeroshotCLIP2.settings(cfg).templates
        assert len(set(templates)) == len(templates) == 7 + len(own) and templates[7:] == own
        assert templates[0] == "itap of a {}." and templates[6] == "a photo of the small {}."


# ------------------------------------------------------------------------------------------------ what is refused


def test_class_specific_contexts_refuse_another_number_of_classes(small_clip, classnames):
    model = PromptedCLIP(small_clip, start(small_clip, "CoOp", length=2, class_specific=True), classnames)
    with pytest.raises(InputError, match="class_specific is True.* 5 classes.* 3 others.*class_specific False"):
        model.set_classes(classnames[:3])


# What a declaration's bounds and choices refuse is in test_declarations.py.
REFUSED = [
    ("CoOp", dict(class_specific=True, context=WORDS), "class_specific is True and .*; set class_specific to False"),
    ("IVLP", dict(text_depth=4, vision_depth=3), r"text_depth is 4, .* 3 layers; set it to 1\.\.3"),
    ("VPT", dict(vision_depth=4), r"vision_depth is 4, .* 3 layers; set it to 1\.\.3"),
    ("MaPLe", dict(depth=4), r"^depth is 4, .* 3 layers; set it to 1\.\.3"),
    ("IVLP", dict(vision_length=0), "vision_length is 0 and vision_depth is 9; set both to 0"),
    ("IVLP", dict(vision_depth=0), "vision_length is 2 and vision_depth is 0; set both to 0"),
    ("VPT", dict(vision_length=0), "vision_length is 0; set it to a whole number between 1 and 1000"),
    (
        "IVLP",
        dict(text_length=3, text_depth=3, vision_depth=3, context="a photo"),
        "context is 'a photo', which has 2 tokens, .* first 3; .* a smaller text_length",
    ),
    ("MaPLe", dict(depth=3, length=3, context="a photo"), "which has 2 tokens, .* first 3; .* a smaller length"),
]


@pytest.mark.parametrize("name, settings, message", REFUSED, ids=str)
def test_what_cannot_be_is_refused_with_the_setting_and_remedy(small_clip, name, settings, message):
    with pytest.raises(InputError, match=message):
        start(small_clip, name, **settings)


LONG = " ".join(["so"] * 75)


@pytest.mark.parametrize(
    "name, settings, classname, remedy",
    [
        ("CoOp", dict(length=75), "cat", ".* prompts around it"),
        ("CoCoOp", dict(context=LONG), "cat", "shorten the class name, or the words"),
        ("CoOp", dict(length=16, position="front"), LONG, "shorten the class name"),
    ],
)
def test_sentences_that_are_too_long_are_refused(small_clip, name, settings, classname, remedy):
    with pytest.raises(InputError, match=f"77 tokens of this backbone; {remedy}"):
        PromptedCLIP(small_clip, start(small_clip, name, **settings), ["cat", classname])


def test_as_many_tokens_as_a_sentence_holds_are_allowed(small_clip, images):
    model = PromptedCLIP(small_clip, start(small_clip, "CoOp", length=73, position="middle"), ["cat"])
    assert model(images).isfinite().all() and model.ids.shape == (1, 77)


# ------------------------------------------------------------------------------------------------ ResNets

PLAIN = FixedSentence("a photo of a {}.")


@pytest.fixture(scope="module")
def resnet():
    return make_clip(**RESNET)


def test_without_prompts_the_logits_of_a_resnet_are_clips(resnet, images, classnames):
    model = PromptedCLIP(resnet, PLAIN, classnames)
    tokens = clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in classnames])
    with torch.no_grad():
        torch.testing.assert_close(model(images), resnet(images, tokens)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name, settings", [("CoOp", dict(length=3)), ("CoCoOp", dict(length=3)), ("IVLP", LANGUAGE)], ids=str
)
def test_text_prompts_train_on_a_resnet(resnet, images, classnames, name, settings):
    learner = start(resnet, name, **settings)
    PromptedCLIP(resnet, learner, classnames)(images).logsumexp(dim=1).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in learner.parameters())


def test_a_resnet_in_bf16_is_near_fp32(images, classnames):
    exact, model = PromptedCLIP(make_clip(**RESNET), PLAIN, classnames), make_clip(**RESNET)
    cast_matmul_weights(model, torch.bfloat16)
    rounded = PromptedCLIP(model, PLAIN, classnames, PRECISIONS["bf16"])
    features = exact.encode_image(images), rounded.encode_image(images).float()
    assert torch.cosine_similarity(*features).min() > 0.99


@pytest.mark.parametrize("name", ["IVLP", "VPT", "MaPLe", "BMIP", "MMA", "MMRL", "MMRLpp"])
def test_vision_prompts_are_refused_on_a_resnet(resnet, name):
    with pytest.raises(InputError, match="backbone is .*a ResNet.*ViT-B/16"):
        start(resnet, name, **SETTINGS[name])
