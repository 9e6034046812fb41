"""BMIP's forward pass, written for reading and not for speed: the reference that the fast core is tested against.

Nothing of the project is imported. The weights come from an unmodified OpenAI `clip.model.CLIP` (fp32, ViT, on a CPU),
but none of its modules is called: patches, layer norms, attention maps and MLPs are spelt out below. One image or one
class is one sequence `[tokens, width]`; texts are padded to their full 77 tokens; every head has its full
`[tokens, tokens]` attention map; in a layer that reads its attention out, attention is computed twice (once to read
it, once to run the block).

Rows of a sequence, with `slots` prompt tokens (`length`, but `2 * length` for the aggregation "joint"):

    text    SOS | slots | rest of the sentence, EOT, padding        causal attention
    vision  CLS | patches | slots                                   full attention

`variant="paper"` is the published method; `variant="released"` is what the authors' code does instead.
Only dictionary entries that act are looked up, so a missing one is a KeyError and a superfluous one is never read.
"""

from __future__ import annotations

from dataclasses import dataclass

import clip
import torch
from torch import Tensor

VARIANTS = ("paper", "released")
AGGREGATIONS = ("bmip", "addition", "attention", "joint", "none", "l2v", "v2l")


@dataclass(frozen=True)
class NaiveParameters:
    """The trained tensors by 0-based layer. Heads shared between layers are the same tensors at several keys."""

    text_prompts: dict[int, Tensor]  # [length, text width]
    vision_prompts: dict[int, Tensor]  # [length, vision width]
    text_to_vision: dict[int, tuple[Tensor, Tensor]]  # weight [vision width, text width], bias [vision width]
    vision_to_text: dict[int, tuple[Tensor, Tensor]]  # weight [text width, vision width], bias [text width]
    text_gate: dict[int, tuple[Tensor, Tensor]]  # scale [1, 1], bias [1]
    vision_gate: dict[int, tuple[Tensor, Tensor]]  # scale [1, 1], bias [1]


@dataclass(frozen=True)
class Options:
    """A setting of the method; texts begin with `context` if it is not empty."""

    depth: int
    length: int
    context: str = "a photo of a"
    variant: str = "paper"
    aggregation: str = "bmip"
    detach: bool = True
    relative: bool = False

    @property
    def slots(self) -> int:
        return self.length * (self.depth > 0) * (2 if self.aggregation == "joint" else 1)


# ---------------------------------------------------------------------------------------------------------------------
# Whole model
# ---------------------------------------------------------------------------------------------------------------------


def naive_logits(clip_model, images: Tensor, classnames: list[str], parameters: NaiveParameters, **options) -> Tensor:
    """Logit scale times cosine, `[images, classes]`, under the options of `Options`."""
    return cosine_logits(clip_model, *naive_features(clip_model, images, classnames, parameters, **options))


def naive_features(clip_model, images: Tensor, classnames: list[str], parameters: NaiveParameters, **options):
    """Un-normalised features of images `[images][embed]` and of classes `[classes][embed]`."""
    chosen = Options(**options)
    _check(clip_model, chosen)
    return (
        _image_features(clip_model, images, parameters, chosen),
        _text_features(clip_model, classnames, parameters, chosen),
    )


def cosine_logits(clip_model, images: list[Tensor], classes: list) -> Tensor:
    """Logit scale times cosine; `classes` are `[classes][embed]`, or `[images][classes][embed]`."""
    rows = classes if isinstance(classes[0], list) else [classes] * len(images)
    scale = clip_model.logit_scale.exp()
    return torch.stack(
        [torch.stack([scale * unit(image) @ unit(feature) for feature in row]) for image, row in zip(images, rows)]
    )


def unit(feature: Tensor) -> Tensor:
    return feature / feature.square().sum().sqrt()


def _text_features(clip_model, classnames: list[str], parameters: NaiveParameters, options: Options) -> list[Tensor]:
    slots, variant = options.slots, options.variant
    first, last = 1, 1 + slots  # the slots are the rows first … last - 1
    tokens = naive_tokens(classnames, slots, options.context)
    blocks = clip_model.transformer.resblocks

    sentences = [clip_model.token_embedding.weight[ids] for ids in tokens]  # each [77, width], without positions
    ends = [int(ids.argmax()) for ids in tokens]  # EOT has the largest id of the vocabulary
    visible = torch.ones(tokens.shape[1], tokens.shape[1]).tril().bool()  # [query, key]: no looking ahead

    def put_in(prompts: Tensor, sequence: Tensor) -> Tensor:
        return torch.cat([sequence[:first], prompts, sequence[last:]])

    def embed(prompts: Tensor, sentence: Tensor) -> Tensor:
        """What enters layer 0: the slots get the positional embedding of their position as every other token does."""
        return put_in(prompts, sentence) + clip_model.positional_embedding

    sequences = [sentence + clip_model.positional_embedding for sentence in sentences]  # plain CLIP, if depth is 0
    for layer, block in enumerate(blocks):
        if _replaces("text", layer, options):
            readouts = [None for _ in sequences]
            if _is_gated(layer, options):
                readouts = []
                for c, sequence in enumerate(sequences):
                    if layer == 0:
                        sequence = embed(parameters.text_prompts[0], sentences[c])
                    attention = _attention_maps(block, sequence, visible)
                    queries = [0] if variant == "released" else list(range(last, ends[c] + 1))
                    readouts.append(_readout(attention, queries, range(first, last), visible, options))
                if variant == "released":
                    readouts = _mean_over_samples(readouts)
            for c, readout in enumerate(readouts):
                prompts = _prompts("text", layer, readout, parameters, options)
                assert len(prompts) == slots
                sequences[c] = embed(prompts, sentences[c]) if layer == 0 else put_in(prompts, sequences[c])
        sequences = [_run_block(block, sequence, visible) for sequence in sequences]

    features = []
    for sequence, end in zip(sequences, ends):
        features.append(_layer_norm(clip_model.ln_final, sequence[end]) @ clip_model.text_projection)
    return features


