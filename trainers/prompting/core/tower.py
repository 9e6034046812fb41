"""Run the residual blocks of a frozen CLIP tower with prompt tokens entering any layer.

One driver for both towers calls the modules of OpenAI's blocks (`ln_1`, `attn`, `ln_2`, `mlp`) from outside. A
sequence is a list of segments,

    text      SOS | prompt slots | words that all sentences share | the rest
    vision    prompt slots | CLS and patches

each `[1, tokens, width]` while it is the same for the whole batch, else `[batch, tokens, width]`. For a conditional
learner, whose prompts depend on the image, the batch is image by image, and the prompts have one row per image.
Adapters beside blocks (`Beside`) see each token by itself, so they suit any cut of the sequence. Nothing is
approximated; repeated and unused work is skipped:

* a segment that is the same for all classes is computed once; it becomes one per class in the first layer in which it
  sees a difference between classes, by the sum of residual stream and attention;
* query, key and value of a token depend on that token alone, so the tokens that stay use them for both the attention
  readout and the block;
* new prompts replace a block's output in the slots, so that output is computed only if a learner reads it, and with
  gradient only if the learner reads with gradient;
* in the last layer only the token whose feature is read needs more than key and value.

All but the last one save arithmetic by more operations, each smaller. Where those would cost more than they save
(`SEGMENTS_COST`), all segments run as one sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import constants, memory
from .attention import attend, to_one_batch
from .interaction import attention_readout
from .learner import Beside, Readout, TowerPrompts
from .openai_clip import QuickGELU

# Fixed overhead of running segments one by one, in token-equivalents, like `batching.GROUP_COST`.
SEGMENTS_COST = {"cpu": 64, "cuda": 8192}

# Readouts of the previous layer's output in the slots, by layer and `relative`.
Readouts = dict[tuple[int, bool], Tensor]


@dataclass(frozen=True)
class TowerInput:
    """Input of a tower beside its prompts.

    Attributes:
        segments: without the prompts, in order; the last one has the batch's size, and the token to read.
        slot: index in `segments` at which the prompts are inserted.
        enter: applied to prompts `[..., b, width]` of layer 0: positional embedding (text) or ln_pre (vision).
        causal: a token sees only itself and earlier tokens (text).
        read: position in the last segment of the token whose feature is read: `[batch]`, or one for all; or a slice
            of positions, for a pool over them, which no causal tower has.
        total: number of all classes or images.
        readers: `[batch, tokens after the slots]`, weights of the tokens that a readout averages, 1 in the mean of a
            row; None: all alike.
        samples: `[batch]`, labels of the batch's classes; None for all classes, in order.
        readouts: filled with readouts while gradients are off; a second run of the same input, to recompute
            activations, reuses them.
    """

    segments: Sequence[Tensor]
    slot: int
    enter: Callable[[Tensor], Tensor]
    causal: bool
    read: Tensor | int | slice
    total: int
    readers: Tensor | None = None
    samples: Tensor | None = None
    readouts: Readouts = field(default_factory=dict)


class TowerOutput(NamedTuple):
    """Output of a tower after its last layer.

    Attributes:
        read: the token to read, `[batch, width]`; the tokens of a slice, `[batch, tokens, width]`.
        left: computes what is in the slots, `[1 or batch, b, width]`; None unless prompts may enter the last layer.
    """

    read: Tensor
    left: Callable[[], Tensor] | None


class _Block(NamedTuple):
    """The modules of one of OpenAI's blocks, and the adapter beside it, if there is one."""

    ln_1: nn.Module
    attn: nn.Module
    ln_2: nn.Module
    mlp: nn.Module
    beside: Beside | None


def run_tower(
    blocks: Sequence[nn.Module],
    source: TowerInput,
    prompts: TowerPrompts | None,
    beside: Mapping[int, Beside] = MappingProxyType({}),
) -> TowerOutput:
    """Run all residual blocks, some with an adapter beside."""
    cost = SEGMENTS_COST[memory.kind_of(source.segments[-1].device)]
    run = _run_segments if _saved_by_segments(source, prompts) > cost else _run_as_one
    adapted = [
        _Block(block.ln_1, block.attn, block.ln_2, block.mlp, beside.get(layer)) for layer, block in enumerate(blocks)
    ]
    return run(adapted, source, prompts)


