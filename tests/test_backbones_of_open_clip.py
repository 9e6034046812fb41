"""CLIPs that open_clip builds: the same features without prompts, the equations with prompts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import pytest
import torch
from helpers.backbones import (
    SIGLIP_TEXT,
    TEXT,
    VISION,
    architecture,
    open_clip_model,
    spread,
    timm_vit,
    word_tokenizer,
)
from helpers.learners import SETTINGS, TOLERANCE, assert_equal_to_naive, make
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tools.straightforward_bmip import StraightforwardBMIP
from trainers.prompting.core.class_tokens import check_context
from trainers.prompting.core.clip_weights import PRECISIONS, check_backbone, is_named, load_clip
from trainers.prompting.core.design import design_of
from trainers.prompting.core.from_open_clip import images_of_name
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.summary import clip_of_size, trained_numbers
from trainers.prompting.core.words import OPENAI_WORDS
from trainers.prompting.errors import InputError

open_clip = pytest.importorskip("open_clip")

# Towers like OpenAI's, with its words: changes of text and vision configuration, and of the whole.
LIKE_OPENAI = {
    "gelu": ({}, {}, {}),
    "quick gelu": ({}, {}, dict(quick_gelu=True)),
    "layer scale": (dict(ls_init_value=0.5), dict(ls_init_value=0.5), {}),
    "wide MLPs": (dict(mlp_ratio=4.5), dict(mlp_ratio=4.8), {}),
    "other sizes": (
        dict(width=96, heads=3, layers=4, context_length=40),
        dict(width=64, head_width=16, layers=5, patch_size=16, image_size=48),
        {},
    ),
    "epsilons and an approximate gelu": (
        dict(norm_kwargs={"eps": 1e-3}, act_kwargs={"approximate": "tanh"}),
        dict(norm_kwargs={"eps": 1e-2}),
        {},
    ),
    "a text tower of its own": ({}, {}, dict(custom_text=True)),
}
NAMES = ["cat", "striped_dog", "sea or lake", "sun"]
METHODS = [
    ("BMIP", dict(depth=3)),
    ("MaPLe", dict(depth=3)),
    ("IVLP", dict(text_depth=3, vision_depth=2)),
    ("CoOp", dict(length=3, position="middle")),
]


def features(ours, images) -> tuple[torch.Tensor, torch.Tensor]:
    model = PromptedCLIP(ours, FixedSentence("a photo of a {}."), NAMES)
    with torch.no_grad():
        return model.encode_image(images), model.encode_text()


def original_features(theirs, images, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    ids = tokenizer([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    with torch.no_grad():
        return theirs.encode_image(images), theirs.encode_text(ids)


def images_for(theirs) -> torch.Tensor:
    side = theirs.visual.image_size
    side = side if isinstance(side, int) else side[0]
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=LIKE_OPENAI, scope="module")
def like_openai(request, tmp_path_factory):
    """The original, ours, and images."""
    text, vision, other = LIKE_OPENAI[request.param]
    folder, name = tmp_path_factory.mktemp("clip"), request.param.replace(" ", "-")
    theirs, backbone = open_clip_model(folder, f"test-{name}", text, vision, **other)
    return theirs, load_clip(backbone), images_for(theirs), open_clip.get_tokenizer(f"test-{name}")


def assert_same_features(ours, theirs, images, tokenizer):
    for found, expected in zip(features(ours, images), original_features(theirs, images, tokenizer)):
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_features_without_prompts_are_the_original_s(like_openai):
    theirs, ours, images, tokenizer = like_openai
    assert_same_features(ours, theirs, images, tokenizer)


@pytest.mark.parametrize("name, settings", METHODS, ids=str)
def test_methods_equal_their_equations(like_openai, name, settings):
    _, ours, images, _ = like_openai
    assert_equal_to_naive(ours, make(ours, name, len(NAMES), **settings), images, NAMES)


# ------------------------------------------------------------------------------------- other readouts, other words

BERT_LIKE = dict(no_causal_mask=True, pool_type="last", context_length=20)
FREE = {
    "averaged patches, norm after": (dict(), dict(pool_type="avg", final_ln_after_pool=True, no_ln_pre=True), {}),
    "averaged patches, norm before": (dict(), dict(pool_type="avg"), {}),
    "an attention pool": (dict(), dict(attentional_pool=True, attn_pooler_queries=5, attn_pooler_heads=4), {}),
    "no causal mask": (dict(no_causal_mask=True, context_length=30), {}, {}),
    "the last token of a causal tower": (dict(pool_type="last", context_length=25), {}, {}),
    "CLIPA's words": (
        dict(**BERT_LIKE, hf_tokenizer_name=(True, "<pad>"), tokenizer_kwargs={"strip_sep_token": True}),
        dict(pool_type="avg", final_ln_after_pool=True, no_ln_pre=True),
        {},
    ),
    "words of another language": (dict(pool_type="eos", eos_id=1, hf_tokenizer_name=(True, "<pad>")), {}, {}),
    "words without SOS": (dict(pool_type="eos", eos_id=1, hf_tokenizer_name=(False, "<pad>")), {}, {}),
    "SigLIP": (
        dict(**SIGLIP_TEXT, hf_tokenizer_name=(False, "</s>"), tokenizer_kwargs={"clean": "canonicalize"}),
        dict(timm=("map", dict(class_token=False)), timm_proj="none"),
        dict(init_logit_bias=-10, custom_text=True, embed_dim=96),
    ),
    "no projections": (
        dict(no_causal_mask=True, pool_type="last", proj_type="none", width=32, heads=1, context_length=24),
        dict(timm=("map", dict(class_token=False, embed_dim=32, num_heads=1)), timm_proj="none"),
        dict(init_logit_bias=-10, custom_text=True),
    ),
    "timm's class token": (
        {},
        dict(timm=("token", dict(pre_norm=True, init_values=0.5, qkv_bias=False)), timm_proj=None),
        dict(custom_text=True),
    ),
    "timm's averaged patches": ({}, dict(timm=("avg", dict(no_embed_class=True)), timm_proj="mlp"), {}),
}


def small_vocabulary(text: dict, folder, name: str) -> dict:
    if "hf_tokenizer_name" not in text:
        return text
    bos, pad = text["hf_tokenizer_name"]
    return {**text, "vocab_size": 32, "hf_tokenizer_name": word_tokenizer(folder / f"{name}-words", bos, pad)}


def of_timm(vision: dict, name: str) -> dict:
    if "timm" not in vision:
        return vision
    pool, sizes = vision["timm"]
    own = dict(timm_model_name=timm_vit(f"vit_{name.replace('-', '_')}", **sizes), timm_pool=pool)
    return {**vision, **own, "timm": None}


@pytest.fixture(params=FREE, scope="module")
def free(request, tmp_path_factory):
    """The original, ours, images, and the original's tokeniser."""
    text, vision, other = FREE[request.param]
    folder = tmp_path_factory.mktemp("clip")
    name = "test-" + request.param.replace(" ", "-").replace("'", "").replace(",", "")
    text, vision = small_vocabulary(text, folder, name), of_timm(vision, name)
    vision.pop("timm", None)
    theirs, backbone = open_clip_model(folder, name, text, vision, **other)
    check_backbone(backbone, needs_vit=True)
    theirs.backbone = backbone
    return theirs, load_clip(backbone, needs_vit=True), images_for(theirs), open_clip.get_tokenizer(name)