def _image_features(clip_model, images: Tensor, parameters: NaiveParameters, options: Options) -> list[Tensor]:
    slots, variant = options.slots, options.variant
    visual = clip_model.visual
    blocks = visual.transformer.resblocks

    # Each [1 + patches, width], before ln_pre:
    pictures = [_patch_tokens(visual, image) + visual.positional_embedding for image in images]
    first = len(visual.positional_embedding)
    last = first + slots  # the slots are the rows first … last - 1, the end of the sequence
    visible = torch.ones(last, last).bool()

    def put_in(prompts: Tensor, sequence: Tensor) -> Tensor:
        return torch.cat([sequence[:first], prompts])

    def embed(prompts: Tensor, picture: Tensor) -> Tensor:
        """What enters layer 0: the prompts have no positional embedding, but go through ln_pre like the patches."""
        return _layer_norm(visual.ln_pre, put_in(prompts, picture))

    sequences = [_layer_norm(visual.ln_pre, picture) for picture in pictures]  # plain CLIP, if depth is 0
    for layer, block in enumerate(blocks):
        if _replaces("vision", layer, options):
            readouts = [None for _ in sequences]
            if _is_gated(layer, options):
                readouts = []
                for n, sequence in enumerate(sequences):
                    if layer == 0:
                        sequence = embed(parameters.vision_prompts[0], pictures[n])
                    attention = _attention_maps(block, sequence, visible)
                    queries = list(range(first))
                    readouts.append(_readout(attention, queries, range(first, last), visible, options))
                if variant == "released":
                    readouts = _mean_over_samples(readouts)
            for n, readout in enumerate(readouts):
                prompts = _prompts("vision", layer, readout, parameters, options)
                assert len(prompts) == slots
                sequences[n] = embed(prompts, pictures[n]) if layer == 0 else put_in(prompts, sequences[n])
        sequences = [_run_block(block, sequence, visible) for sequence in sequences]

    return [_layer_norm(visual.ln_post, sequence[0]) @ visual.proj for sequence in sequences]


def naive_tokens(classnames: list[str], length_of_slots: int, context: str) -> Tensor:
    """Token ids `[classes, 77]`; prompts will take the place of the `length_of_slots` tokens after SOS."""
    opening = context if context and length_of_slots <= 4 else " ".join(["X"] * length_of_slots)
    sentences = []
    for classname in classnames:
        words = [opening, classname.replace("_", " ") + "."]
        sentences.append(" ".join(word for word in words if word))
    return torch.cat([clip.tokenize(sentence) for sentence in sentences]).long()


# ---------------------------------------------------------------------------------------------------------------------
# Which prompts enter which layer
# ---------------------------------------------------------------------------------------------------------------------


def _check(clip_model, options: Options) -> None:
    assert options.variant in VARIANTS and options.aggregation in AGGREGATIONS
    assert options.variant == "paper" or options.aggregation == "bmip"
    assert (
        0 <= options.depth <= min(len(clip_model.transformer.resblocks), len(clip_model.visual.transformer.resblocks))
    )


def _replaces(tower: str, layer: int, options: Options) -> bool:
    """Whether new prompts enter this layer; elsewhere the slots keep what the previous layer left in them."""
    if options.variant == "released" and tower == "text" and layer > 0:
        return layer <= options.depth - 2  # one layer fewer than the vision tower has
    return layer < options.depth


def _is_gated(layer: int, options: Options) -> bool:
    if options.variant == "released" and layer == 0:
        return False
    return options.aggregation == "bmip"


