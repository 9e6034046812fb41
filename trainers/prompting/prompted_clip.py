"""A frozen CLIP with a learner's prompts, and the classes that it tells apart.

Exact shortcuts over all classes: sentences end at their EOT, behind which nothing reaches a feature under the causal
mask; classes of similar length are encoded together; without gradients the text features are kept until a parameter
changes; with gradients, activations are held for as many classes as memory allows and computed again for the others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .class_groups import ClassGroup, automatic_held, group_classes, held_groups, return_unused_memory
from .class_tokens import tokenize_classes
from .clip_io import PRECISIONS, Precision
from .learner import PromptLearner, TowerPrompts
from .tower import Readouts, TowerInput, activation_bytes, run_tower

AUTOMATIC = 0


class PromptedCLIP(nn.Module):
    """A frozen CLIP with a learner's prompts, over a set of classes.

    Only the learner's parameters train. The classes are no part of any state dict.

    Args:
        clip_model: OpenAI's CLIP with a ViT, weights as `clip_io.load_clip` leaves them for `precision`.
        learner: the prompts.
        classnames: in label order.
        precision: what the towers compute in.
        class_chunk: classes whose activations are held at once for the gradient; those of the others are computed
            again, which bounds the memory and changes results by no more than rounding, since other rows are
            multiplied together. AUTOMATIC decides by the memory that is free, which changes no bit.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        learner: PromptLearner,
        classnames: Sequence[str],
        precision: Precision = PRECISIONS["fp32"],
        class_chunk: int = AUTOMATIC,
    ):
        super().__init__()
        self.clip_model = clip_model.eval().requires_grad_(False)
        self.learner = learner
        self.precision = precision
        self.class_chunk = class_chunk
        self.set_classes(classnames)

    def set_classes(self, classnames: Sequence[str]) -> None:
        """Replace the classes that images are told apart by."""
        tokens = tokenize_classes(classnames, self.learner.template, self.clip_model.context_length)
        device = self.clip_model.logit_scale.device
        self.register_buffer("ids", tokens.ids.to(device), persistent=False)
        self.register_buffer("eot", tokens.eot.to(device), persistent=False)
        behind = tokens.ids[:, 1 + self.learner.text_slots :]
        same = (behind == behind[0]).all(dim=0).long().cumprod(dim=0).sum()
        # Words behind the prompts that all sentences share; each keeps a token of its own, from which it is read.
        self.shared_words = min(int(same), int(tokens.eot.min()) - 1 - self.learner.text_slots)
        self._groups: list[tuple[ClassGroup, Tensor]] = []
        self._recomputed = 0  # how many of the groups, from the first on
        self._kept: tuple[tuple, Tensor] | None = None

    def train(self, mode: bool = True) -> PromptedCLIP:
        """Training mode concerns the learner only; CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip_model.eval()
        return self

    def encode_text(self) -> Tensor:
        """Features of all classes, `[classes, embed]`, not normalised."""
        prompts = self.learner.text()
        features = []
        for number, (group, classes) in enumerate(self._class_groups()):
            encode = self._encode_group
            if torch.is_grad_enabled() and number < self._recomputed:
                encode = functools.partial(checkpoint, encode, use_reentrant=False)
            # The last argument is filled by the first run, and read where activations are recomputed.
            features.append(encode(group, classes, prompts, {}))
        if len(features) == 1:
            return features[0]
        return torch.cat(features)[torch.cat([classes for _, classes in self._groups]).argsort()]

    def _class_groups(self) -> list[tuple[ClassGroup, Tensor]]:
        """The groups in which classes are encoded, with their labels `[classes of the group]` on the device."""
        device = self.ids.device
        if not self._groups or self._groups[0][1].device != device:
            lengths = (self.eot + 1).tolist()
            groups = group_classes(lengths, device, self.class_chunk or None)
            held = self.class_chunk
            if held == AUTOMATIC:
                per_token = activation_bytes(self.clip_model.transformer.resblocks, self.precision.stream)
                held = automatic_held(lengths, per_token, device)
            self._recomputed = len(groups) - held_groups(groups, held)
            # They outlive this call, which may be in inference mode, and training may need them.
            with torch.inference_mode(False):
                self._groups = [(group, torch.tensor(group.classes, device=device)) for group in groups]
        return self._groups

    def _encode_group(
        self, group: ClassGroup, classes: Tensor, prompts: TowerPrompts | None, readouts: Readouts
    ) -> Tensor:
        """Features of some classes, `[classes of the group, embed]`."""
        if self._recomputed:
            # Of the group before, be it in the forward pass or where activations are computed again.
            return_unused_memory(self.ids.device)
        model, stream = self.clip_model, self.precision.stream
        ids, eot = self.ids[classes, : group.length], self.eot[classes]
        positions = model.positional_embedding[: group.length].to(stream)
        content = model.token_embedding(ids).to(stream) + positions
        slots = slice(1, 1 + self.learner.text_slots)
        own = slots.stop + self.shared_words
        segments = [content[:1, : slots.start], content[:1, slots.stop : own], content[:, own:]]
        source = TowerInput(
            segments=[segment for segment in segments if segment.shape[1]],
            slot=1,
            enter=lambda tokens: tokens + positions[slots],
            causal=True,
            read=eot - own,
            total=len(self.eot),
            counted=torch.arange(slots.stop, group.length, device=eot.device) <= eot[:, None],
            samples=None if len(classes) == len(self.eot) else classes,
            readouts=readouts,
        )
        at_eot = run_tower(model.transformer.resblocks, source, prompts)
        return model.ln_final(at_eot).to(model.text_projection.dtype) @ model.text_projection

    def encode_image(self, images: Tensor) -> Tensor:
        """Features of `images` `[batch, 3, height, width]`: `[batch, embed]`, not normalised."""
        visual, stream = self.clip_model.visual, self.precision.stream
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2).to(stream)
        cls = visual.class_embedding.to(stream).expand(len(patches), 1, -1)
        content = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(stream)
        source = TowerInput(
            segments=[visual.ln_pre(content)],
            slot=0,
            enter=visual.ln_pre,
            causal=False,
            read=torch.zeros(len(images), dtype=torch.long, device=images.device),
            total=len(images),
        )
        cls = run_tower(visual.transformer.resblocks, source, self.learner.vision())
        return visual.ln_post(cls).to(visual.proj.dtype) @ visual.proj

    def class_features(self) -> Tensor:
        """Normalised features of all classes, `[classes, embed]` in fp32.

        Without gradients they are computed once per state of the learner: an in-place change of its tensors raises
        their version counters, and moving the model changes where they lie. What raises no counter, like a fused
        optimiser, comes with a forward pass for the gradient, which forgets them; a bare write to `.data` does not,
        and needs `set_classes`.
        """
        if torch.is_grad_enabled():
            self._kept = None
            return F.normalize(self.encode_text().float(), dim=-1)
        tensors = [*self.learner.parameters(), *self.learner.buffers()]
        state = self.ids.device, *((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, F.normalize(self.encode_text().float(), dim=-1)
        return self._kept[1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, classes]` in fp32: CLIP's scaled cosine similarity of image and class features."""
        image_features = F.normalize(self.encode_image(images).float(), dim=-1)
        return self.clip_model.logit_scale.exp().float() * image_features @ self.class_features().t()
