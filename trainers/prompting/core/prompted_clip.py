"""A frozen CLIP with a learner's prompts, over a set of classes.

Exact shortcuts: sentences end at their EOT where later tokens cannot reach a feature, as under the causal mask;
classes of similar length are encoded together; without gradients the text features are cached until a parameter
changes; with gradients, activations are held for as many classes as memory allows and recomputed for the others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .batching import ClassGroup, group_classes, held_batches, images_together
from .class_tokens import place_slots, tokenize_classes, words_of
from .clip_weights import PRECISIONS, Precision, has_vision_transformer
from .cuda_graph import AUTO, OFF, Branch, RecordedTests
from .design import design_of
from .learner import FixedSentence, PromptLearner, Readout, TowerPrompts
from .memory import automatic_held, return_unused_memory
from .tower import Readouts, TowerInput, activation_bytes, run_tower

AUTOMATIC = 0


class TextBatch(NamedTuple):
    """Input of one pass of the text tower: some classes; for a conditional learner, each for some images.

    Tensors are on the device.

    Attributes:
        classes: labels `[classes of the batch]`; with several templates, of sentences.
        samples: the same; None for all, in order.
        ids: tokens `[classes, tokens of the longest sentence]`.
        read: `[images * classes]`, position of the token whose feature is read, image by image.
        readers: `[classes, tokens after the prompts]`, as in `TowerInput`: all tokens up to EOT alike.
        images: slice of the images; only the first if text does not depend on images.
    """

    classes: Tensor
    samples: Tensor | None
    ids: Tensor
    read: Tensor
    readers: Tensor
    images: slice


class PromptedCLIP(nn.Module):
    """See the module. Only the learner's parameters train; no state dict contains the classes.

    Args:
        clip_model: CLIP in OpenAI's modules, from `clip_weights.load_clip` for the same `precision`.
        learner: the prompts.
        classnames: in label order.
        precision: of the towers.
        class_chunk: classes whose activations are held at once for the gradient; the others are recomputed. A chunk
            also limits the size of groups, so it changes results by rounding. AUTOMATIC decides by the free memory,
            and changes no bit.
        graph: `off` records no tests on CUDA (`cuda_graph`).

    Attributes:
        learned: `[classes]` bool, whether the learner was trained on a class; None: on all. It matters to tests of
            learners whose images have two features.
    """

    learned: Tensor | None

    def __init__(
        self,
        clip_model: nn.Module,
        learner: PromptLearner,
        classnames: Sequence[str],
        precision: Precision = PRECISIONS["fp32"],
        class_chunk: int = AUTOMATIC,
        graph: str = AUTO,
    ):
        super().__init__()
        self.clip_model = clip_model.eval().requires_grad_(False)
        self.learner = learner
        self.precision = precision
        self.class_chunk = class_chunk
        self.records_tests = graph != OFF and learner.recordable
        self._recorded_tests = RecordedTests()
        self.set_classes(classnames)

    def set_classes(self, classnames: Sequence[str]) -> None:
        """Replace the classes."""
        self.learner.set_class_count(len(classnames))
        self.classnames = list(classnames)
        if self.learner.class_sentence:
            names = [name.replace("_", " ") for name in classnames]
            sentences = [self.learner.class_sentence.format(name) for name in names]
            features = F.normalize(encode_sentences(self.clip_model, sentences, self.precision), dim=-1)
            self.learner.register_buffer("class_features", features, persistent=False)
        slots, context_length = self.learner.text_slots, self.clip_model.context_length
        design = design_of(self.clip_model)
        tokens = tokenize_classes(classnames, self.learner.templates, context_length, design)
        places = None
        if set(self.learner.positions) != {"end"}:
            tokens, places = place_slots(tokens, classnames, slots, self.learner.positions, design)
        device = self.clip_model.logit_scale.device
        self.register_buffer("ids", tokens.ids.to(device), persistent=False)
        self.register_buffer("eot", tokens.eot.to(device), persistent=False)
        self.register_buffer("learned", None, persistent=False)
        self.register_buffer("places", None if places is None else places.to(device), persistent=False)
        self.start = words_of(design).first
        self.lengths = (tokens.eot + 1).tolist() if design.cut_at_end else [tokens.ids.shape[1]] * len(tokens.ids)
        after = tokens.ids[:, self.start + slots :]
        same = (after == after[0]).all(dim=0).long().cumprod(dim=0).sum()
        # Number of words after the prompts that all sentences share; at least one token, the one read, stays separate.
        # Without a causal mask they see what differs.
        alone = places is not None or not design.causal
        self.shared_words = 0 if alone else min(int(same), min(self.lengths) - 1 - self.start - slots)
        # By device and numbers of images and sentences. They stay, because a recorded step goes on reading them.
        self._plans: dict[tuple, tuple[list[TextBatch], int, Tensor | None]] = {}
        self._kept: tuple[tuple, Tensor] | None = None
        self._anchors: Tensor | None = None
        shared = dict(precision=self.precision, class_chunk=self.class_chunk)
        self.router = self.learner.router(functools.partial(PromptedCLIP, self.clip_model, **shared), self.classnames)

    def train(self, mode: bool = True) -> PromptedCLIP:
        """Set the learner's mode; CLIP stays in evaluation mode."""
        super().train(mode)
        if mode:
            self._recorded_tests.forget()
        self.clip_model.eval()
        return self

    def encode_text(self, image_features: Tensor | None = None, chosen: Tensor | None = None) -> Tensor:
        """Features of all sentences, not normalised: `[sentences, embed]`.

        Sentences are in label order; with several templates, all sentences of the first come first.

        Args:
            image_features: for a conditional learner, normalised `[images, embed]` in fp32; the result is
                `[images, sentences, embed]`.
            chosen: numbers of some templates, `[m]` on the device, of which a class's sentences have equal numbers of
                words; the sentences are those of these alone, in this order. None: of all templates.
        """
        images = 1 if image_features is None else len(image_features)
        prompts = self.learner.text() if image_features is None else None
        batches, recomputed, order = self._batches(images, None if chosen is None else len(chosen))
        if chosen is not None:
            batches = [self._of_templates(batch, chosen) for batch in batches]
        features: dict[int, list[Tensor]] = {}
        for number, batch in enumerate(batches):
            encode = self._encode_batch
            if torch.is_grad_enabled() and number < recomputed:
                encode = functools.partial(
                    checkpoint, encode, use_reentrant=False, preserve_rng_state=not self.learner.recordable
                )
            given = None if image_features is None else image_features[batch.images]
            # The first run fills the last argument; the recomputation of activations reads it.
            encoded = encode(batch, prompts, given, recomputed > 0, {})
            shape = batch.images.stop - batch.images.start, len(batch.classes)
            features.setdefault(batch.images.start, []).append(encoded.unflatten(0, shape))
        by_images = [_concatenated(groups, dim=1) for groups in features.values()]
        encoded = _concatenated(by_images, dim=0)
        encoded = encoded if order is None else encoded[:, order]
        return encoded[0] if image_features is None else encoded

    def _batches(self, images: int, templates: int | None = None) -> tuple[list[TextBatch], int, Tensor | None]:
        """The batches, the number of first ones that are recomputed for the gradient, and what sorts their classes.

        Args:
            templates: number of the first ones whose sentences are encoded; None: of all.
        """
        device = self.ids.device
        lengths = self.lengths if templates is None else self.lengths[: templates * len(self.classnames)]
        if (device, images, len(lengths)) not in self._plans:
            groups = group_classes(lengths, device, self.class_chunk or None)
            most = images_together(groups, device, self.class_chunk or None)
            spans = [slice(start, min(start + most, images)) for start in range(0, max(1, images), most)]
            held = self.class_chunk
            if held == AUTOMATIC:
                blocks, adapted = self.clip_model.transformer.resblocks, self.learner.beside("text")
                per_token = activation_bytes(blocks, self.precision.stream, adapted)
                held = automatic_held(lengths * images, per_token, device)
            # They outlive this call, which may be in inference mode, and training may need them.
            with torch.inference_mode(False):
                batches = [self._batch(group, span) for span in spans for group in groups]
                labels = [label for group in groups for label in group.classes]
                order = None if len(groups) == 1 else torch.tensor(labels).argsort().to(device)
            rows = [len(batch.classes) * (batch.images.stop - batch.images.start) for batch in batches]
            self._plans[device, images, len(lengths)] = batches, len(batches) - held_batches(rows, held), order
        return self._plans[device, images, len(lengths)]

    def _of_templates(self, batch: TextBatch, chosen: Tensor) -> TextBatch:
        """A batch of the first templates' sentences with those of the chosen ones in their place."""
        number = len(self.classnames)
        classes = chosen[batch.classes // number] * number + batch.classes % number
        return batch._replace(classes=classes, samples=classes, ids=self.ids[classes, : batch.ids.shape[1]])

    def _batch(self, group: ClassGroup, images: slice) -> TextBatch:
        classes = torch.tensor(group.classes, device=self.ids.device)
        eot = self.eot[classes]
        after = torch.arange(self.start + self.learner.text_slots, group.length, device=eot.device)
        counted = (after <= eot[:, None]).float()
        read = torch.full_like(eot, group.length - 1) if design_of(self.clip_model).reads_last else eot
        return TextBatch(
            classes=classes,
            samples=None if len(classes) == len(self.lengths) else classes,
            ids=self.ids[classes, : group.length],
            read=read.repeat(images.stop - images.start),
            readers=counted / counted.mean(dim=1, keepdim=True),
            images=images,
        )

    def _encode_batch(
        self,
        batch: TextBatch,
        prompts: TowerPrompts | None,
        image_features: Tensor | None,
        bounded: bool,
        readouts: Readouts,
    ) -> Tensor:
        """Features of a batch, `[images * classes, embed]`, image by image.

        Args:
            prompts: of the text tower; a conditional learner computes them from `image_features` instead.
            bounded: trim the heap first, in the forward pass and in the recomputation of activations.
        """
        if bounded:
            return_unused_memory(self.ids.device)
        if image_features is not None:
            prompts = self.learner.text(image_features)
        model, stream = self.clip_model, self.precision.stream
        images = batch.images.stop - batch.images.start
        positions = model.positional_embedding[: batch.ids.shape[1]].to(stream)
        content = model.token_embedding(batch.ids).to(stream)
        if self.places is not None:
            content = self._written(content, self.places[batch.classes], prompts, batch.samples)
            prompts = None
        content = content + positions
        start = self.start
        slots = slice(start, start + (self.learner.text_slots if self.places is None else 0))
        own = slots.stop + self.shared_words
        segments = [content[:1, : slots.start], content[:1, slots.stop : own], content[:, own:]]
        if images > 1:
            segments[-1] = segments[-1].repeat(images, 1, 1)
        source = TowerInput(
            segments=[segment for segment in segments if segment.shape[1]],
            slot=min(start, 1),
            enter=lambda tokens: tokens + positions[slots],
            causal=design_of(model).causal,
            read=batch.read - own,
            total=len(self.lengths),
            readers=batch.readers,
            samples=batch.samples,
            readouts=readouts,
        )
        read = run_tower(model.transformer.resblocks, source, prompts, self.learner.beside("text")).read
        features = model.ln_final(read).to(model.text_projection.dtype) @ model.text_projection
        bias = getattr(model, "text_bias", None)
        return features if bias is None else features + bias

    def _written(self, content: Tensor, places: Tensor, prompts: TowerPrompts, samples: Tensor | None) -> Tensor:
        """Embeddings `[classes, tokens, width]` with the prompts at `places` `[classes, b]`, before positions."""
        readout = Readout(_refuse_to_read, samples, len(self.lengths))
        tokens = prompts.at(0, readout).to(content.dtype).expand(*places.shape, -1)
        return content.scatter(1, places[..., None].expand_as(tokens), tokens)

    def encode_image(self, images: Tensor, prompted: bool = True) -> Tensor:
        """Features of `images` `[batch, 3, height, width]`: `[batch, embed]`, not normalised; the first of several.

        Args:
            prompted: with the learner's prompts; False gives the frozen CLIP's features.
        """
        return self._encode_images(images, prompted)[0]

    def _encode_images(self, images: Tensor, prompted: bool) -> list[Tensor]:
        visual, stream = self.clip_model.visual, self.precision.stream
        if not has_vision_transformer(self.clip_model):
            return [visual(images)]
        pooled = design_of(self.clip_model).pooled
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2).to(stream)
        if visual.class_embedding is not None:
            cls = visual.class_embedding.to(stream).expand(len(patches), 1, -1)
            patches = torch.cat([cls, patches], dim=1)
        content = patches + visual.positional_embedding.to(stream)
        source = TowerInput(
            segments=[visual.ln_pre(content)],
            slot=0,
            enter=visual.ln_pre,
            causal=False,
            read=0 if pooled is None else slice(*pooled.indices(content.shape[1])[:2]),
            total=len(images),
        )
        parts = (self.learner.vision(), self.learner.beside("image")) if prompted else (None,)
        read, slots = run_tower(visual.transformer.resblocks, source, *parts)
        if pooled is not None:
            return [visual.pool(read.float())]
        features = [visual.ln_post(read).to(visual.proj.dtype) @ visual.proj]
        second = self.learner.slot_projection(visual.proj) if prompted else None
        if second is not None:
            features.append(visual.ln_post(slots()).mean(dim=1).to(visual.proj.dtype) @ second.to(visual.proj.dtype))
        return features

    def class_features(self) -> Tensor:
        """Normalised features of all classes, `[classes, embed]` in fp32; not for conditional learners.

        Those of a learner that is not `renormalised` are shorter.

        Without gradients, or without prompts in the text tower, they are cached per state of the learner: an in-place
        change of its tensors raises their version counters, and moving the model changes their addresses. A fused
        optimiser raises no counter, but its forward pass with gradient clears the cache; a recorded pass does not, nor
        does a bare write to `.data`: call `forget_class_features`.
        """
        trained = self.learner.trains_text
        if torch.is_grad_enabled() and trained:
            self._kept = None
            return self._normalised_text()
        tensors = [*self.learner.parameters(), *self.learner.buffers()] if trained else []
        state = self.ids.device, *((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if self._kept is None or self._kept[0] != state:
            # This order matters: leaving inference mode turns gradients on again.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = state, self._normalised_text()
        return self._kept[1]

    def forget_class_features(self) -> None:
        """Compute them again for the next test, unless they depend on no parameter."""
        if self.learner.trains_text:
            self._kept = None
        if self.router is not None:
            self.router.forget_class_features()

    def _normalised_text(self, image_features: Tensor | None = None) -> Tensor:
        if self.router is not None:
            return self.router.class_features()
        features = self._normalised_sentences(self.encode_text(image_features))
        if len(self.learner.templates) > 1:
            features = self._by_template(features).mean(dim=-3)
            features = F.normalize(features, dim=-1) if self.learner.renormalised else features
        return features if self.learner.anchors is None else F.normalize(features + self.class_anchors(), dim=-1)

    def sentence_features(self, chosen: Tensor | None = None) -> Tensor:
        """Normalised features in fp32 of each class's sentences, `[templates, classes, embed]`.

        Not for conditional learners; without a learner's `anchors`.

        Args:
            chosen: numbers of some templates, as in `encode_text`; None: all.
        """
        return self._by_template(self._normalised_sentences(self.encode_text(chosen=chosen)))

    def _normalised_sentences(self, encoded: Tensor) -> Tensor:
        return F.normalize(self.learner.adapt("text", encoded.float()), dim=-1)

    def _by_template(self, features: Tensor) -> Tensor:
        """`[..., sentences, embed]` as `[..., templates, classes, embed]`."""
        return features.unflatten(-2, (-1, len(self.classnames)))

    def class_anchors(self) -> Tensor:
        """The features that a learner's `anchors` gives for the classes, `[classes, embed]`; computed once."""
        if self._anchors is None or self._anchors.device != self.ids.device:
            with torch.inference_mode(False), torch.no_grad():
                self._anchors = self.learner.anchors(self.clip_model, self.classnames)
        return self._anchors

    def features(self, images: Tensor, frozen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalised features in fp32 of `images` `[batch, 3, height, width]` and of the classes.

        Args:
            frozen: the images' `frozen_features`, where they are known, to save a learner with `anchors` their
                computation.

        Returns:
            `[batch, embed]`, and `[classes, embed]`, or `[batch, classes, embed]` for a conditional learner. Of two
            features of an image, their `fused` one.
        """
        several, class_features = self.all_features(images, frozen)
        return self.fused(several), class_features

    def all_features(self, images: Tensor, frozen: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """`features`, with a list of all features of the images, which are one or two."""
        if self.learner.conditional:
            several = self.all_image_features(images, frozen)
            return several, self._normalised_text(self.fused(several))
        branch = Branch(images.device)
        several = self.all_image_features(images, frozen)
        with branch:
            class_features = self.class_features()
        return several, class_features

    def fused(self, several: Sequence[Tensor]) -> Tensor:
        """One feature for those of `all_features`, whose logits are the weighted mean of theirs."""
        if len(several) == 1:
            return several[0]
        return sum(share * one for share, one in zip(self.shares(len(several)), several))

    def shares(self, number: int) -> list[float]:
        """The weights of an image's features in its logits."""
        return [1.0] if number == 1 else [self.learner.class_share, 1 - self.learner.class_share]

    def frozen_features(self, images: Tensor) -> Tensor:
        """Normalised features of the CLIP without prompts, `[batch, embed]` in fp32, without gradient."""
        with torch.no_grad():
            return F.normalize(self.encode_image(images, prompted=False).float(), dim=-1)

    def image_features(self, images: Tensor, frozen: Tensor | None = None) -> Tensor:
        """The first of `features`."""
        return self.fused(self.all_image_features(images, frozen))

    def all_image_features(self, images: Tensor, frozen: Tensor | None = None) -> list[Tensor]:
        """Those of `all_features`. On CUDA a test, without gradients, is recorded (`cuda_graph`)."""
        recordable = self.records_tests and images.is_cuda and frozen is None
        if not recordable or self.training or torch.is_grad_enabled():
            return self._image_features(images, frozen)
        parts = self.clip_model.visual, self.learner
        place = tuple(tensor.data_ptr() for part in parts for tensor in (*part.parameters(), *part.buffers()))
        together = self._recorded_tests(
            lambda images: torch.stack(self._image_features(images)), images, place, self.learner.observed
        )
        return list(together)

    def _image_features(self, images: Tensor, frozen: Tensor | None = None) -> list[Tensor]:
        several = self._encode_images(images, prompted=True)
        several = [F.normalize(self.learner.adapt("image", features.float()), dim=-1) for features in several]
        if self.learner.anchors is None:
            return several
        frozen = self.frozen_features(images) if frozen is None else frozen
        return [F.normalize(features + frozen, dim=-1) for features in several]

    def logits(self, image_features: Tensor, class_features: Tensor) -> Tensor:
        """CLIP's scaled cosine similarity of the results of `features`, or what a learner's router makes of them:
        `[batch, classes]` in fp32.
        """
        if self.router is not None:
            return self.router.logits(image_features, class_features, self.clip_model.logit_scale.exp().float())
        return self.logits_of(image_features, class_features)

    def logits_of(self, image_features: Tensor, class_features: Tensor) -> Tensor:
        """CLIP's scaled cosine similarity of any normalised features, and its bias, in fp32."""
        scaled = self.clip_model.logit_scale.exp().float() * image_features
        if class_features.dim() == 3:
            logits = (class_features @ scaled[:, :, None])[..., 0]
        else:
            logits = scaled @ class_features.t()
        bias = getattr(self.clip_model, "logit_bias", None)
        return logits if bias is None else logits + bias

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[batch, classes]` in fp32 of `images` `[batch, 3, height, width]`."""
        several, class_features = self.all_features(images)
        logits = self.logits(self.fused(several), class_features)
        if len(several) == 1 or self.learner.training or self.learner.fuses == "always":
            return logits
        if self.learner.fuses == "learned" and self.learned is None:
            return logits
        by_first = self.logits(several[0], class_features)
        return by_first if self.learner.fuses == "never" else torch.where(self.learned, logits, by_first)


def _concatenated(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _refuse_to_read(tokens: Tensor | None, relative: bool) -> Tensor:
    raise ValueError("Attention is read of prompts after SOS only; the learner's position is not 'end'")


def encode_sentences(
    clip_model: nn.Module, sentences: Sequence[str], precision: Precision = PRECISIONS["fp32"]
) -> Tensor:
    """The frozen CLIP's features of any sentences, `[sentences, embed]` in fp32, not normalised, without gradient.

    Raises:
        InputError: a sentence is longer than the checkpoint's context.
    """
    # Sentences are templates without a place for the name, so their braces are escaped.
    templates = [sentence.replace("{", "{{").replace("}", "}}") for sentence in sentences]
    with torch.no_grad():
        return PromptedCLIP(clip_model, FixedSentence(*templates), [""], precision).encode_text().float()
