"""The baselines' forward passes, written for reading and not for speed: the reference that the fast core is tested by.

Nothing of the project is imported. One image or one sentence is one sequence `[tokens, width]` that runs through
OpenAI's own blocks, and texts are padded to their full 77 tokens. BMIP is in
`experiments/tools/straightforward_bmip.py`.

Prompts are dictionaries from the 0-based layer that they enter to `[b, width]`; a layer without an entry keeps what
the layer before left in the slots. Linear layers are pairs of a weight `[out, in]` and a bias `[out]`.
"""

from __future__ import annotations

from collections.abc import Callable

import clip
import torch
from torch import Tensor

Linear = tuple[Tensor, Tensor]
Adapters = dict[int, Callable[[Tensor], Tensor]]

# ---------------------------------------------------------------------------------------------------------------------
# The methods: raw features, before adapters and norms, of images `[images][embed]` and of classes `[classes][embed]`,
# or `[images][classes][embed]` where the text depends on the image
# ---------------------------------------------------------------------------------------------------------------------


def zero_shot_features(clip_model, images: Tensor, classnames: list[str], templates: list[str]):
    """The average of a class's normalised sentences; with one template this is plain CLIP."""
    classes = []
    for classname in classnames:
        features = []
        for template in templates:
            ids = _tokens(template.replace("{}", classname.replace("_", " ")))
            features.append(unit(text_feature(clip_model, _embedded(clip_model, ids), ids)))
        classes.append(sum(features) / len(features))
    return [image_feature(clip_model, image) for image in images], classes


def coop_features(
    clip_model, images: Tensor, classnames: list[str], contexts: list[Tensor], words: str = "", position: str = "end"
):
    """Context words of each class, `[b, text width]`; for a generic context they are the same tensor in every class.

    Args:
        words: initial context, whose tokens beyond the first b stay in the sentence; "" where it was random.
    """
    classes = []
    for classname, context in zip(classnames, contexts):
        ids = _context_tokens(classname, len(context), words)
        sentence = _arranged(_embedded(clip_model, ids), context, _name_length(classname), position)
        classes.append(text_feature(clip_model, sentence, ids))
    return [image_feature(clip_model, image) for image in images], classes


def decoop_parts(
    clip_model,
    images: Tensor,
    classnames: list[str],
    base: list[str],
    detectors: list[Tensor],
    classifiers: list[Tensor],
    templates: list[str],
):
    """For each image its scores by the detectors, and logits `[classes]` by each sub-classifier and by the plain CLIP.

    A detector's softmax is over its own base classes and all others that there are. It has ceil(n (K - 1) / K) own
    ones: those whose number modulo K is not its own, and, where these are fewer, the class of its number.
    """
    scale, parts = clip_model.logit_scale.exp(), []

    def features(context: Tensor, names: list[str]) -> list[Tensor]:
        return [unit(feature) for feature in coop_features(clip_model, [], names, [context] * len(names))[1]]

    others = [name for name in classnames if name not in base]
    of_detectors = []
    for i, context in enumerate(detectors):
        own = [j for j in range(len(base)) if j % len(detectors) != i]
        if len(own) * len(detectors) < len(base) * (len(detectors) - 1):
            own.append(i)
        order = [base[j] for j in own] + [base[j] for j in range(len(base)) if j not in own] + others
        of_detectors.append((len(own), features(context, order)))
    of_classifiers = [features(context, classnames) for context in classifiers]
    sentences = [zero_shot_features(clip_model, [], classnames, [template])[1] for template in templates]
    for image in images:
        feature = unit(image_feature(clip_model, image))
        scores = []
        for own, classes in of_detectors:
            exponents = [(scale * (feature * one).sum()).exp() for one in classes]
            scores.append(max(exponents[:own]) / sum(exponents))
        classified = [torch.stack([scale * (feature * one).sum() for one in classes]) for classes in of_classifiers]
        plain = [torch.stack([scale * (feature * unit(one)).sum() for one in classes]) for classes in sentences]
        parts.append((scores, classified, sum(plain) / len(plain)))
    return parts


def decoop_logits(parts, threshold: float) -> Tensor:
    """Logits `[images, classes]`: the plain CLIP's where no detector accepts, else a mean with zeros."""
    rows = []
    for scores, classified, plain in parts:
        taken = [logits for score, logits in zip(scores, classified) if score >= threshold]
        rows.append(sum(taken) / len(scores) if taken else plain)
    return torch.stack(rows)


