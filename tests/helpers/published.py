"""Checkpoints as the methods' authors publish them, and the logits of their tensors.

They are made by hand: names, types, folder and pickled scheduler are those of the authors' code.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from naive_methods import (
    cocoop_features,
    coop_features,
    cosine_logits,
    ivlp_features,
    maple_features,
    mma_features,
    mmrl_features,
    tcp_features,
)
from torch import Tensor

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, text_width, vision_width
from trainers.prompting.learners.bmip import BMIPLearner
from trainers.prompting.methods import METHODS

WORDS = "a photo of a"
CLASSES = {"base": ["zero", "one", "two", "three", "four"], "new": ["five", "six", "seven", "eight", "nine"]}
State = dict[str, Tensor]

# ------------------------------------------------------------------------------------------------ published files


def random(*shape: int, half: bool = True, seed: int = 0) -> Tensor:
    """Values that half precision holds exactly."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 100 * len(shape) + shape[-1])) * 0.3
    return values.half() if half else values.half().float()


def class_tokens(width: int, length: int, prefix: str = "") -> State:
    """The tokens of the class names that it was trained on, which are not those of the test."""
    return {
        f"{prefix}token_prefix": torch.randn(7, 1, width).half(),
        f"{prefix}token_suffix": torch.randn(7, 76 - length, width).half(),
    }


def whole_clip(clip_model, half: bool = True) -> State:
    """The frozen CLIP, which the authors save with the prompts: image_encoder.*, text_encoder.*, logit_scale."""
    stored = copy.deepcopy(clip_model)
    if half:
        cast_matmul_weights(stored, PRECISIONS["fp16"].matmul)
    state = {}
    for name, value in stored.state_dict().items():
        if name.startswith("visual."):
            state["image_encoder." + name.removeprefix("visual.")] = value
        elif name == "logit_scale":
            state[name] = value
        elif not name.startswith("token_embedding"):
            state["text_encoder." + name] = value
    return state


def coop(clip_model, length: int = 4, classes: int = 0) -> State:
    width = text_width(clip_model)
    shape = (classes, length, width) if classes else (length, width)
    return {"ctx": random(*shape), **class_tokens(width, length)}


def cocoop(clip_model, length: int = 4) -> State:
    width, embed = text_width(clip_model), clip_model.text_projection.shape[1]
    hidden = embed // 16
    return {
        "ctx": random(length, width),
        "meta_net.linear1.weight": random(hidden, embed),
        "meta_net.linear1.bias": random(hidden).abs(),
        "meta_net.linear2.weight": random(width, hidden),
        "meta_net.linear2.bias": random(width),
        **class_tokens(width, length),
    }


