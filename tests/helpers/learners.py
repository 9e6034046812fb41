"""Learners whose tensors are large enough to matter, and what the naive implementations make of the same tensors."""

from __future__ import annotations

from collections.abc import Callable

import naive_methods
import torch
from naive_methods import cosine_logits
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.tools.straightforward_bmip import StraightforwardBMIP
from trainers.prompting.core.learner import PromptLearner
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bitp import BITPLearner
from trainers.prompting.learners.bmip import BMIPLearner
from trainers.prompting.learners.cocoop import CoCoOpLearner
from trainers.prompting.learners.coop import CoOpLearner
from trainers.prompting.learners.hicropl import HiCroPLLearner
from trainers.prompting.learners.mma import MMALearner
from trainers.prompting.learners.mma_bmip import MMABMIPLearner
from trainers.prompting.learners.mmrl import MMRLLearner
from trainers.prompting.learners.mmrlpp import MMRLppLearner
from trainers.prompting.learners.proda import ProDALearner
from trainers.prompting.learners.tcp import TCPLearner
from trainers.prompting.learners.upt import UPTLearner
from trainers.prompting.methods import METHODS

TOLERANCE = dict(rtol=1e-5, atol=1e-5)


def new_learner(clip_model, name: str, **settings) -> PromptLearner:
    """A learner of a method as training starts from it."""
    method = METHODS[name]
    return method.learner(method.config(**settings), clip_model)


def make(clip_model, name: str, classes: int = 5, **settings) -> PromptLearner:
    """A learner with trained tensors that differ in every layer and class."""
    torch.manual_seed(0)
    learner = new_learner(clip_model, name, **settings)
    learner.set_class_count(classes)
    with torch.no_grad():
        for key, parameter in learner.named_parameters():
            if key == "meta_net.linear1.bias":
                parameter.fill_(0.3)  # so that no hidden unit is off for all images
            elif name in ("HiCroPL", "UPT") and key.endswith("weight"):
                # So that no layer of the networks drowns the prompts.
                is_norm = parameter.dim() == 1
                parameter.normal_(float(is_norm), 0.3 if is_norm else parameter.shape[1] ** -0.5)
            elif name == "BITP" and key.endswith("weight"):
                parameter.normal_(std=0.5 * parameter.shape[1] ** -0.5)
            elif name not in ("BMIP", "MMA_BMIP") or "prompts" in key or "adapters" in key:
                parameter.normal_(std=0.3)
            elif "gate" in key:
                parameter.uniform_(2, 4) if key.endswith("weight") else parameter.normal_(std=0.5)
    return learner


def make_learner(clip_model, **settings) -> BMIPLearner:
    return make(clip_model, "BMIP", **settings)


# One of each kind, within the three layers of the small CLIP.
SETTINGS = {
    "CoOp": dict(length=3),
    "CoCoOp": dict(length=2),
    "VPT": dict(vision_depth=3),
    "IVLP": dict(text_depth=3, vision_depth=2),
    "MaPLe": dict(depth=3),
    "BMIP": dict(depth=3),
    "TCP": dict(length=3),
    "MMA": dict(first=2, depth=3, hidden=5),
    "MMA_BMIP": dict(depth=3, first_adapter=2, last_adapter=3, hidden=5),
    "HiCroPL": dict(depth=3, cross=2),
    "UPT": dict(depth=3, dropout=0.0),
    "MMRL": dict(length=3, width=9, layers=(2, 3)),
    "MMRLpp": dict(length=3, width=9, layers=(2, 3), new_share=0.6, rank=2, projection_rank=3),
    "BITP": dict(depth=3, connect="exchange"),
}


def linear(module: nn.Linear) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias


def by_layer(group) -> dict[int, Tensor]:
    return {int(layer): prompts for layer, prompts in group.items()}