def cocoop_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    context: Tensor,
    first: Linear,
    second: Linear,
    words: str = "",
    adapt: Callable[[Tensor, Tensor], Tensor] = lambda feature, image: feature,
):
    """A context `[b, text width]` that a network shifts, alike in all its rows.

    The network sees the image feature that is classified: adapted or mixed, and normalised.
    """
    features, classes = [], []
    for image in images:
        feature = image_feature(clip_model, image)
        shift = _apply(second, _apply(first, unit(adapt(feature, image))).clamp(min=0))
        contexts = [context + shift] * len(classnames)
        features.append(feature)
        classes.append(coop_features(clip_model, [], classnames, contexts, words)[1])
    return features, classes


def ivlp_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    text_prompts: dict[int, Tensor],
    vision_prompts: dict[int, Tensor],
    words: str = "a photo of a",
    text_heads: dict[int, tuple[Linear, Linear]] | None = None,
    vision_heads: dict[int, tuple[Linear, Linear]] | None = None,
):
    """Independent prompts in both towers; no text prompts: VPT, no vision prompts: language prompting.

    Args:
        text_heads, vision_heads: by layer; prompts P enter as P + W2 relu(W1 P + b1) + b2. None: as they are.
    """
    text_prompts, vision_prompts = _with_heads(text_prompts, text_heads), _with_heads(vision_prompts, vision_heads)
    length = len(text_prompts[0]) if text_prompts else 0
    classes = []
    for classname in classnames:
        ids = _context_tokens(classname, length, words if length <= 4 else "")
        sentence = _embedded(clip_model, ids)
        if text_prompts:
            sentence = torch.cat([sentence[:1], text_prompts[0], sentence[1 + length :]])
        classes.append(text_feature(clip_model, sentence, ids, text_prompts))
    return [image_feature(clip_model, image, vision_prompts) for image in images], classes


def maple_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    text_prompts: dict[int, Tensor],
    couplings: dict[int, Linear],
    words: str = "a photo of a",
):
    """Text prompts, and vision prompts that a linear layer of their own makes out of them in every layer."""
    vision_prompts = {}
    for layer, prompts in text_prompts.items():
        vision_prompts[layer] = torch.stack([_apply(couplings[layer], prompt) for prompt in prompts])
    return ivlp_features(clip_model, images, classnames, text_prompts, vision_prompts, words)


def proda_samples(clip_model, classnames: list[str], contexts: list[Tensor], numbers: list[int]) -> list[list[Tensor]]:
    """Normalised features of the sentences of some of the contexts, `[numbers][classes][embed]`.

    The first quarter of all sentences begins with the class name, the second has it in the middle.
    """
    quarter, samples = len(contexts) // 4, []
    for number in numbers:
        position = "front" if number < quarter else "middle" if number < 2 * quarter else "end"
        alike = [contexts[number]] * len(classnames)
        samples.append([unit(raw) for raw in coop_features(clip_model, [], classnames, alike, position=position)[1]])
    return samples


def proda_features(clip_model, images: Tensor, classnames: list[str], contexts: list[Tensor]):
    """The means of the normalised features of all sentences, which are used as they are."""
    samples = proda_samples(clip_model, classnames, contexts, list(range(len(contexts))))
    return [image_feature(clip_model, image) for image in images], [sum(rows) / len(rows) for rows in zip(*samples)]


def tcp_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    context: Tensor,
    first: Linear,
    second: Linear,
    layer: int,
    sentence: str,
    ending: str,
):
    """A context `[b, text width]`, which tokens out of the class's own feature replace in one layer."""
    classes = []
    for classname in classnames:
        name = classname.replace("_", " ")
        ids = _tokens(sentence.replace("{}", name))
        hidden = _apply(first, unit(text_feature(clip_model, _embedded(clip_model, ids), ids)))
        tokens = _apply(second, hidden * torch.sigmoid(1.702 * hidden)).reshape(context.shape)
        ids = _tokens(" ".join(["X"] * len(context)) + " " + ending.replace("{}", name))
        embedded = _embedded(clip_model, ids)
        prompted = torch.cat([embedded[:1], context, embedded[1 + len(context) :]])
        classes.append(text_feature(clip_model, prompted, ids, {layer: tokens}))
    return [image_feature(clip_model, image) for image in images], classes