def test_features_of_other_readouts_and_words_are_the_original_s(free):
    theirs, ours, images, tokenizer = free
    assert_same_features(ours, theirs, images, tokenizer)


def test_logits_have_the_bias_of_the_original(free):
    theirs, ours, images, tokenizer = free
    expected = theirs.get_logits(images, tokenizer([f"a photo of a {name.replace('_', ' ')}." for name in NAMES]))[0]
    found = PromptedCLIP(ours, FixedSentence("a photo of a {}."), NAMES)(images)
    torch.testing.assert_close(found, expected, **TOLERANCE)


def with_prompts(theirs, tokenizer, images, sentences, start, text: dict[int, Tensor], vision: dict[int, Tensor]):
    """The original's own features where prompts stand in its sequences: in the text in place of words from `start` on,
    among the image's tokens after all others, and not in the pool over them."""
    tower, visual, handles = getattr(theirs, "text", theirs), theirs.visual, []

    def hook(module: nn.Module, change: Callable[[Tensor], Tensor], before: bool = True) -> None:
        if before:
            handles.append(module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:])))
        else:
            handles.append(module.register_forward_hook(lambda _, inputs, output: change(output)))

    def in_text(layer: int) -> Callable[[Tensor], Tensor]:
        def change(x: Tensor) -> Tensor:
            prompts = text[layer].expand(len(x), -1, -1)
            return torch.cat([x[:, :start], prompts, x[:, start + prompts.shape[1] :]], dim=1)

        return change

    def in_vision(layer: int, number: int) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.cat([x[:, : x.shape[1] - number], vision[layer].expand(len(x), -1, -1)], dim=1)

    for layer in text:
        if layer:
            hook(tower.transformer.resblocks[layer], in_text(layer))
        else:
            hook(tower.token_embedding, in_text(0), before=False)
    is_timm = hasattr(visual, "trunk")
    for layer in vision:
        blocks = visual.trunk.blocks if is_timm else visual.transformer.resblocks
        if layer:
            hook(blocks[layer], in_vision(layer, len(vision[layer])))
        else:
            hook(visual.trunk.norm_pre if is_timm else visual.ln_pre, in_vision(0, 0))
    if vision:
        number = len(vision[0])
        hook(visual.trunk.blocks if is_timm else visual.transformer, lambda x: x[:, :-number], before=False)
    try:
        return theirs.encode_image(images), theirs.encode_text(tokenizer(sentences))
    finally:
        for handle in handles:
            handle.remove()