def deep(tower: str, first: str, width: int, length: int, depth: int) -> State:
    names = [first] + [f"{tower}.transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, depth)]
    return {name: random(length, width, half=False, seed=layer) for layer, name in enumerate(names[:depth])}


def vpt(clip_model, length: int = 8, depth: int = 4) -> State:
    prompts = deep("image_encoder", "image_encoder.VPT", vision_width(clip_model), length, depth)
    return {**whole_clip(clip_model, half=False), **prompts}


def language(clip_model, length: int = 4, depth: int = 4) -> State:
    width = text_width(clip_model)
    prompts = deep("text_encoder", "prompt_learner.ctx", width, length, depth)
    prompts["prompt_learner.ctx"] = prompts["prompt_learner.ctx"].half()
    return {**whole_clip(clip_model), **prompts, **class_tokens(width, length, "prompt_learner.")}


def ivlp(clip_model, length: int = 2, depth: int = 4, vision_length: int = 2, vision_depth: int = 4) -> State:
    vision = deep("image_encoder", "image_encoder.VPT", vision_width(clip_model), vision_length, vision_depth)
    return {**language(clip_model, length, depth), **vision}


def maple(clip_model, length: int = 2, depth: int = 3) -> State:
    width, vision = text_width(clip_model), vision_width(clip_model)
    state = {
        **whole_clip(clip_model),
        "prompt_learner.ctx": random(length, width),
        "prompt_learner.proj.weight": random(vision, width),
        "prompt_learner.proj.bias": random(vision),
        **class_tokens(width, length, "prompt_learner."),
    }
    for index in range(depth - 1):
        name = f"prompt_learner.compound_prompt_projections.{index}"
        state[f"prompt_learner.compound_prompts_text.{index}"] = random(length, width, half=False, seed=index + 1)
        state[f"{name}.weight"] = random(vision, width, half=False, seed=index + 1)
        state[f"{name}.bias"] = random(vision, half=False, seed=index + 1)
    return state


def tcp(clip_model, length: int = 4) -> State:
    width, embed = text_width(clip_model), clip_model.text_projection.shape[1]
    shapes = {"linear1": (embed // 4, embed), "linear2": (length * width, embed // 4)}
    net = {f"meta_net.{name}.weight": random(*shape) for name, shape in shapes.items()}
    net |= {f"meta_net.{name}.bias": random(shape[0]) for name, shape in shapes.items()}
    return {**coop(clip_model, length), **net}


def mma(clip_model, layers: tuple[int, ...] = (2, 3, 4), hidden: int = 32) -> State:
    """Layers count from 1."""
    widths = {"text": text_width(clip_model), "visual": vision_width(clip_model)}
    state = {"token_embedding": torch.randn(7, 77, widths["text"]), "tokenized_prompts": torch.zeros(7, 77).int()}
    for layer in layers:
        shapes = {f"shared_adapter.{layer}.0": (hidden, hidden)}
        for tower, width in widths.items():
            shapes[f"{tower}_adapter.{layer}.down.0"] = (hidden, width)
            shapes[f"{tower}_adapter.{layer}.up"] = (width, hidden)
        for name, shape in shapes.items():
            state[f"{name}.weight"] = random(*shape, half=False, seed=layer)
            state[f"{name}.bias"] = random(shape[0], half=False, seed=layer)
    return state


def mmrl(clip_model, layers: int = 2, length: int = 5, width: int = 128) -> State:
    """Of the last layers."""
    name, embed = "representation_learner.compound_rep_tokens", clip_model.text_projection.shape[1]
    state = {**whole_clip(clip_model, half=False), "prompt_embeddings": torch.randn(7, 77, text_width(clip_model))}
    state[name] = random(length, width, half=False)
    state["image_encoder.proj_rep"] = random(vision_width(clip_model), embed, half=False)
    for tower, wide in {"v": vision_width(clip_model), "t": text_width(clip_model)}.items():
        for layer in range(layers):
            state[f"{name}_r2{tower}proj.{layer}.weight"] = random(wide, width, half=False, seed=layer)
            state[f"{name}_r2{tower}proj.{layer}.bias"] = random(wide, half=False, seed=layer)
    return state


def mmrlpp(clip_model, layers: int = 2, length: int = 5, width: int = 128, ranks: tuple[int, int] = (4, 16)) -> State:
    embed, vision = clip_model.text_projection.shape[1], vision_width(clip_model)
    state = {key: value for key, value in mmrl(clip_model, 0, length, width).items() if "proj_rep" not in key}
    state["image_encoder.A"] = random(vision, ranks[1], half=False)
    state["image_encoder.B"] = random(ranks[1], embed, half=False)
    for tower, wide in {"v": vision, "t": text_width(clip_model)}.items():
        maps = f"representation_learner.srra_r2{tower}proj"
        state[f"{maps}.weight"] = random(wide, width, half=False, seed=9)
        for layer in range(layers):
            state[f"{maps}.srra.{layer}.A"] = random(wide, ranks[0], half=False, seed=layer)
            state[f"{maps}.srra.{layer}.B"] = random(ranks[0], width, half=False, seed=layer)
            state[f"{maps}.srra.{layer}.bias"] = random(wide, half=False, seed=layer)
    return state


def released_layout(learner: BMIPLearner, clip_model) -> dict[str, torch.Tensor]:
    """What the authors' trainer saves for these tensors, with those that take no part, in their types."""
    depth, share = learner.config.depth, learner.config.share_text
    width, vision_width = 64, 128
    state = {
        "prompt_learner.ctx_t": learner.text_prompts["0"].half(),
        "prompt_learner.ctx_v": torch.randn(77, vision_width),
        "prompt_learner.token_prefix": torch.randn(5, 1, width),
        "prompt_learner.token_suffix": torch.randn(5, 74, width),
        "logit_scale": clip_model.logit_scale,
    }
    linear = {"proj_t": learner.text_to_vision["0"], "proj_v": torch.nn.Linear(vision_width, width)}
    linear |= {"exchange_layer_t": torch.nn.Linear(2 * width, width)}
    for layer in range(1, depth):
        state[f"prompt_learner.compound_prompts_text.{layer - 1}"] = learner.text_prompts[str(layer)]
        state[f"prompt_learner.compound_prompts_visual.{layer - 1}"] = learner.vision_prompts[str(layer)]
        if share:
            linear["single_layer_t"] = learner.text_to_vision["deep"]
            linear["single_layer_v"] = learner.vision_to_text["deep"]
        else:
            unused = torch.nn.Linear(vision_width, width)
            heads = dict(learner.vision_to_text.items())
            linear[f"compound_prompt_projections_t.{layer - 1}"] = learner.text_to_vision[str(layer)]
            linear[f"compound_prompt_projections_v.{layer - 1}"] = heads.get(str(layer), unused)
    for name, module in linear.items():
        state |= {f"prompt_learner.{name}.{key}": value for key, value in module.state_dict().items()}
    for tower, acting, name in (
        ("image_encoder", learner.vision_gate, "learnable_linear1"),
        ("text_encoder", learner.text_gate, "learnable_linear2"),
    ):
        for layer in range(3):
            for linear_name in ("learnable_linear1", "learnable_linear2"):
                gate = acting[str(layer)] if linear_name == name and str(layer) in acting else torch.nn.Linear(1, 1)
                prefix = f"{tower}.transformer.resblocks.{layer}.{linear_name}"
                state |= {f"{prefix}.{key}": value for key, value in gate.state_dict().items()}
    return {key: value.detach().clone() for key, value in state.items()}


def write_run(folder: Path, trainer: str, state: State, epoch: int = 5) -> Path:
    """A run folder as the authors' trainer leaves it; gives the file."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5)
    file = folder / METHODS[trainer].folder / f"model.pth.tar-{epoch}"
    file.parent.mkdir(parents=True)
    checkpoint = {
        "state_dict": state,
        "epoch": epoch,
        "optimizer": optimiser.state_dict(),
        "scheduler": {"successor": schedule, "warmup_epoch": 1, "last_epoch": 1},
        "val_result": None,
    }
    torch.save(checkpoint, file)
    (file.parent / "checkpoint").write_text(f"{file.name}\n")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    return file


# ------------------------------------------------------------------------------------------------ what they compute


def floats(state: State) -> State:
    return {key: value.float() for key, value in state.items()}


def layers(state: State, tower: str, first: str) -> dict[int, Tensor]:
    found = {0: state[first]} if first in state else {}
    for key, value in state.items():
        if key.startswith(tower) and key.endswith("VPT_shallow"):
            found[int(key.split(".")[3])] = value
    return found


def expected_coop(clip_model, images, names, state, position="end"):
    context = state["ctx"]
    contexts = list(context) if context.dim() == 3 else [context] * len(names)
    return cosine_logits(clip_model, *coop_features(clip_model, images, names, contexts, "", position))


def expected_cocoop(clip_model, images, names, state):
    first, second = ((state[f"meta_net.linear{n}.weight"], state[f"meta_net.linear{n}.bias"]) for n in (1, 2))
    return cosine_logits(clip_model, *cocoop_features(clip_model, images, names, state["ctx"], first, second, WORDS))


def expected_ivlp(clip_model, images, names, state):
    text = layers(state, "text_encoder", "prompt_learner.ctx")
    vision = layers(state, "image_encoder", "image_encoder.VPT")
    return cosine_logits(clip_model, *ivlp_features(clip_model, images, names, text, vision, WORDS))


def expected_maple(clip_model, images, names, state):
    prompts, couplings = {}, {}
    for layer in range(3):
        text, head = f"compound_prompts_text.{layer - 1}", f"compound_prompt_projections.{layer - 1}"
        prompts[layer] = state["prompt_learner." + (text if layer else "ctx")]
        head = "prompt_learner." + (head if layer else "proj")
        couplings[layer] = state[f"{head}.weight"], state[f"{head}.bias"]
    return cosine_logits(clip_model, *maple_features(clip_model, images, names, prompts, couplings, WORDS))


def expected_tcp(clip_model, images, names, state):
    layers = ((state[f"meta_net.linear{n}.weight"], state[f"meta_net.linear{n}.bias"]) for n in (1, 2))
    given = clip_model, images, names, state["ctx"], *layers
    return cosine_logits(clip_model, *tcp_features(*given, 2, "a photo of a {}.", "{}."))


def expected_mma(clip_model, images, names, state):
    def adapters(tower: str):
        parts = (f"{tower}_adapter.{{}}.down.0", "shared_adapter.{}.0", f"{tower}_adapter.{{}}.up")
        named = {layer: [part.format(layer) for part in parts] for layer in (2, 3, 4)}
        return {
            layer - 1: tuple((state[f"{name}.weight"], state[f"{name}.bias"]) for name in names)
            for layer, names in named.items()
        }

    given = clip_model, images, names, adapters("text"), adapters("visual")
    return cosine_logits(clip_model, *mma_features(*given, 0.001, WORDS))


def expected_mmrl(clip_model, images, names, state):
    """Of new classes, hence of the first feature of an image alone."""

    def maps(tower: str):
        name = f"representation_learner.compound_rep_tokens_r2{tower}proj"
        return {layer: (state[f"{name}.{layer - 2}.weight"], state[f"{name}.{layer - 2}.bias"]) for layer in (2, 3)}

    return _by_first(clip_model, images, names, state, maps("t"), maps("v"), state["image_encoder.proj_rep"])


def expected_mmrlpp(clip_model, images, names, state):
    def maps(tower: str):
        found, name = {}, f"representation_learner.srra_r2{tower}proj"
        for layer in (2, 3):
            down, up, bias = (state[f"{name}.srra.{layer - 2}.{part}"] for part in ("A", "B", "bias"))
            found[layer] = state[f"{name}.weight"] + down @ up, bias
        return found

    projection = clip_model.visual.proj + state["image_encoder.A"] @ state["image_encoder.B"]
    return _by_first(clip_model, images, names, state, maps("t"), maps("v"), projection, 0.1)


def _by_first(clip_model, images, names, state, *parts):
    parts, kept = parts[:3], parts[3:]
    tokens = state["representation_learner.compound_rep_tokens"]
    features, classes = mmrl_features(clip_model, images, names, tokens, *parts, "a photo of a {}.", *kept)
    return cosine_logits(clip_model, [first for first, _ in features], classes)


LANGUAGE_ONLY = ["--config-file", "configs/trainers/IVLP/tiny_language_only.yaml"]
RANDOM = ["TRAINER.COOP.CTX_INIT", "", "TRAINER.COOP.N_CTX", "4"]
# Trainer, flags, options, published state, its logits, tensors of prompts and networks, of class names.
PUBLISHED = {
    "CoOp": ("CoOp", [], RANDOM, coop, expected_coop, 1, 2),
    "CoOp class-specific": (
        *("CoOp", [], [*RANDOM, "TRAINER.COOP.CSC", "True"]),
        *(lambda clip_model: coop(clip_model, classes=5), expected_coop, 1, 2),
    ),
    "CoOp front": (
        *("CoOp", [], [*RANDOM, "TRAINER.COOP.CLASS_TOKEN_POSITION", "front"]),
        *(coop, lambda *a: expected_coop(*a, position="front"), 1, 2),
    ),
    "CoCoOp": ("CoCoOp", [], [], cocoop, expected_cocoop, 5, 2),
    "VPT": ("VPT", [], [], vpt, expected_ivlp, 4, 0),
    "IVLP": ("IVLP", [], [], ivlp, expected_ivlp, 8, 2),
    "language only": ("IVLP", LANGUAGE_ONLY, [], language, expected_ivlp, 4, 2),
    "MaPLe": ("MaPLe", [], [], maple, expected_maple, 9, 2),
    "TCP": ("TCP", [], [], tcp, expected_tcp, 5, 2),
    "MMA": ("MMA", [], [], mma, expected_mma, 30, 2),
    "MMRL": ("MMRL", [], [], mmrl, expected_mmrl, 10, 1),
    "MMRLpp": ("MMRLpp", [], [], mmrlpp, expected_mmrlpp, 17, 1),
}