def mma_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    text_adapters: dict[int, tuple[Linear, Linear, Linear]],
    vision_adapters: dict[int, tuple[Linear, Linear, Linear]],
    scale: float,
    words: str = "a photo of a",
):
    """Adapters beside blocks, by layer: down, middle and up."""

    def scaled(adapters):
        return {
            layer: lambda token, parts=parts: mma_adapter(token, *parts, scale) for layer, parts in adapters.items()
        }

    classes = []
    for classname in classnames:
        ids = _tokens(f"{words} {classname.replace('_', ' ')}.")
        classes.append(text_feature(clip_model, _embedded(clip_model, ids), ids, beside=scaled(text_adapters)))
    return [image_feature(clip_model, image, beside=scaled(vision_adapters)) for image in images], classes


def mma_adapter(token: Tensor, down: Linear, middle: Linear, up: Linear, scale: float) -> Tensor:
    """The scaled answer to one token, whose gradient to the token is scaled, but not that to the weights."""

    def answer(token: Tensor, parts) -> Tensor:
        down, middle, up = parts
        return _apply(up, _apply(middle, _apply(down, token).clamp(min=0)).clamp(min=0))

    learned, fixed = (down, middle, up), [(weight.detach(), bias.detach()) for weight, bias in (down, middle, up)]
    of_weights = answer(token.detach(), learned)
    return scale * answer(token, fixed) + (of_weights - of_weights.detach())


def mmrl_features(
    clip_model,
    images: Tensor,
    classnames: list[str],
    tokens: Tensor,
    text_maps: dict[int, Linear],
    vision_maps: dict[int, Linear],
    projection: Tensor,
    sentence: str,
    kept: float = 0.0,
):
    """Tokens of a shared space, mapped by layer, which stand after the first token from the first of these layers on.

    Args:
        projection: of the second feature of images, the mean of the normed tokens after the last layer.
        kept: share of what the layer before left in their places.

    Returns:
        Image features, which are pairs, and class features.
    """
    text, vision = (
        {layer: torch.stack([_apply(linear, token) for token in tokens]) for layer, linear in maps.items()}
        for maps in (text_maps, vision_maps)
    )
    classes = []
    for classname in classnames:
        ids = _tokens(sentence.replace("{}", classname.replace("_", " ")))
        embedded = _embedded(clip_model, ids) + clip_model.positional_embedding
        sequence = _with_tokens(clip_model.transformer.resblocks, embedded, text, kept)
        end = len(tokens) + int(ids.argmax())
        classes.append(clip_model.ln_final(sequence[end]) @ clip_model.text_projection)
    visual, features = clip_model.visual, []
    for image in images:
        patches = visual.conv1(image[None])[0].flatten(1).T
        sequence = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
        sequence = _with_tokens(visual.transformer.resblocks, visual.ln_pre(sequence), vision, kept)
        own = [visual.ln_post(token) for token in sequence[1 : 1 + len(tokens)]]
        features.append((visual.ln_post(sequence[0]) @ visual.proj, sum(own) / len(own) @ projection))
    return features, classes


def _with_tokens(blocks, sequence: Tensor, entering: dict[int, Tensor], kept: float) -> Tensor:
    """Through all blocks; from their first layer on the tokens make the sequence longer."""
    first = min(entering)
    for layer, block in enumerate(blocks):
        if layer in entering:
            new = entering[layer]
            if layer > first:
                new = (1 - kept) * new + kept * sequence[1 : 1 + len(new)]
            sequence = torch.cat([sequence[:1], new, sequence[1 + (layer > first) * len(new) :]])
        sequence = _through(block, sequence)
    return sequence


