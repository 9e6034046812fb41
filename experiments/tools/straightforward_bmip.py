"""BMIP as the field writes it: the baseline of `benchmark.py`, and the reference that the tests compare with.

OpenAI's own blocks with `nn.MultiheadAttention` and its attention maps in every layer, as in the authors' code; in a
layer that reads attention, it is computed a second time. Every sentence has its full padded length, and all classes
are encoded for every batch. Nothing here is slowed down on purpose: classes and images are batched. Of the project
nothing is used but a learner's tensors, settings and sentence. Rows of a sequence:

    text    SOS | slots | rest of the sentence, EOT, padding        causal attention
    vision  CLS | patches | slots                                   full attention
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.prompting.core.openai_clip import clip

if TYPE_CHECKING:
    from trainers.prompting.learners.bmip import BMIPLearner


class StraightforwardBMIP(nn.Module):
    """A frozen CLIP with BMIP's prompts, all variants and aggregation functions.

    Args:
        clip_model: OpenAI's CLIP with a ViT, unmodified; everything is computed in the type of its matrices.
        learner: gives the trained tensors and the settings; its own methods are not used.
        classnames: in label order.
    """

    def __init__(self, clip_model: nn.Module, learner: BMIPLearner, classnames: Sequence[str]):
        super().__init__()
        self.clip_model = clip_model
        self.learner, self.config = learner, learner.config
        self.released = self.config.variant == "released"
        self.slots = self.config.length * (2 if self.config.aggregation == "joint" else 1)
        self.dtype = clip_model.visual.conv1.weight.dtype
        sentences = [learner.template.format(name.replace("_", " ")) for name in classnames]
        ids = clip.tokenize(sentences, clip_model.context_length)
        self.register_buffer("ids", ids.to(clip_model.logit_scale.device), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, classes]`."""
        image_features = F.normalize(self.encode_image(images).float(), dim=-1)
        text_features = F.normalize(self.encode_text().float(), dim=-1)
        return self.clip_model.logit_scale.exp() * image_features @ text_features.t()

    def encode_text(self) -> Tensor:
        """Features of all classes, `[classes, embed]`, not normalised."""
        model, slots = self.clip_model, slice(1, 1 + self.slots)
        embedded = model.token_embedding(self.ids).to(self.dtype)
        positions = model.positional_embedding.to(self.dtype)
        eot = self.ids.argmax(dim=-1)
        order = torch.arange(embedded.shape[1], device=eot.device)
        readers = ((order >= slots.stop) & (order <= eot[:, None])).to(embedded.dtype)

        def average(received: Tensor) -> Tensor:
            if self.released:
                return received.mean(dim=0)[0]
            received = received * (order + 1)[:, None] if self.config.relative else received
            return (received * readers[..., None]).sum(dim=1) / readers.sum(dim=1, keepdim=True)

        x = self._run("text", model.transformer.resblocks, embedded, slots, lambda x: x + positions, average)
        return model.ln_final(x[torch.arange(len(x)), eot]) @ model.text_projection

    def encode_image(self, images: Tensor) -> Tensor:
        """Features `[batch, embed]`, not normalised."""
        visual = self.clip_model.visual
        patches = visual.conv1(images.to(self.dtype)).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        embedded = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(self.dtype)
        slots = slice(embedded.shape[1], embedded.shape[1] + self.slots)

        def average(received: Tensor) -> Tensor:
            received = received[:, : slots.start].mean(dim=1)
            received = received * slots.stop if self.config.relative else received
            return received.mean(dim=0) if self.released else received

        x = self._run("vision", visual.transformer.resblocks, embedded, slots, visual.ln_pre, average)
        return visual.ln_post(x[:, 0]) @ visual.proj

    def _run(
        self,
        tower: str,
        blocks: Sequence[nn.Module],
        embedded: Tensor,
        slots: slice,
        enter: Callable[[Tensor], Tensor],
        average: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """A tower's blocks over `embedded` `[batch, tokens, width]` with prompts in its slots.

        Args:
            enter: applied to what enters layer 0, prompts included.
            average: the readout, `[b]` or `[batch, b]`, of the attention `[batch, tokens, b]` that the slots receive.
        """

        def put_in(x: Tensor, prompts: Tensor) -> Tensor:
            prompts = prompts.to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([x[:, : slots.start], prompts, x[:, slots.stop :]], dim=1)

        config = self.config
        deep = config.depth - 1 if self.released and tower == "text" else config.depth
        x = embedded
        for layer, block in enumerate(blocks):
            if layer == 0 or layer < deep:
                readout = None
                if config.aggregation == "bmip" and not (self.released and layer == 0):
                    own = getattr(self.learner, f"{tower}_prompts")
                    seen = x if layer else enter(put_in(embedded, own["0"]))
                    received = _attention(block, seen)[1][:, :, slots]
                    readout = average(received.detach() if config.detach else received)
                x = put_in(x, self._prompts(tower, layer, readout))
                x = x if layer else enter(x)
            x = self._through(tower, layer, block, x)
        return x

    def _through(self, tower: str, layer: int, block: nn.Module, x: Tensor) -> Tensor:
        x = x + _attention(block, x)[0]
        return x + block.mlp(block.ln_2(x))

    def _prompts(self, tower: str, layer: int, readout: Tensor | None) -> Tensor:
        """Those that enter a layer, `[b, width]`, or `[batch, b, width]` for a readout `[batch, b]`."""
        learner, key = self.learner, str(layer)
        own, other, heads, gates = {
            "text": (learner.text_prompts, learner.vision_prompts, learner.vision_to_text, learner.text_gate),
            "vision": (learner.vision_prompts, learner.text_prompts, learner.text_to_vision, learner.vision_gate),
        }[tower]
        aggregation = "l2v" if self.released and layer == 0 else self.config.aggregation
        if aggregation in ("none", {"text": "l2v", "vision": "v2l"}[tower]):
            return own[key]
        projected = heads[key if key in heads else "deep"](other[key])
        if aggregation in ("l2v", "v2l"):
            return projected
        if aggregation == "addition":
            return own[key] + projected
        if aggregation == "attention":
            return own[key] + (projected @ own[key].t()).softmax(dim=-1) @ projected
        if aggregation == "joint":
            return torch.cat([projected, own[key]])
        # Eq. 10-11.
        weights = torch.sigmoid(gates[key](readout[..., None].float()))
        return weights * own[key] + (1 - weights) * projected


def _attention(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's attention over `x` `[batch, tokens, width]`: its output, and the map `[batch, tokens, tokens]`."""
    x = block.ln_1(x).transpose(0, 1)
    mask = None if block.attn_mask is None else block.attn_mask.to(x)
    attended, attention = block.attn(x, x, x, need_weights=True, attn_mask=mask)
    return attended.transpose(0, 1), attention
