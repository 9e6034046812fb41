"""Run the residual blocks of a frozen CLIP tower with prompt tokens entering any layer.

One driver for both towers calls the modules of OpenAI's blocks (`ln_1`, `attn`, `ln_2`, `mlp`) from outside. A
sequence is a list of segments,

    text      SOS | prompt slots | words that all sentences share | the rest up to EOT
    vision    prompt slots | CLS and patches

each `[1, tokens, width]` while it is the same for the whole batch, else `[batch, tokens, width]`. For a conditional
learner, whose prompts depend on the image, the batch is image by image, and the prompts have one row per image.
Nothing is approximated; repeated and unused work is skipped:

* a segment that is the same for all classes is computed once; it becomes one per class in the first layer in which it
  sees a difference between classes, by the sum of residual stream and attention;
* query, key and value of a token depend on that token alone, so the tokens that stay use them for both the attention
  readout and the block;
* new prompts replace a block's output in the slots, so that output is computed only if a learner reads it, and with
  gradient only if the learner reads with gradient;
* in the last layer only the token whose feature is read needs more than key and value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attend, to_one_batch, visible_from
from .interaction import attention_readout
from .learner import Readout, TowerPrompts
from .openai_clip import QuickGELU

# Readouts of the previous layer's output in the slots, by layer and `relative`.
Readouts = dict[tuple[int, bool], Tensor]


@dataclass(frozen=True)
class TowerInput:
    """Input of a tower beside its prompts.

    Attributes:
        segments: without the prompts, in order; the last one holds the token to read.
        slot: index in `segments` at which the prompts are inserted.
        enter: applied to prompts `[..., b, width]` of layer 0: positional embedding (text) or ln_pre (vision).
        causal: a token sees only itself and earlier tokens (text).
        read: `[batch]`, position in the last segment of the token whose feature is read.
        counted: `[batch, tokens after the slots]` bool, True for tokens that a readout averages; None counts all.
        samples: `[batch]`, labels of the batch's classes; None for all classes, in order.
        total: number of all classes or images.
        readouts: filled with readouts while gradients are off; a second run of the same input, to recompute
            activations, reuses them.
    """

    segments: Sequence[Tensor]
    slot: int
    enter: Callable[[Tensor], Tensor]
    causal: bool
    read: Tensor
    total: int
    counted: Tensor | None = None
    samples: Tensor | None = None
    readouts: Readouts = field(default_factory=dict)


class Heads(NamedTuple):
    """Query, key and value of a segment, each `[rows, heads, tokens, head_width]`."""

    query: Tensor | None
    key: Tensor
    value: Tensor


def run_tower(blocks: Sequence[nn.Module], source: TowerInput, prompts: TowerPrompts | None) -> Tensor:
    """Run all residual blocks; returns the token to read, `[batch, width]`."""
    segments, slot, read = list(source.segments), source.slot, source.read
    depth = 0 if prompts is None else prompts.depth
    left: Callable[[], Tensor] | None = None
    for number, block in enumerate(blocks):
        if number == depth:
            # From here on the slots are ordinary tokens.
            if left is not None:
                segments.insert(slot, left())
            slot = 0
        length = segments[-1].shape[1]
        segments = _merged(segments[:slot]) + _merged(segments[slot:])
        read = read + segments[-1].shape[1] - length
        last = number == len(blocks) - 1
        layer = _Layer(block, segments, source.causal, with_queries=number < depth or not last)
        if number < depth:
            layer.insert(slot, _new_tokens(layer, number, slot, prompts, left, source))
            left = functools.partial(layer.output, slot)
        if last:
            break
        segments = [layer.output(index) for index in range(len(layer.tokens)) if number >= depth or index != slot]
    return layer.output_at(read)


def activation_bytes(blocks: Sequence[nn.Module], stream: torch.dtype) -> int:
    """Bytes that a token of a training step holds for the gradient, summed over all blocks.

    Per block ten times the width: the inputs of both LayerNorms (2) in the type of the residual stream; query, key,
    value, the attention's output and the hidden layer of the MLP (4 + 4) in that of the matrices.
    """
    weights = (block.attn.in_proj_weight for block in blocks)
    stream_bytes = torch.finfo(stream).bits // 8
    return sum((2 * stream_bytes + 8 * weight.element_size()) * weight.shape[1] for weight in weights)


def _new_tokens(
    layer: _Layer,
    number: int,
    slot: int,
    prompts: TowerPrompts,
    left: Callable[[], Tensor] | None,
    source: TowerInput,
) -> Tensor:
    """The learner's tokens for the slots of a layer, `[1 or batch, b, width]`.

    Args:
        left: computes the previous layer's output in the slots; None in layer 0.
    """

    def placed(tokens: Tensor) -> Tensor:
        tokens = tokens.to(layer.tokens[-1].dtype)
        tokens = source.enter(tokens) if number == 0 else tokens
        return tokens if tokens.dim() == 3 else tokens[None]

    def measure(tokens: Tensor | None, relative: bool) -> Tensor:
        if tokens is not None or torch.is_grad_enabled():
            return layer.readout(slot, left() if tokens is None else placed(tokens), source.counted, relative)
        if (number, relative) not in source.readouts:
            source.readouts[number, relative] = layer.readout(slot, left(), source.counted, relative)
        return source.readouts[number, relative]

    new = prompts.at(number, Readout(measure, source.samples, source.total))
    tokens = left() if new is None else placed(new)
    if tokens.shape[1] != prompts.length:
        raise ValueError(f"The learner gave {tokens.shape[1]} prompts for {prompts.length} slots in layer {number}")
    return tokens


class _Layer:
    """One residual block over segments; outputs are computed on demand.

    Without queries only `output_at` works.
    """

    def __init__(self, block: nn.Module, segments: Sequence[Tensor], causal: bool, with_queries: bool):
        self.block, self.causal = block, causal
        self.tokens = list(segments)
        self.heads = [_heads(block, segment, with_queries) for segment in segments]
        self.seen: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def insert(self, index: int, tokens: Tensor) -> None:
        """Add a segment."""
        self.tokens.insert(index, tokens)
        self.heads.insert(index, _heads(self.block, tokens, with_query=True))

    def readout(self, slot: int, tokens: Tensor, counted: Tensor | None, relative: bool) -> Tensor:
        """`interaction.attention_readout` as if `tokens` stood at index `slot`."""
        key = _split_heads(self.block, tokens, slice(1, 2))[0]
        before, after = self.heads[:slot], self.heads[slot:]
        start = sum(heads.key.shape[2] for heads in before)
        return attention_readout(
            _joined(heads.query for heads in after),
            _joined([*(heads.key for heads in before), key, *(heads.key for heads in after)]),
            slice(start, start + key.shape[2]),
            counted,
            causal=self.causal,
            relative=relative,
        )

    def output(self, index: int) -> Tensor:
        """A segment after the block; `[batch, tokens, width]` if any segment that it sees has a row per sample."""
        tokens, query = self.tokens[index], self.heads[index].query
        key, value = self._seen_by(index)
        visible = visible_from(query.shape[2], key.shape[2], key.device) if self.causal else None
        return _finish(self.block, tokens, attend(query, key, value, visible))

    def output_at(self, read: Tensor) -> Tensor:
        """One token per sample of the last segment, `[batch, width]`, at positions `read` `[batch]`."""
        key, value = self._seen_by(len(self.tokens) - 1)
        visible = None
        if self.causal:
            end = key.shape[2] - self.tokens[-1].shape[1] + read
            visible = torch.arange(key.shape[2], device=key.device) <= end[:, None, None, None]
        tokens = self.tokens[-1][torch.arange(len(read), device=read.device), read, None]
        query = _split_heads(self.block, tokens, slice(0, 1))[0]
        return _finish(self.block, tokens, attend(query, key, value, visible))[:, 0]

    def _seen_by(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values that a segment sees."""
        last = index + 1 if self.causal else len(self.heads)
        # Keys joined without gradient must not serve a pass with gradient.
        key = last, torch.is_grad_enabled()
        if key not in self.seen:
            heads = self.heads[:last]
            self.seen[key] = _joined(head.key for head in heads), _joined(head.value for head in heads)
        return self.seen[key]