def hicropl_prompts(
    text_prompts: dict[int, Tensor],
    vision_prompts: dict[int, Tensor],
    text_proxies: list[dict[str, Tensor]],
    vision_proxies: list[dict[str, Tensor]],
    text_to_vision: dict[str, Tensor],
    vision_to_text: dict[str, Tensor],
):
    """The prompts that enter the towers: text refines vision in as many first layers as it has proxies.

    Args:
        text_proxies, vision_proxies: of the layers whose prompts refine others; `token` `[1, width]` is the query.
        text_to_vision, vision_to_text: the mappers.
    """
    cross = len(text_proxies)
    early, late = range(cross), range(cross, len(text_prompts))
    text, vision = dict(text_prompts), dict(vision_prompts)
    known = [_proxy(text_proxies[layer], text_prompts[layer]) for layer in early]
    for layer in early:
        vision[layer] = _refined(text_to_vision, vision_prompts[layer], known)
    known = [_proxy(vision_proxies[layer - cross], vision_prompts[layer]) for layer in late]
    for layer in late:
        text[layer] = _refined(vision_to_text, text_prompts[layer], known)
    return text, vision


def _proxy(net: dict[str, Tensor], prompts: Tensor) -> Tensor:
    """LN2(q + attention of LN1 q to LN1 P)."""
    seen = [_layer_norm(net, "ln_1", prompt) for prompt in prompts]
    (query,) = net["token"]
    return _layer_norm(net, "ln_2", query + _attention(net, _layer_norm(net, "ln_1", query), seen, seen))


def _refined(net: dict[str, Tensor], prompts: Tensor, proxies: list[Tensor]) -> Tensor:
    """Of each prompt: q = Wq x; q += attention of LN1 q to LN1 of the projected proxies; q += network of LN2 q."""
    keys = [_layer_norm(net, "ln_1", _apply(_linear(net, "linear_k"), proxy)) for proxy in proxies]
    values = [_layer_norm(net, "ln_1", _apply(_linear(net, "linear_v"), proxy)) for proxy in proxies]
    refined = []
    for prompt in prompts:
        query = _apply(_linear(net, "linear_q"), prompt)
        query = query + _attention(net, _layer_norm(net, "ln_1", query), keys, values)
        hidden = _apply(_linear(net, "ffn.c_fc"), _layer_norm(net, "ln_2", query))
        refined.append(query + _apply(_linear(net, "ffn.c_proj"), hidden * torch.sigmoid(1.702 * hidden)))
    return torch.stack(refined)


def _attention(net: dict[str, Tensor], query: Tensor, keys: list[Tensor], values: list[Tensor], name: str = "attn"):
    """Of one query, `[width]`; each of eight heads has its own rows of the three projections."""
    width, heads = len(query), 8
    wide = width // heads
    weights, biases = net[f"{name}.in_proj_weight"].split(width), net[f"{name}.in_proj_bias"].split(width)
    found = []
    for head in range(heads):
        rows = slice(head * wide, (head + 1) * wide)
        q, k, v = ((weight[rows], bias[rows]) for weight, bias in zip(weights, biases))
        scores = torch.stack([_apply(q, query) @ _apply(k, key) / wide**0.5 for key in keys])
        shares = scores.exp() / scores.exp().sum()
        found.append(sum(share * _apply(v, value) for share, value in zip(shares, values)))
    return _apply(_linear(net, f"{name}.out_proj"), torch.cat(found))


def _linear(net: dict[str, Tensor], name: str) -> Linear:
    return net[f"{name}.weight"], net[f"{name}.bias"]