def _prompts(tower: str, layer: int, readout: Tensor | None, parameters: NaiveParameters, options: Options) -> Tensor:
    """P' of one image or class in one tower and layer, `[slots, width]`; `readout` is a, `[slots]`, where gated."""

    def own() -> Tensor:
        return (parameters.text_prompts if tower == "text" else parameters.vision_prompts)[layer]

    def projected() -> Tensor:
        """The other tower's prompts through the head that leads to this tower: F(P_other)."""
        if tower == "text":
            prompts, (weight, bias) = parameters.vision_prompts[layer], parameters.vision_to_text[layer]
        else:
            prompts, (weight, bias) = parameters.text_prompts[layer], parameters.text_to_vision[layer]
        return torch.stack([weight @ prompt + bias for prompt in prompts])

    aggregation = options.aggregation
    if options.variant == "released" and layer == 0:
        return own() if tower == "text" else projected()
    if aggregation == "none":
        return own()
    if aggregation == "l2v":
        return own() if tower == "text" else projected()
    if aggregation == "v2l":
        return projected() if tower == "text" else own()
    if aggregation == "addition":
        return own() + projected()
    if aggregation == "joint":
        return torch.cat([projected(), own()])
    if aggregation == "attention":
        rows = []
        for own_row, projected_row in zip(own(), projected()):
            # Row k of softmax(F Pᵀ): the k-th projected prompt asks, the own prompts answer with their similarity …
            weights = _softmax(torch.stack([projected_row @ key for key in own()]))
            # … and the projected prompts are averaged with these weights.
            mixed = sum(weight * value for weight, value in zip(weights, projected()))
            rows.append(own_row + mixed)
        return torch.stack(rows)

    scale, bias = (parameters.text_gate if tower == "text" else parameters.vision_gate)[layer]
    rows = []
    for attention, own_row, projected_row in zip(readout, own(), projected()):
        weight = torch.sigmoid(scale.reshape(()) * attention + bias.reshape(()))
        rows.append(weight * own_row + (1 - weight) * projected_row)
    return torch.stack(rows)


def _readout(attention: list[Tensor], queries: list[int], slots: range, visible: Tensor, options: Options) -> Tensor:
    """Attention that each slot receives, mean over heads and `queries`, `[slots]`; `attention` is one map per head.

    `options.relative` counts a query's attention in units of what each key it sees would get if it had no preference.
    """
    received = []
    for slot in slots:
        total = 0.0
        for head in attention:
            for query in queries:
                unit = int(visible[query].sum()) if options.relative else 1
                total = total + unit * head[query, slot]
        received.append(total / (len(attention) * len(queries)))
    readout = torch.stack(received)
    return readout.detach() if options.detach else readout


def _mean_over_samples(readouts: list[Tensor]) -> list[Tensor]:
    """The same readout for all images (classes): their mean. Only the released variant mixes samples."""
    mean = sum(readouts) / len(readouts)
    return [mean for _ in readouts]


# ---------------------------------------------------------------------------------------------------------------------
# CLIP, from its weights
# ---------------------------------------------------------------------------------------------------------------------


def _patch_tokens(visual, image: Tensor) -> Tensor:
    """CLS and the patches from left to right and top to bottom, `[1 + patches, width]`, without positions."""
    size = visual.conv1.kernel_size[0]
    kernel = visual.conv1.weight.flatten(1)  # [width, 3 * size * size]
    tokens = [visual.class_embedding]
    for top in range(0, image.shape[1] - size + 1, size):
        for left in range(0, image.shape[2] - size + 1, size):
            tokens.append(kernel @ image[:, top : top + size, left : left + size].flatten())
    return torch.stack(tokens)


def _run_block(block, sequence: Tensor, visible: Tensor) -> Tensor:
    """One residual block on one sequence `[tokens, width]`."""
    attention = _attention_maps(block, sequence, visible)
    _, _, values = _queries_keys_values(block, sequence)
    heads = torch.cat([weights @ value for weights, value in zip(attention, values)], dim=1)
    sequence = sequence + _linear(block.attn.out_proj, heads)
    hidden = _linear(block.mlp.c_fc, _layer_norm(block.ln_2, sequence))
    hidden = hidden * torch.sigmoid(1.702 * hidden)  # QuickGELU
    return sequence + _linear(block.mlp.c_proj, hidden)


def _attention_maps(block, sequence: Tensor, visible: Tensor) -> list[Tensor]:
    """One map `[query, key]` per head; every row sums to 1 over the keys that its query may see."""
    queries, keys, _ = _queries_keys_values(block, sequence)
    maps = []
    for query, key in zip(queries, keys):
        scores = query @ key.T / query.shape[1] ** 0.5
        maps.append(_softmax(scores.masked_fill(~visible, float("-inf"))))
    return maps


def _queries_keys_values(block, sequence: Tensor) -> list[list[Tensor]]:
    """Queries, keys and values, each a list with one `[tokens, head width]` per head."""
    normed = _layer_norm(block.ln_1, sequence)
    weights = block.attn.in_proj_weight.chunk(3)
    biases = block.attn.in_proj_bias.chunk(3)
    head_width = sequence.shape[1] // block.attn.num_heads
    result = []
    for weight, bias in zip(weights, biases):
        projected = normed @ weight.T + bias
        result.append([projected[:, h * head_width : (h + 1) * head_width] for h in range(block.attn.num_heads)])
    return result


def _softmax(scores: Tensor) -> Tensor:
    """Over the last axis."""
    powers = torch.exp(scores - scores.max(dim=-1, keepdim=True).values.detach())
    return powers / powers.sum(dim=-1, keepdim=True)


def _layer_norm(module, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + module.eps).sqrt() * module.weight + module.bias


def _linear(module, x: Tensor) -> Tensor:
    return x @ module.weight.T + module.bias