def adapters_of(learner: PromptLearner, tower: str) -> dict[int, tuple]:
    """Down, middle and up of a tower's adapters, by layer."""
    parts = learner.block_adapters
    return {
        layer: tuple(linear(part[str(layer)]) for part in (parts.down[tower], parts.shared, parts.up[tower]))
        for layer in parts.layers
    }


class StraightforwardStack(StraightforwardBMIP):
    """BMIP step by step, and MMA's adapters beside its blocks, token by token."""

    def _through(self, tower, layer, block, x):
        adapter = adapters_of(self.learner, {"text": "text", "vision": "image"}[tower]).get(layer)
        out = super()._through(tower, layer, block, x)
        if adapter is None:
            return out
        answers = [
            naive_methods.mma_adapter(token, *adapter, self.config.scale) for token in block.ln_1(x).flatten(0, 1)
        ]
        return out + torch.stack(answers).view_as(out)


def refined(learner: HiCroPLLearner) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """HiCroPL's text and vision prompts, by layer, after the flow from those that it has."""
    proxies = [
        [dict(net.named_parameters()) for net in nets] for nets in (learner.text_proxies, learner.vision_proxies)
    ]
    mappers = [dict(net.named_parameters()) for net in (learner.text_to_vision, learner.vision_to_text)]
    prompts = by_layer(learner.text_prompts), by_layer(learner.vision_prompts)
    return naive_methods.hicropl_prompts(*prompts, *proxies, *mappers)


def naive_features(
    clip_model,
    learner: PromptLearner,
    images: Tensor,
    names: list[str],
    adapt: Callable = lambda feature, image: feature,
):
    """Raw features of images and classes by the equations; `adapt` changes image features that steer prompts.

    Where an image has several features, they are a tuple.
    """
    config, given = learner.config, (clip_model, images, names)
    if isinstance(learner, BMIPLearner):
        stacked = isinstance(learner, MMABMIPLearner)
        model = (StraightforwardStack if stacked else StraightforwardBMIP)(clip_model, learner, names)
        return list(model.encode_image(images)), list(model.encode_text())
    if isinstance(learner, CoOpLearner):
        context = learner.text_prompts["0"]
        if isinstance(learner, CoCoOpLearner):
            net = learner.meta_net
            layers = linear(net.linear1), linear(net.linear2)
            return naive_methods.cocoop_features(*given, context, *layers, config.words, adapt)
        if isinstance(learner, TCPLearner):
            net = learner.meta_net
            words = config.sentence, config.ending
            layers = linear(net.linear1), linear(net.linear2)
            return naive_methods.tcp_features(*given, context, *layers, learner.class_layer, *words)
        contexts = list(context) if config.class_specific else [context] * len(names)
        return naive_methods.coop_features(*given, contexts, config.words, config.position)
    if isinstance(learner, ProDALearner):
        return naive_methods.proda_features(*given, list(learner.text_prompts["0"]))
    if isinstance(learner, MMALearner):
        text, vision = adapters_of(learner, "text"), adapters_of(learner, "image")
        return naive_methods.mma_features(*given, text, vision, config.scale, config.context)
    if isinstance(learner, MMRLLearner):
        if isinstance(learner, MMRLppLearner):
            text, vision = (
                [(maps.weight + one.down @ one.up, one.bias) for one in maps.layers]
                for maps in (learner.text_maps, learner.vision_maps)
            )
            projection, kept = learner.projection_down @ learner.projection_up, 1 - config.new_share
            projection = clip_model.visual.proj + projection
        else:
            text, vision = ([linear(one) for one in maps] for maps in (learner.text_maps, learner.vision_maps))
            projection, kept = learner.projection, 0.0
        entering = ({layer - 1: one for layer, one in zip(config.layers, maps)} for maps in (text, vision))
        return naive_methods.mmrl_features(*given, learner.shared_tokens, *entering, projection, config.sentence, kept)
    text = by_layer(learner.text_prompts)
    vision = by_layer(learner.vision_prompts)
    if isinstance(learner, UPTLearner):
        layers = {int(layer): dict(net.named_parameters()) for layer, net in learner.unifiers.items()}
        width = clip_model.ln_final.weight.shape[0]
        text, vision = naive_methods.unified_prompts(by_layer(learner.unified_prompts), layers, width, text, vision)
        if config.variant == "released" and config.depth > 1:
            del text[config.depth - 1]
        return naive_methods.ivlp_features(*given, text, vision, config.context)
    if isinstance(learner, BITPLearner):
        groups = ("text_to_vision", "vision_to_text", "text_exchange", "vision_exchange")
        heads = [{key: linear(head) for key, head in getattr(learner, group).items()} for group in groups]
        layers = len(clip_model.transformer.resblocks), len(clip_model.visual.transformer.resblocks)
        words = naive_methods.context_words(clip_model, config.context, config.slots)[config.length :]
        text, vision = naive_methods.bitp_prompts(config.connect, text, vision, *heads, words, min(layers))
        return naive_methods.ivlp_features(*given, text, vision, config.context)
    if isinstance(learner, HiCroPLLearner):
        if config.variant == "paper":  # in the other, they are refined in place
            text, vision = refined(learner)
        return naive_methods.ivlp_features(*given, text, vision, config.context)

    def heads(modules, depth: int):
        if not config.head_width:
            return None
        pairs = [modules["deep" if layer else "0"] for layer in range(depth)]
        return {layer: (linear(pair[0]), linear(pair[2])) for layer, pair in enumerate(pairs)}

    text_heads, vision_heads = heads(learner.text_heads, len(text)), heads(learner.vision_heads, len(vision))
    return naive_methods.ivlp_features(*given, text, vision, config.context, text_heads, vision_heads)


