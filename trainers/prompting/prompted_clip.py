"""Run a frozen, unmodified CLIP with prompt tokens entering any layer of either tower.

The blocks of OpenAI's `clip` are driven from outside through their own modules (`ln_1`, `attn`, `ln_2`, `mlp`), one
driver for both towers. Exact shortcuts of the driver:

* a token's query, key and value depend on that token alone, so those of the tokens that stay are computed once and
  serve both the attention readout and the block;
* nothing behind the longest EOT of the class set is computed: under the causal mask it cannot reach a feature;
* without gradients the text features are kept until a parameter changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .class_tokens import tokenize_classes
from .clip_io import PRECISIONS, Precision
from .interaction import attention_readout
from .learner import PromptLearner, TowerPrompts


def _heads(block: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key, value of `tokens` `[batch, tokens, width]` in a block, each `[batch, heads, tokens, head_width]`."""
    attention = block.attn
    projected = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    split = projected.unflatten(-1, (3, attention.num_heads, -1))
    return tuple(split.permute(2, 0, 3, 1, 4))


def _finish(block: nn.Module, tokens: Tensor, heads: tuple[Tensor, Tensor, Tensor], causal: bool) -> Tensor:
    """The rest of the residual block: attention over `heads`, then the MLP; `[batch, tokens, width]`."""
    attended = F.scaled_dot_product_attention(*heads, is_causal=causal)
    tokens = tokens + block.attn.out_proj(attended.transpose(1, 2).flatten(2))
    return tokens + block.mlp(block.ln_2(tokens))


def _insert(rest: Tensor, prompts: Tensor, position: int) -> Tensor:
    """Put `prompts` at `position` of the second last axis of `rest`."""
    return torch.cat([rest[..., :position, :], prompts, rest[..., position:, :]], dim=-2)


@dataclass(frozen=True)
class TowerLayout:
    """Where prompts stand in a tower's sequence, and who reads them.

    Attributes:
        position: of the first prompt slot.
        enter: what layer 0 does to prompts `[..., b, width]`: positional embedding (text) or ln_pre (vision).
        readers, counted: whose attention a readout averages, see `attention_readout`; positions in the full sequence.
        causal: the text tower's mask.
    """

    position: int
    enter: Callable[[Tensor], Tensor]
    readers: slice
    counted: Tensor | None
    causal: bool