def by_layer(prompts) -> dict[int, Tensor]:
    return {int(layer): value for layer, value in prompts.items()}


IVLPS = {
    "deep": dict(text_length=2, text_depth=3, vision_length=3, vision_depth=2),
    "words": dict(text_length=3, text_depth=2, vision_length=1, vision_depth=3, context="a photo of a"),
    "shallow, many": dict(text_length=6, text_depth=1, vision_length=4, vision_depth=1, context=""),
}


@pytest.mark.parametrize("cost", [-1, float("inf")], ids=["segments", "one sequence"])
@pytest.mark.parametrize("settings", IVLPS.values(), ids=IVLPS)
def test_independent_prompts_stand_in_the_original_s_own_towers(free, settings, cost, monkeypatch):
    monkeypatch.setattr("trainers.prompting.core.tower.SEGMENTS_COST", {"cpu": cost})
    theirs, ours, images, tokenizer = free
    learner = make(ours, "IVLP", len(NAMES), **settings)
    model = PromptedCLIP(ours, learner, NAMES).train()
    sentences = [learner.template.format(name.replace("_", " ")) for name in NAMES]
    prompts = by_layer(learner.text_prompts), by_layer(learner.vision_prompts)
    image, text = with_prompts(theirs, tokenizer, images, sentences, model.start, *prompts)
    logits = theirs.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    logits = logits if theirs.logit_bias is None else logits + theirs.logit_bias
    assert_same_gradients(model, images, logits)


def assert_same_gradients(model: PromptedCLIP, images: Tensor, expected: Tensor) -> None:
    parameters = [parameter for parameter in model.learner.parameters() if parameter.requires_grad]
    found, labels = model(images), torch.arange(len(images))
    torch.testing.assert_close(found, expected, **TOLERANCE)
    losses = F.cross_entropy(found, labels), F.cross_entropy(expected, labels)
    ours, naive = (torch.autograd.grad(loss, parameters) for loss in losses)
    assert max(gradient.abs().max() for gradient in naive) > 1e-4
    for one, other in zip(ours, naive):
        torch.testing.assert_close(one, other, **TOLERANCE)


class Straightforward(StraightforwardBMIP):
    """BMIP's equations over the blocks that the other tests compare with the original's, whatever is read."""

    def __init__(self, clip_model, learner, classnames, start: int, tokenizer):
        super().__init__(clip_model, learner, [])
        self.start, self.design = start, design_of(clip_model)
        sentences = [learner.template.format(name.replace("_", " ")) for name in classnames]
        self.ids = tokenizer(sentences)
        whole = design_words(clip_model).sentences(sentences, clip_model.context_length)
        self.end = whole.end

    def encode_text(self) -> Tensor:
        model, slots = self.clip_model, slice(self.start, self.start + self.slots)
        embedded, order = model.token_embedding(self.ids), torch.arange(self.ids.shape[1])
        readers = ((order >= slots.stop) & (order <= self.end[:, None])).float()

        def average(received: Tensor) -> Tensor:
            return (received * readers[..., None]).sum(dim=1) / readers.sum(dim=1, keepdim=True)

        def enter(x: Tensor) -> Tensor:
            return x + model.positional_embedding

        x = self._run("text", model.transformer.resblocks, embedded, slots, enter, average)
        read = torch.full_like(self.end, -1) if self.design.reads_last else self.end
        features = model.ln_final(x[torch.arange(len(x)), read]) @ model.text_projection
        return features + model.text_bias if hasattr(model, "text_bias") else features

    def encode_image(self, images: Tensor) -> Tensor:
        visual = self.clip_model.visual
        embedded = visual.conv1(images).flatten(2).transpose(1, 2)
        if visual.class_embedding is not None:
            embedded = torch.cat([visual.class_embedding.expand(len(embedded), 1, -1), embedded], dim=1)
        embedded = embedded + visual.positional_embedding
        slots = slice(embedded.shape[1], embedded.shape[1] + self.slots)

        def average(received: Tensor) -> Tensor:
            return received[:, : slots.start].mean(dim=1)

        # The slots stand after the others, so they enter with content and leave again before the readout.
        blocks = visual.transformer.resblocks
        x = self._run("vision", blocks, embedded, slots, visual.ln_pre, average)[:, : slots.start]
        if self.design.pooled is not None:
            return visual.pool(x[:, self.design.pooled])
        return visual.ln_post(x[:, 0]) @ visual.proj