def _heads(block: nn.Module, tokens: Tensor, with_query: bool) -> Heads:
    if with_query:
        return Heads(*_split_heads(block, tokens, slice(0, 3)))
    return Heads(None, *_split_heads(block, tokens, slice(1, 3)))


def _split_heads(block: nn.Module, tokens: Tensor, parts: slice) -> Tensor:
    """The `parts` of (query, key, value), `[parts, batch, heads, tokens, head_width]`."""
    attention, width = block.attn, tokens.shape[-1]
    rows = slice(parts.start * width, parts.stop * width)
    weight, bias = attention.in_proj_weight[rows], attention.in_proj_bias[rows]
    projected = F.linear(block.ln_1(tokens).to(weight.dtype), weight, bias)
    return projected.unflatten(-1, (-1, attention.num_heads, width // attention.num_heads)).permute(2, 0, 3, 1, 4)


def _finish(block: nn.Module, tokens: Tensor, attended: Tensor) -> Tensor:
    """The block after its attention heads: output projection and MLP, each added to the residual stream."""
    tokens = tokens + block.attn.out_proj(attended.transpose(1, 2).flatten(2))
    return tokens + _mlp(block.mlp, block.ln_2(tokens).to(attended.dtype))


def _mlp(mlp: nn.Module, tokens: Tensor) -> Tensor:
    hidden = mlp.c_fc(tokens)
    if isinstance(mlp.gelu, QuickGELU):
        # x sigmoid(1.702 x) = silu(1.702 x) / 1.702, with fewer passes over memory and less memory for the gradient.
        return mlp.c_proj(F.silu(hidden.mul_(1.702), inplace=not hidden.requires_grad).div_(1.702))
    return mlp.c_proj(mlp.gelu(hidden))


def _merged(segments: Sequence[Tensor]) -> list[Tensor]:
    """Merge neighbouring segments of the same batch size."""
    merged: list[list[Tensor]] = []
    for segment in segments:
        if merged and len(merged[-1][0]) == len(segment):
            merged[-1].append(segment)
        else:
            merged.append([segment])
    return [parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in merged]


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Concatenate heads `[1 or batch, heads, tokens, head_width]` along the tokens."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else torch.cat(to_one_batch(*parts), dim=2)