def activation_bytes(blocks: Sequence[nn.Module], stream: torch.dtype, adapted: Collection[int] = ()) -> int:
    """Bytes that a token of a training step holds for the gradient, summed over all blocks.

    Per block ten times the width: the inputs of both LayerNorms (2) in the type of the residual stream; query, key,
    value, the attention's output and the hidden layer of the MLP (4 + 4) in that of the matrices. In `adapted` layers
    an adapter holds its input, too, and a narrow middle.
    """
    weights = (block.attn.in_proj_weight for block in blocks)
    stream_bytes = torch.finfo(stream).bits // 8
    return sum(
        (2 * stream_bytes + (8 + (layer in adapted)) * weight.element_size()) * weight.shape[1]
        for layer, weight in enumerate(weights)
    )


def _saved_by_segments(source: TowerInput, prompts: TowerPrompts | None) -> float:
    """The arithmetic that separate segments save at most, as a number of tokens that pass the tower."""
    batch, slots = len(source.segments[-1]), 0 if prompts is None else prompts.length
    tokens = slots + sum(segment.shape[1] for segment in source.segments)
    shared = sum(segment.shape[1] for segment in source.segments if len(segment) < batch)
    # A block has twelve products of width by width for each token, and as many in the gradient; a readout repeats two.
    repeated = tokens / 12 if prompts is not None and prompts.reads else 0
    return batch * (shared + slots + repeated)


def _run_as_one(blocks: Sequence[_Block], source: TowerInput, prompts: TowerPrompts | None) -> TowerOutput:
    entered, length = _entered(prompts), 0 if prompts is None else prompts.length
    before, after = list(source.segments[: source.slot]), list(source.segments[source.slot :])
    start = sum(segment.shape[1] for segment in before)
    slots = slice(start, start + length)
    tokens = None  # of the previous layer, without slots before prompts enter
    for number, block in enumerate(blocks):
        if number in entered:
            read = functools.partial(_read_one_sequence, block, source, slots, tokens, before, after)
            left = functools.partial(_in_slots, tokens, slots)
            new = _new_tokens(source, prompts, number, read, left)
            tokens = tokens if new is None else _in_a_row([*before, new, *after])
        elif number == 0:
            tokens = _in_a_row([*before, *after])
        if number == len(blocks) - 1:
            break
        query, key, value = _heads(block, tokens, slice(0, 3))
        tokens = _finish(block, tokens, attend(query, key, value, source.causal))
        if number + 1 in entered:
            held = length if number in entered else 0
            first, _, rest = tokens.split([start, held, tokens.shape[1] - start - held], dim=1)
            before, after = [first], [rest]
    read = _moved(source.read, tokens.shape[1] - source.segments[-1].shape[1])
    key, value = _heads(block, tokens, slice(1, 3))
    left = (
        functools.partial(_output_in, block, tokens, key, value, slots, source.causal) if number in entered else None
    )
    return TowerOutput(_output_at(block, tokens, key, value, read, source.causal), left)


def _read_one_sequence(
    block: _Block,
    source: TowerInput,
    slots: slice,
    tokens: Tensor | None,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    given: Tensor | None,
    relative: bool,
) -> Tensor:
    """The readout of one sequence, `tokens`, or `given` tokens in the slots between others."""
    query, key = _heads(block, tokens if given is None else _in_a_row([*before, given, *after]), slice(0, 2))
    return attention_readout(
        query[:, :, slots.stop :], key, slots, source.readers, causal=source.causal, relative=relative
    )


def _entered(prompts: TowerPrompts | None) -> range:
    """The layers that prompts enter."""
    return range(0) if prompts is None else range(prompts.first, prompts.depth)


def _in_slots(tokens: Tensor, slots: slice) -> Tensor:
    return tokens[:, slots]


def _run_segments(blocks: Sequence[_Block], source: TowerInput, prompts: TowerPrompts | None) -> TowerOutput:
    segments, slot, added = list(source.segments), source.slot, 0
    entered = _entered(prompts)
    left: Callable[[], Tensor] | None = None  # computes the previous layer's output in the slots
    for number, block in enumerate(blocks):
        if number == entered.stop:
            # From here on the slots are ordinary tokens.
            if left is not None:
                segments.insert(slot, left())
            slot = 0
        length = segments[-1].shape[1]
        segments = _merged(segments[:slot]) + _merged(segments[slot:])
        added += segments[-1].shape[1] - length
        last = number == len(blocks) - 1
        enter = number in entered
        layer = _Layer(block, segments, source.causal, with_queries=enter or not last)
        if enter:
            read = functools.partial(layer.readout, slot, left, source.readers)
            new = _new_tokens(source, prompts, number, read, left)
            layer.insert(slot, left() if new is None else new)
            left = functools.partial(layer.output, slot)
        if last:
            break
        segments = [layer.output(index) for index in range(len(layer.tokens)) if not enter or index != slot]
    return TowerOutput(layer.output_at(_moved(source.read, added)), left if enter else None)


