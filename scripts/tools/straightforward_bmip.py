"""BMIP as the field writes it: the baseline that `benchmark.py` measures the project against.

OpenAI's own blocks with `nn.MultiheadAttention` and its attention maps in every layer, as in the authors' code; in a
layer that reads attention, it is computed a second time. Every sentence has its full padded length, and all classes
are encoded for every batch. Nothing here is slowed down on purpose: classes and images are batched. Its results are
those of the fast core (tests/test_straightforward_baseline.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.prompting.core.openai_clip import clip

if TYPE_CHECKING:
    from trainers.prompting.learners.bmip import BMIPLearner


class StraightforwardBMIP(nn.Module):
    """A frozen CLIP with BMIP's prompts, aggregation "bmip", variants "paper" and "released".

    Args:
        clip_model: OpenAI's CLIP with a ViT, unmodified; everything is computed in the type of its matrices.
        learner: gives the trained tensors and the settings; its own methods are not used.
        classnames: in label order.
    """

    def __init__(self, clip_model: nn.Module, learner: BMIPLearner, classnames: Sequence[str]):
        super().__init__()
        self.clip_model = clip_model
        self.learner = learner
        self.released = learner.config.variant == "released"
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
        model, slots = self.clip_model, slice(1, 1 + self.learner.config.length)
        embedded = model.token_embedding(self.ids).to(self.dtype)
        positions = model.positional_embedding.to(self.dtype)
        eot = self.ids.argmax(dim=-1)
        order = torch.arange(embedded.shape[1], device=eot.device)
        readers = ((order >= slots.stop) & (order <= eot[:, None])).to(embedded.dtype)

        def put_in(x: Tensor, prompts: Tensor) -> Tensor:
            prompts = prompts.to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([x[:, : slots.start], prompts, x[:, slots.stop :]], dim=1)

        def readout(block: nn.Module, x: Tensor) -> Tensor:
            received = _attention(block, x)[1][:, :, slots].detach()
            if self.released:
                return received.mean(dim=0)[0]
            return (received * readers[..., None]).sum(dim=1) / readers.sum(dim=1, keepdim=True)

        x = embedded + positions
        replaced = self.learner.config.depth - 1 if self.released else self.learner.config.depth
        for layer, block in enumerate(model.transformer.resblocks):
            if layer == 0:
                own = self.learner.text_prompts["0"]
                if not self.released:
                    own = self._mix("text", 0, readout(block, put_in(embedded, own) + positions))
                x = put_in(embedded, own) + positions
            elif layer < replaced:
                x = put_in(x, self._mix("text", layer, readout(block, x)))
            x = _run(block, x)
        return model.ln_final(x[torch.arange(len(x)), eot]) @ model.text_projection

    def encode_image(self, images: Tensor) -> Tensor:
        """Features `[batch, embed]`, not normalised."""
        visual, length = self.clip_model.visual, self.learner.config.length
        patches = visual.conv1(images.to(self.dtype)).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        embedded = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(self.dtype)
        slots = slice(embedded.shape[1], embedded.shape[1] + length)

        def put_in(x: Tensor, prompts: Tensor) -> Tensor:
            return torch.cat([x[:, : slots.start], prompts.to(x.dtype).expand(len(x), -1, -1)], dim=1)

        def readout(block: nn.Module, x: Tensor) -> Tensor:
            received = _attention(block, x)[1][:, : slots.start, slots].detach().mean(dim=1)
            return received.mean(dim=0) if self.released else received

        x = embedded
        for layer, block in enumerate(visual.transformer.resblocks):
            if layer == 0:
                if self.released:
                    own = self.learner.text_to_vision["0"](self.learner.text_prompts["0"])
                else:
                    start = visual.ln_pre(put_in(embedded, self.learner.vision_prompts["0"]))
                    own = self._mix("vision", 0, readout(block, start))
                x = visual.ln_pre(put_in(embedded, own))
            elif layer < self.learner.config.depth:
                x = put_in(x, self._mix("vision", layer, readout(block, x)))
            x = _run(block, x)
        return visual.ln_post(x[:, 0]) @ visual.proj

    def _mix(self, tower: str, layer: int, readout: Tensor) -> Tensor:
        """Eq. 10-11 from a readout `[b]` or `[batch, b]`: `[b, width]` or `[batch, b, width]`."""
        learner, key = self.learner, str(layer)
        own, other, heads, gates = {
            "text": (learner.text_prompts, learner.vision_prompts, learner.vision_to_text, learner.text_gate),
            "vision": (learner.vision_prompts, learner.text_prompts, learner.text_to_vision, learner.vision_gate),
        }[tower]
        projected = heads[key if key in heads else "deep"](other[key])
        weights = torch.sigmoid(gates[key](readout[..., None].float()))
        return weights * own[key] + (1 - weights) * projected


def _attention(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's attention over `x` `[batch, tokens, width]`: its output, and the map `[batch, tokens, tokens]`."""
    x = block.ln_1(x).transpose(0, 1)
    mask = None if block.attn_mask is None else block.attn_mask.to(x)
    attended, attention = block.attn(x, x, x, need_weights=True, attn_mask=mask)
    return attended.transpose(0, 1), attention


def _run(block: nn.Module, x: Tensor) -> Tensor:
    x = x + _attention(block, x)[0]
    return x + block.mlp(block.ln_2(x))