@pytest.mark.parametrize("cost", [-1, float("inf")], ids=["segments", "one sequence"])
@pytest.mark.parametrize("name", ["BMIP", "MaPLe"])
def test_mixed_prompts_equal_their_equations(free, name, cost, monkeypatch):
    monkeypatch.setattr("trainers.prompting.core.tower.SEGMENTS_COST", {"cpu": cost})
    _, ours, images, tokenizer = free
    learner = make(ours, name, len(NAMES), depth=3, length=2)
    model = PromptedCLIP(ours, learner, NAMES).train()
    naive = Straightforward(ours, learner, NAMES, model.start, tokenizer)
    expected = naive(images)
    expected = expected + ours.logit_bias if hasattr(ours, "logit_bias") else expected
    assert_same_gradients(model, images, expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_method_gives_the_same_however_its_work_is_cut(free, name, monkeypatch):
    _, ours, images, _ = free
    if name.startswith("MMRL") and ours.design.pooled is not None:
        with pytest.raises(InputError, match="pools the tokens of images, but MMRL"):
            make(ours, name, **SETTINGS[name])
        return
    learner = make(ours, name, len(NAMES), **SETTINGS[name])
    logits = []
    for cost, chunk, together in ((-1, 0, True), (float("inf"), 0, True), (float("inf"), 1, False)):
        monkeypatch.setattr("trainers.prompting.core.tower.SEGMENTS_COST", {"cpu": cost})
        model = PromptedCLIP(ours, learner, NAMES, class_chunk=chunk).train()
        logits.append(model(images) if together else torch.cat([model(image[None]) for image in images]))
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], **TOLERANCE)
    F.cross_entropy(logits[0], torch.arange(4)).backward()
    gradients = [parameter.grad for parameter in learner.parameters() if parameter.grad is not None]
    assert max(gradient.abs().max() for gradient in gradients) > 1e-5