def _prompted_block(
    block: nn.Module, layer: int, rest: Tensor, current: Tensor | None, prompts: TowerPrompts, layout: TowerLayout
) -> Tensor:
    """One residual block whose slots the learner fills.

    Args:
        rest: `[batch, content, width]`, the tokens that stay.
        current: `[batch, b, width]`, what the previous layer left in the slots; None at layer 0.

    Returns:
        `[batch, content + b, width]`.
    """
    heads = _heads(block, rest)

    def placed(tokens: Tensor) -> Tensor:
        tokens = tokens.to(rest.dtype)
        return (layout.enter(tokens) if layer == 0 else tokens).expand(len(rest), -1, -1)

    def heads_with(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(_insert(*pair, layout.position) for pair in zip(heads, _heads(block, tokens)))

    def readout(tokens: Tensor | None = None, *, relative: bool = False) -> Tensor:
        query, key, _ = heads_with(current if tokens is None else placed(tokens))
        slots = slice(layout.position, layout.position + prompts.length)
        return attention_readout(
            query, key, slots, layout.readers, layout.counted, causal=layout.causal, relative=relative
        )

    new = prompts.at(layer, readout)
    filled = current if new is None else placed(new)
    if filled.shape[1] != prompts.length:
        raise ValueError(f"The learner gave {filled.shape[1]} prompts for {prompts.length} slots in layer {layer}")
    return _finish(block, _insert(rest, filled, layout.position), heads_with(filled), layout.causal)


def run_tower(
    blocks: Sequence[nn.Module], content: Tensor, prompts: TowerPrompts | None, layout: TowerLayout
) -> Tensor:
    """Run residual blocks over `content` `[batch, content, width]`, the embedded tokens without the prompt slots.

    Returns:
        `[batch, content + b, width]`; without prompts the plain tower's `[batch, content, width]`.
    """
    tokens = content
    for layer, block in enumerate(blocks):
        if prompts is None or layer >= prompts.depth:
            tokens = _finish(block, tokens, _heads(block, tokens), layout.causal)
        elif layer == 0:
            tokens = _prompted_block(block, layer, content, None, prompts, layout)
        else:
            first, last = layout.position, layout.position + prompts.length
            rest = torch.cat([tokens[:, :first], tokens[:, last:]], dim=1)
            tokens = _prompted_block(block, layer, rest, tokens[:, first:last], prompts, layout)
    return tokens


class PromptedCLIP(nn.Module):
    """A frozen CLIP with a learner's prompts, over a set of classes.

    Only the learner's parameters train. The classes are no part of any state dict.

    Args:
        clip_model: OpenAI's CLIP with a ViT, weights as `clip_io.load_clip` leaves them for `precision`.
        learner: the prompts.
        classnames: in label order.
        precision: what the towers compute in.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        learner: PromptLearner,
        classnames: Sequence[str],
        precision: Precision = PRECISIONS["fp32"],
    ):
        super().__init__()
        self.clip_model = clip_model.eval().requires_grad_(False)
        self.learner = learner
        self.precision = precision
        self.set_classes(classnames)

    def set_classes(self, classnames: Sequence[str]) -> None:
        """Replace the classes that images are told apart by."""
        tokens = tokenize_classes(classnames, self.learner.template, self.clip_model.context_length)
        device = self.clip_model.logit_scale.device
        self.register_buffer("ids", tokens.ids.to(device), persistent=False)
        self.register_buffer("eot", tokens.eot.to(device), persistent=False)
        self._kept: tuple[tuple, Tensor] | None = None

    def train(self, mode: bool = True) -> PromptedCLIP:
        """Training mode concerns the learner only; CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip_model.eval()
        return self

    def encode_text(self) -> Tensor:
        """Features of all classes, `[classes, embed]`, not normalised."""
        model, stream, tokens = self.clip_model, self.precision.stream, self.ids.shape[1]
        slots = slice(1, 1 + self.learner.text_slots)
        with self.precision.autocast(self.ids.device):
            positions = model.positional_embedding[:tokens].to(stream)
            content = model.token_embedding(self.ids).to(stream) + positions
            prompts = self.learner.text()
            if prompts is not None:
                content = torch.cat([content[:, : slots.start], content[:, slots.stop :]], dim=1)
            behind = torch.arange(slots.stop, tokens, device=self.ids.device)
            layout = TowerLayout(
                position=slots.start,
                enter=lambda prompt: prompt + positions[slots],
                readers=slice(slots.stop, None),
                counted=behind <= self.eot[:, None],
                causal=True,
            )
            content = run_tower(model.transformer.resblocks, content, prompts, layout)
            at_eot = content[torch.arange(len(content), device=content.device), self.eot]
            return model.ln_final(at_eot).to(stream) @ model.text_projection

    def encode_image(self, images: Tensor) -> Tensor:
        """Features of `images` `[batch, 3, height, width]`: `[batch, embed]`, not normalised."""
        visual, stream = self.clip_model.visual, self.precision.stream
        with self.precision.autocast(images.device):
            patches = visual.conv1(images.to(stream)).flatten(2).transpose(1, 2).to(stream)
            cls = visual.class_embedding.to(stream).expand(len(patches), 1, -1)
            content = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(stream)
            layout = TowerLayout(
                position=content.shape[1],
                enter=visual.ln_pre,
                readers=slice(0, content.shape[1]),
                counted=None,
                causal=False,
            )
            tokens = run_tower(visual.transformer.resblocks, visual.ln_pre(content), self.learner.vision(), layout)
            return visual.ln_post(tokens[:, 0]) @ visual.proj

    def class_features(self) -> Tensor:
        """Normalised features of all classes, `[classes, embed]` in fp32.

        Without gradients they are computed once per state of the learner: an in-place change (an optimiser step, a
        loaded state dict) raises its tensors' version counters, and moving the model changes where they lie.
        """
        if torch.is_grad_enabled():
            return F.normalize(self.encode_text().float(), dim=-1)
        tensors = [*self.learner.parameters(), self.ids]
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, F.normalize(self.encode_text().float(), dim=-1)
        return self._kept[1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, classes]` in fp32: CLIP's scaled cosine similarity of image and class features."""
        image_features = F.normalize(self.encode_image(images).float(), dim=-1)
        return self.clip_model.logit_scale.exp().float() * image_features @ self.class_features().t()