def _new_tokens(
    source: TowerInput,
    prompts: TowerPrompts,
    number: int,
    read: Callable[[Tensor | None, bool], Tensor],
    left: Callable[[], Tensor] | None,
) -> Tensor | None:
    """The learner's tokens for the slots of a layer, `[1 or batch, b, width]`; None keeps what is in them.

    Args:
        read: the readout of given tokens, or of the previous layer's output, in the slots; with `relative`.
        left: computes the previous layer's output in the slots.
    """

    def placed(tokens: Tensor) -> Tensor:
        tokens = tokens.to(source.segments[-1].dtype)
        tokens = source.enter(tokens) if number == 0 else tokens
        return tokens if tokens.dim() == 3 else tokens[None]

    def measure(tokens: Tensor | None, relative: bool) -> Tensor:
        if tokens is not None or torch.is_grad_enabled():
            return read(None if tokens is None else placed(tokens), relative)
        if (number, relative) not in source.readouts:
            source.readouts[number, relative] = read(None, relative)
        return source.readouts[number, relative]

    left = None if number == prompts.first else left
    new = prompts.at(number, Readout(measure, source.samples, source.total, left))
    if new is not None and new.shape[-2] != prompts.length:
        raise ValueError(f"The learner gave {new.shape[-2]} prompts for {prompts.length} slots in layer {number}")
    return None if new is None else placed(new)