@pytest.mark.parametrize("position", ["middle", "front"])
def test_class_names_move_among_the_prompts(free, position):
    """The words of the sentence in the order that the original's tokeniser would give them."""
    theirs, ours, images, tokenizer = free
    learner = make(ours, "CoOp", 2, length=2, position=position)
    with torch.no_grad():
        # Prompts that are words of the vocabulary: their sentence is one that the original can read.
        a, big = (design_words(ours).encode(word)[0] for word in ("a", "big"))
        learner.text_prompts["0"].copy_(ours.token_embedding.weight[[a, big]])
        found = PromptedCLIP(ours, learner, ["cat", "sun"]).encode_text()
        order = {"middle": "a {} big.", "front": "{} a big."}[position]
        expected = theirs.encode_text(tokenizer([order.format(name) for name in ("cat", "sun")]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def design_words(model):
    return design_of(model).words or OPENAI_WORDS


def test_a_context_that_is_too_short_is_named(free):
    _, ours, _, _ = free
    learner = make(ours, "CoOp", length=ours.context_length)
    with pytest.raises(InputError, match=f"more than the {ours.context_length} tokens of this backbone"):
        check_context(ours, learner.templates)


# ------------------------------------------------------------------------------------------------ precision

# Relative to the norm of a feature: two roundings to 8 bits in each of a few layers.
BF16 = 0.03


def test_bf16_is_near_fp32(free):
    theirs, ours, images, _ = free
    low = load_clip(theirs.backbone, PRECISIONS["bf16"], needs_vit=True)
    learners = [make(model, "IVLP", len(NAMES), text_depth=2, vision_depth=2) for model in (ours, low)]
    exact = PromptedCLIP(ours, learners[0], NAMES)
    rounded = PromptedCLIP(low, learners[1], NAMES, PRECISIONS["bf16"]).train()
    for one, other in zip(rounded.features(images), exact.features(images)):
        assert (one - other).norm(dim=-1).max() < BF16
    F.cross_entropy(rounded(images), torch.arange(4)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in learners[1].parameters())


# ------------------------------------------------------------------------- vision towers that prompts cannot enter

WHOLE = {
    "a ResNet": dict(layers=[1, 1, 1, 1], width=16, head_width=32, image_size=64),
    "a ConvNeXt": dict(timm_model_name="test_convnext", image_size=64, timm_pool="", timm_proj="linear"),
}


@pytest.fixture(params=WHOLE, scope="module")
def whole(request, tmp_path_factory):
    name = "test-whole-" + request.param.replace(" ", "-")
    return open_clip_model(tmp_path_factory.mktemp("clip"), name, {}, WHOLE[request.param])


def test_a_method_of_the_text_alone_takes_any_vision_tower(whole):
    theirs, backbone = whole
    check_backbone(backbone, needs_vit=False)
    ours, images = load_clip(backbone), images_for(theirs)
    tokenizer = open_clip.get_tokenizer(backbone.split(":")[1].split("/")[0])
    assert_same_features(ours, theirs, images, tokenizer)
    learner = make(ours, "CoOp", len(NAMES), length=2)
    torch.nn.functional.cross_entropy(PromptedCLIP(ours, learner, NAMES)(images), torch.arange(4)).backward()
    assert learner.text_prompts["0"].grad.abs().max() > 1e-4
    low = PromptedCLIP(load_clip(backbone, PRECISIONS["bf16"]), learner, NAMES, PRECISIONS["bf16"])
    assert low(images).isfinite().all()


@pytest.mark.parametrize("act", [check_backbone, lambda name, needs_vit: load_clip(name, needs_vit=needs_vit)])
def test_a_method_with_vision_prompts_says_why_it_cannot(whole, act):
    with pytest.raises(InputError, match="vision tower no prompts can enter: it is .*text tower alone"):
        act(whole[1], True)


# ------------------------------------------------------------------------------------------------ faults

TINY = {"embed_dim": 32, "vision_cfg": {**VISION}, "text_cfg": {**TEXT}}

REFUSED = {
    "an unknown architecture": ("ViT-B-33/openai", "no architecture 'ViT-B-33'. Do you mean ViT-B-32"),
    "an unknown tag": ("ViT-B-32/openay", "'openay' is neither a file nor weights.*ViT-B-32. Do you mean openai"),
    "no weights": ("ViT-B-16", "names no weights; give open_clip:ViT-B-16/TAG .*openai"),
    "a BERT": ("roberta-ViT-B-32/laion2b_s12b_b32k", "text tower is roberta-base of transformers"),
    "a CoCa": ("coca_ViT-B-32/laion2b_s13b_b90k", "a CoCa"),
    "a ConvNeXt": ("convnext_base/laion400m_s13b_b51k", "it is ConvNeXt of timm"),
    "an EVA": ("EVA02-B-16/merged2b_s8b_b131k", "it is Eva of timm"),
    "a stem of convolutions": ("MobileCLIP-B/datacompdr", "whose tokens are not patches"),
    "a hybrid": ("ViTamin-S/datacomp1b", "it is VisionTransformer of timm, whose"),
    "relative positions": ("vit_relpos_medium_patch16_cls_224/x", "neither a file"),
    "a ResNet": ("RN50/openai", "it is a ResNet"),
}


@pytest.mark.parametrize("name, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_before_a_download(name, message, monkeypatch):
    monkeypatch.setattr(open_clip, "download_pretrained", None)
    with pytest.raises(InputError, match=f"backbone is 'open_clip:{name}'.*{message}"):
        check_backbone(f"open_clip:{name}", needs_vit=True)


ADMITTED = [
    *("ViT-B-32/openai", "ViT-B/32/openai", "ViT-H-14/laion2b_s32b_b79k", "ViT-bigG-14/laion2b_s39b_b160k"),
    *("ViT-L-14-CLIPA/datacomp1b", "ViT-B-16-SigLIP/webli", "ViT-SO400M-14-SigLIP-384/webli"),
    *("ViT-B-32-SigLIP2-256/webli", "ViT-H-14-worldwide/metaclip2_worldwide"),
]


@pytest.mark.parametrize("name", ADMITTED)
def test_architectures_that_people_use_are_admitted(name):
    check_backbone(f"open_clip:{name}", needs_vit=True)


def test_weights_that_cannot_be_downloaded_are_named_with_where_they_come_from(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", refuse)
    # A small one, because the model is built first.
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: dict(TINY))
    with pytest.raises(InputError, match=r"(?s)ViT-B-32/openai.*no network.*vit_base.*open_clip:ViT-B-32/FILE"):
        load_clip("open_clip:ViT-B-32/openai")


def test_weights_of_another_architecture_are_named(tmp_path):
    _, name = open_clip_model(tmp_path, "test-first", {}, {})
    architecture(tmp_path, "test-second", dict(layers=4), {})
    with pytest.raises(InputError, match=r"(?s)whose weights, .*test-first.pt, are not those of test-second"):
        load_clip(f"open_clip:test-second/{name.split('/', 1)[1]}")


def test_a_package_that_is_not_installed_comes_with_the_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one: None if one == "open_clip" else find(one))
    with pytest.raises(InputError, match="open_clip is n.*pip install open-clip"):
        load_clip("open_clip:ViT-B-32/openai")


def test_a_tokeniser_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    words = word_tokenizer(tmp_path / "words", True, "<pad>")
    text = dict(hf_tokenizer_name=words, pool_type="eos", eos_id=1, vocab_size=32)
    _, name = open_clip_model(tmp_path, "test-words", text, {})
    (tmp_path / "words" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="(?s)whose tokeniser .*words' cannot be had.*hf download"):
        load_clip(name)


def test_a_tokeniser_that_pads_at_the_start_is_refused(tmp_path):
    words = word_tokenizer(tmp_path / "words", True, "<pad>")
    path = tmp_path / "words" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "left"}))
    text = dict(hf_tokenizer_name=words, pool_type="eos", eos_id=1, vocab_size=32)
    _, name = open_clip_model(tmp_path, "test-left", text, {})
    with pytest.raises(InputError, match="tokeniser of backbone does not pad sentences at their end"):
        load_clip(name)