def in_kinds(features: list, share: float) -> list[tuple[float, list]]:
    """The features of all images, the first of each and the second, with their shares in the logits."""
    if not isinstance(features[0], tuple):
        return [(1.0, features)]
    first, second = zip(*features)
    return [(share, list(first)), (1 - share, list(second))]


def naive_logits(clip_model, learner: PromptLearner, images: Tensor, names: list[str]) -> Tensor:
    """`[images, classes]`; of two features of an image, the weighted sum of theirs."""
    features, classes = naive_features(clip_model, learner, images, names)
    kinds = in_kinds(features, learner.class_share)
    means = isinstance(learner, ProDALearner)
    return sum(share * cosine_logits(clip_model, one, classes, means=means) for share, one in kinds)


def assert_equal_to_naive(clip_model, learner: PromptLearner, images, classnames, chunk: int = 0) -> None:
    """Logits, cross-entropy and the gradient of every trained tensor."""
    model = PromptedCLIP(clip_model, learner, classnames, class_chunk=chunk).train()
    labels = torch.arange(len(images)) * 3 % len(classnames)
    trained = [(name, parameter) for name, parameter in learner.named_parameters() if parameter.requires_grad]
    names, parameters = zip(*trained)
    fast = model(images)
    slow = naive_logits(clip_model, learner, images, classnames)
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    fast_loss, slow_loss = F.cross_entropy(fast, labels), F.cross_entropy(slow, labels)
    torch.testing.assert_close(fast_loss, slow_loss, **TOLERANCE)
    if len(set(classnames)) == 1:
        fast_loss, slow_loss = fast.sum(), slow.sum()  # cross-entropy has no gradient then
    # The naive code never uses a tensor that takes no part, so a superfluous one is an error here.
    for name, ours, reference in zip(
        names, torch.autograd.grad(fast_loss, parameters), torch.autograd.grad(slow_loss, parameters)
    ):
        # Attention to one proxy does not depend on its key.
        may_not = isinstance(learner, BMIPLearner) or "linear_k" in name
        assert may_not or reference.abs().max() > 10 * TOLERANCE["atol"], f"{name} matters too little to be compared"
        torch.testing.assert_close(ours, reference, **TOLERANCE, msg=lambda message, name=name: f"{name}: {message}")