class _Layer:
    """One residual block over segments; outputs are computed on demand.

    Without queries only `output_at` works.
    """

    def __init__(self, block: _Block, segments: Sequence[Tensor], causal: bool, with_queries: bool):
        self.block, self.causal = block, causal
        self.tokens = list(segments)
        # Of each segment, query (if any), key and value.
        self.heads = [_heads(block, segment, slice(0 if with_queries else 1, 3)) for segment in segments]
        self.seen: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}

    def insert(self, index: int, tokens: Tensor) -> None:
        """Add a segment."""
        self.tokens.insert(index, tokens)
        self.heads.insert(index, _heads(self.block, tokens, slice(0, 3)))

    def readout(
        self,
        slot: int,
        left: Callable[[], Tensor] | None,
        readers: Tensor | None,
        given: Tensor | None,
        relative: bool,
    ) -> Tensor:
        """`interaction.attention_readout` as if `given`, or else `left`, stood at index `slot`."""
        (key,) = _heads(self.block, left() if given is None else given, slice(1, 2))
        before, after = self.heads[:slot], self.heads[slot:]
        start = sum(key.shape[2] for _, key, _ in before)
        return attention_readout(
            _joined(query for query, _, _ in after),
            _joined([*(key for _, key, _ in before), key, *(key for _, key, _ in after)]),
            slice(start, start + key.shape[2]),
            readers,
            causal=self.causal,
            relative=relative,
        )

    def output(self, index: int) -> Tensor:
        """A segment after the block; `[batch, tokens, width]` if any segment that it sees has a row per sample."""
        query, key, value = self.heads[index][0], *self._seen_by(index)
        return _finish(self.block, self.tokens[index], attend(query, key, value, self.causal))

    def output_at(self, read: Tensor | int | slice) -> Tensor:
        """One token per sample of the last segment, `[batch, width]`, at position `read`; or those of a slice."""
        return _output_at(self.block, self.tokens[-1], *self._seen_by(len(self.tokens) - 1), read, self.causal)

    def _seen_by(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values that a segment sees."""
        last = index + 1 if self.causal else len(self.heads)
        # Keys joined without gradient must not serve a pass with gradient.
        seen = last, torch.is_grad_enabled()
        if seen not in self.seen:
            heads = self.heads[:last]
            self.seen[seen] = _joined(key for *_, key, _ in heads), _joined(value for *_, value in heads)
        return self.seen[seen]


def _heads(block: _Block, tokens: Tensor, parts: slice) -> list[Tensor]:
    """The `parts` of (query, key, value), each `[rows, heads, tokens, head_width]`."""
    attention, width = block.attn, tokens.shape[-1]
    rows = slice(parts.start * width, parts.stop * width)
    weight, bias = attention.in_proj_weight[rows], attention.in_proj_bias[rows]
    projected = F.linear(block.ln_1(tokens).to(weight.dtype), weight, bias)
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected.split(width, dim=-1)]


def _output_at(
    block: _Block, tokens: Tensor, key: Tensor, value: Tensor, read: Tensor | int | slice, causal: bool
) -> Tensor:
    """One token per row of `tokens`, the last ones of the keys, after the block: `[rows, width]`; or some of each."""
    if isinstance(read, slice):
        return _output_in(block, tokens, key, value, read, causal)
    mask = None
    if isinstance(read, int):
        token = tokens[:, read : read + 1]
    else:
        token = tokens[constants.positions(0, len(tokens), read.device), read, None]
    if causal:
        keys = key.shape[2]
        end = _moved(read, keys - tokens.shape[1])
        mask = constants.causal_mask(keys, keys, key.dtype, key.device)[end][:, None, None]
    (query,) = _heads(block, token, slice(0, 1))
    return _finish(block, token, attend(query, key, value, mask=mask))[:, 0]


def _output_in(block: _Block, tokens: Tensor, key: Tensor, value: Tensor, place: slice, causal: bool) -> Tensor:
    """Some tokens of a sequence, all of whose keys are given, after the block: `[rows, some, width]`."""
    own = tokens[:, place]
    (query,) = _heads(block, own, slice(0, 1))
    seen = slice(place.stop if causal else None)
    return _finish(block, own, attend(query, key[:, :, seen], value[:, :, seen], causal))


def _moved(position: Tensor | int | slice, tokens: int) -> Tensor | int | slice:
    if isinstance(position, slice):
        return slice(position.start + tokens, position.stop + tokens)
    return position + tokens if tokens else position


def _finish(block: _Block, tokens: Tensor, attended: Tensor) -> Tensor:
    """The block after its attention heads: output projection and MLP, each added to the residual stream."""
    if 1 < len(tokens) < len(attended):  # prompts of an image that see all its classes, without a causal mask
        tokens, _ = to_one_batch(tokens, attended)
    middle = tokens + block.attn.out_proj(attended.transpose(1, 2).flatten(2))
    ended = middle + _mlp(block.mlp, block.ln_2(middle).to(attended.dtype))
    return ended if block.beside is None else ended + block.beside(block.ln_1(tokens).to(attended.dtype))


def _mlp(mlp: nn.Module, tokens: Tensor) -> Tensor:
    if not isinstance(mlp.gelu, QuickGELU):
        return mlp.c_proj(mlp.gelu(mlp.c_fc(tokens)))
    # x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and the products multiply and divide on the way: fewer passes over
    # memory, and less memory for the gradient.
    hidden = _linear(mlp.c_fc, tokens.flatten(0, -2), 1.702, 1.702)
    hidden = F.silu(hidden, inplace=not hidden.requires_grad)
    return _linear(mlp.c_proj, hidden, 1.0, 1 / 1.702).view_as(tokens)


def _linear(layer: nn.Linear, rows: Tensor, of_bias: float, of_product: float) -> Tensor:
    return torch.addmm(layer.bias, rows, layer.weight.t(), beta=of_bias, alpha=of_product)


def _merged(segments: Sequence[Tensor]) -> list[Tensor]:
    """Merge neighbouring segments of the same batch size."""
    merged: list[list[Tensor]] = []
    for segment in segments:
        if merged and len(merged[-1][0]) == len(segment):
            merged[-1].append(segment)
        else:
            merged.append([segment])
    return [parts[0] if len(parts) == 1 else torch.cat(parts, dim=1) for parts in merged]


def _in_a_row(segments: Sequence[Tensor]) -> Tensor:
    """One sequence of segments `[1 or batch, tokens, width]`."""
    return segments[0] if len(segments) == 1 else torch.cat(to_one_batch(*segments), dim=1)


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Concatenate heads `[1 or batch, heads, tokens, head_width]` along the tokens."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else torch.cat(to_one_batch(*parts), dim=2)