def _layer_norm(net: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    scaled = (x - x.mean()) / ((x - x.mean()).square().mean() + 1e-5).sqrt()
    return net[f"{name}.weight"] * scaled + net[f"{name}.bias"]


def unified_prompts(
    unified: dict[int, Tensor],
    layers: dict[int, dict[str, Tensor]],
    text_width: int,
    text_prompts: dict[int, Tensor],
    vision_prompts: dict[int, Tensor],
):
    """UPT's prompts: the left part of unified ones after their transformer layer is for text, the right for vision.

    Args:
        layers: parameters of PyTorch's transformer layers, with the norms after the residual sums.
        text_prompts, vision_prompts: of layers that have their own.
    """
    text, vision = dict(text_prompts), dict(vision_prompts)
    for layer, prompts in unified.items():
        net, rows = layers[layer], list(prompts)
        rows = [
            _layer_norm(net, "norm1", row + _attention(net, row, list(prompts), list(prompts), "self_attn"))
            for row in rows
        ]
        hidden = [_apply(_linear(net, "linear1"), row).clamp(min=0) for row in rows]
        made = torch.stack(
            [_layer_norm(net, "norm2", r + _apply(_linear(net, "linear2"), h)) for r, h in zip(rows, hidden)]
        )
        text[layer], vision[layer] = made[:, :text_width], made[:, text_width:]
    return text, vision


def context_words(clip_model, words: str, length: int) -> Tensor:
    """Embeddings of the tokens in the slots before training: words, or a placeholder for each of more than four."""
    ids = _context_tokens("name", length, words if length <= 4 else "")
    return _embedded(clip_model, ids)[1 : 1 + length]


def bitp_prompts(
    connect: str,
    text_prompts: dict[int, Tensor],
    vision_prompts: dict[int, Tensor],
    text_to_vision: dict[str, Linear],
    vision_to_text: dict[str, Linear],
    text_exchange: dict[str, Linear],
    vision_exchange: dict[str, Linear],
    words: Tensor,
    layers: int,
):
    """BITP's prompts of each layer of both towers; heads and maps are by layer, or "deep" for all from 1 on.

    Args:
        words: what is in the text slots of layer 0 that have no prompts.
        layers: of the towers.
    """

    def through(heads: dict[str, Linear], layer: int, rows) -> Tensor:
        return torch.stack([_apply(heads.get(str(layer)) or heads["deep"], row) for row in rows])

    depth = len(text_prompts)
    text = {0: torch.cat([text_prompts[0], words])}
    projected = through(text_to_vision, 0, text_prompts[0])
    vision = {0: projected}
    if connect == "add":
        vision[0] = projected + vision_prompts[0]
        for layer in range(1, depth):
            text[layer], vision[layer] = text_prompts[layer], vision_prompts[layer]
        for layer in range(1, depth):
            if depth - 1 + layer < layers:
                text[depth - 1 + layer] = through(vision_to_text, layer, vision_prompts[layer])
                vision[depth - 1 + layer] = through(text_to_vision, layer, text_prompts[layer])
        return text, vision
    if connect == "joint":
        vision[0] = torch.cat([projected, vision_prompts[0]])
    if connect == "atten":
        vision[0] = _attended(projected, vision_prompts[0]) + vision_prompts[0]
    for layer in range(1, depth):
        own = text_prompts[layer], vision_prompts[layer]
        if layer < depth - 1:
            text[layer] = _connected(connect, own[0], through(vision_to_text, layer, own[1]), 0)
        vision[layer] = _connected(connect, own[1], through(text_to_vision, layer, own[0]), 1)
        if connect == "exchange":
            vision[layer] = through(vision_exchange, layer, vision[layer])
            if layer < depth - 1:
                text[layer] = through(text_exchange, layer, text[layer])
    return text, vision


def _connected(connect: str, own: Tensor, projected: Tensor, tower: int) -> Tensor:
    """Of the text (0) or the vision tower (1); for "exchange", two prompts in each row."""
    if connect == "atten":
        return _attended(projected, own) + own
    rows = [*projected, *own] if tower == 0 else [*own, *projected]
    if connect == "joint":
        return torch.stack(rows)
    return torch.stack([torch.cat([first, second]) for first, second in zip(rows[::2], rows[1::2])])


def _attended(values: Tensor, queries: Tensor) -> Tensor:
    """softmax over the columns of (values queries^T), times values, row by row."""
    rows = []
    for value in values:
        scores = torch.stack([value @ query for query in queries])
        shares = scores.exp() / scores.exp().sum()
        rows.append(sum(share * one for share, one in zip(shares, values)))
    return torch.stack(rows)


def cosine_logits(clip_model, images: list[Tensor], classes: list, means: bool = False) -> Tensor:
    """Logit scale times cosine; `classes` are `[classes][embed]`, or `[images][classes][embed]`.

    Args:
        means: the classes are means of normalised features, used as they are.
    """
    rows = classes if isinstance(classes[0], list) else [classes] * len(images)
    scale = clip_model.logit_scale.exp()
    return torch.stack(
        [
            torch.stack([scale * unit(image) @ (feature if means else unit(feature)) for feature in row])
            for image, row in zip(images, rows)
        ]
    )


def unit(feature: Tensor) -> Tensor:
    return feature / feature.square().sum().sqrt()


# ---------------------------------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------------------------------


def _tokens(sentence: str) -> Tensor:
    return clip.tokenize(sentence)[0].long()


def _embedded(clip_model, ids: Tensor) -> Tensor:
    """`[77, width]`, without positions."""
    return clip_model.token_embedding.weight[ids]


def _context_tokens(classname: str, length: int, words: str) -> Tensor:
    """In CoOp all words of the context are prompts; without words a placeholder stands for each."""
    opening = words if words else " ".join(["X"] * length)
    return _tokens(f"{opening} {classname.replace('_', ' ')}.")


def _name_length(classname: str) -> int:
    """Tokens of a class name: those of the name alone, without SOS and EOT."""
    return int(_tokens(classname.replace("_", " ")).argmax()) - 1


def _arranged(sentence: Tensor, context: Tensor, name: int, position: str) -> Tensor:
    """The sentence SOS | context words | class name | rest with the learned context, the name where it belongs."""
    length = len(context)
    start = sentence[:1]
    classname = sentence[1 + length : 1 + length + name]
    rest = sentence[1 + length + name :]
    if position == "end":
        return torch.cat([start, context, classname, rest])
    if position == "middle":
        half = length // 2
        return torch.cat([start, context[:half], classname, context[half:], rest])
    if position == "front":
        return torch.cat([start, classname, context, rest])
    raise ValueError(position)


# ---------------------------------------------------------------------------------------------------------------------
# Towers
# ---------------------------------------------------------------------------------------------------------------------


def text_feature(
    clip_model,
    sentence: Tensor,
    ids: Tensor,
    deep_prompts: dict[int, Tensor] | None = None,
    beside: Adapters | None = None,
) -> Tensor:
    """Feature of one sentence `[77, width]` at the EOT of `ids`, `[embed]`; prompts of layer 0 are in it already."""
    positions = clip_model.positional_embedding
    sequence = sentence[: len(positions)] + positions
    for layer, block in enumerate(clip_model.transformer.resblocks):
        if layer > 0 and deep_prompts and layer in deep_prompts:
            prompts = deep_prompts[layer]
            sequence = torch.cat([sequence[:1], prompts, sequence[1 + len(prompts) :]])
        sequence = _through(block, sequence, (beside or {}).get(layer))
    end = int(ids.argmax())  # EOT has the largest id of the vocabulary
    return clip_model.ln_final(sequence[end]) @ clip_model.text_projection


def image_feature(
    clip_model, image: Tensor, prompts: dict[int, Tensor] | None = None, beside: Adapters | None = None
) -> Tensor:
    """Feature of one image, `[embed]`. Prompts stand after the patches; those of layer 0 go through ln_pre."""
    visual = clip_model.visual
    sequence = torch.cat([visual.class_embedding[None], visual.conv1(image[None])[0].flatten(1).T])
    sequence = sequence + visual.positional_embedding
    patches = len(sequence)
    if prompts:
        sequence = torch.cat([sequence, prompts[0]])
    sequence = visual.ln_pre(sequence)
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer > 0 and prompts and layer in prompts:
            sequence = torch.cat([sequence[:patches], prompts[layer]])
        sequence = _through(block, sequence, (beside or {}).get(layer))
    return visual.ln_post(sequence[0]) @ visual.proj


def _through(block, sequence: Tensor, adapter: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """A block of OpenAI's, which wants `[tokens, batch, width]`, and masks the text by itself.

    An adapter's answer to each token, as the block's first norm leaves it, is added to the block's output.
    """
    mask = block.attn_mask
    if mask is not None:
        length = len(sequence)
        block.attn_mask = torch.full((length, length), float("-inf")).triu(1)
    after = block(sequence[:, None])[:, 0]
    block.attn_mask = mask
    if adapter is None:
        return after
    return torch.stack([row + adapter(token) for row, token in zip(after, block.ln_1(sequence))])


# ---------------------------------------------------------------------------------------------------------------------
# Small parts
# ---------------------------------------------------------------------------------------------------------------------


def _apply(linear: Linear, x: Tensor) -> Tensor:
    weight, bias = linear
    return weight @ x + bias


def _with_heads(prompts: dict[int, Tensor], heads: dict[int, tuple[Linear, Linear]] | None) -> dict[int, Tensor]:
    if heads is None:
        return prompts
    through = {}
    for layer, rows in prompts.items():
        first, second = heads[layer]
        through[layer] = torch.stack([row + _apply(second, _apply(first, row).clamp(min=0)) for row in rows])
    return through