def test_the_activation_is_that_of_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: dict(TINY))
    model = open_clip.CLIP(**TINY, quick_gelu=True)
    spread(model)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tmp_path / "x.pt"))
    tokenizer = open_clip.get_tokenizer("RN50")  # OpenAI's words
    assert_same_features(load_clip("open_clip:ViT-B-32/openai"), model, images_for(model), tokenizer)
    with pytest.raises(AssertionError):
        assert_same_features(load_clip("open_clip:ViT-B-32/laion2b_s34b_b79k"), model, images_for(model), tokenizer)


@pytest.mark.parametrize(
    "name, mean, interpolation",
    [
        ("ViT-B-16-SigLIP/webli", 0.5, "bicubic"),
        ("ViT-L-14-CLIPA/datacomp1b", 0.485, "bilinear"),
        ("ViT-B-32/openai", 0.48145466, "bicubic"),
    ],
)
def test_images_are_prepared_as_the_weights_were_trained(name, mean, interpolation, tmp_path):
    images = images_of_name(f"open_clip:{name}")
    assert (images.side, images.mean[0], images.interpolation) == (224, mean, interpolation)
    # Of a file the same, where all weights of the architecture are alike.
    (tmp_path / "x.pt").touch()
    assert images_of_name(f"open_clip:{name.split('/')[0]}/{tmp_path / 'x.pt'}") == images


def test_a_recorded_file_is_no_name(tmp_path):
    (tmp_path / "x.pt").touch()
    for name, named in {"ViT-B-32/openai": True, "ViT-B/32/openai": True, f"ViT-B-32/{tmp_path}/x.pt": False}.items():
        assert is_named(f"open_clip:{name}") == named
    assert not is_named(f"open_clip:ViT-B/32/{tmp_path}/x.pt")
    assert is_named("hf:openai/clip-vit-base-patch32") and not is_named(f"hf:{tmp_path}")


def test_a_summary_needs_no_weights(monkeypatch):
    monkeypatch.setattr(open_clip, "download_pretrained", None)
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: dict(TINY))
    clip_model = clip_of_size("open_clip:ViT-B-32/openai")
    learner = make(clip_model, "MaPLe", depth=2, length=2)
    number, _ = trained_numbers(learner, clip_model)
    text, vision = TEXT["width"], VISION["width"]
    assert number == 2 * 2 * text + 2 * (text + 1) * vision
