"""The core's shortcuts change no number: groups of classes, recomputed activations, what is computed once.

The reference is the uncut work, or OpenAI's own blocks run over full sequences.
"""

from __future__ import annotations

import gc

import pytest
import torch
from conftest import make_clip
from helpers.learners import TOLERANCE, make_learner
from helpers.objectives import LABELS
from torch.nn import functional as F

from trainers.prompting.core import batching, memory, tower
from trainers.prompting.core.attention import attend, attention_to
from trainers.prompting.core.class_tokens import tokenize_classes
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import PromptLearner, TowerPrompts
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.tower import activation_bytes

VARIANTS = [dict(variant="paper"), dict(variant="released"), dict(detach=False), dict(relative=True)]
WORDS = ["cat", "dog", "sun", "sea", "oak", "fly"] * 4
MANY = [f"{'very ' * (number % 4)}{word}" for number, word in enumerate(WORDS)]


@pytest.fixture(params=["segments", "one sequence"])
def segments_or_one_sequence(request, monkeypatch) -> None:
    monkeypatch.setattr(tower, "SEGMENTS_COST", {"cpu": -1 if request.param == "segments" else float("inf")})


both_ways = pytest.mark.usefixtures("segments_or_one_sequence")


def results(clip_model, images, classnames, learner, chunk=0, precision="fp32") -> list[torch.Tensor]:
    """Logits and gradients."""
    model = PromptedCLIP(clip_model, learner, classnames, PRECISIONS[precision], chunk)
    logits = model(images)
    return [logits.detach(), *torch.autograd.grad(F.cross_entropy(logits, LABELS), list(learner.parameters()))]


@both_ways
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_recomputed_activations_give_the_same_bits(small_clip, images, settings, monkeypatch):
    learner = make_learner(small_clip, depth=3, **settings)
    monkeypatch.setattr(batching, "LARGEST_GROUP", {"cpu": 60})
    held = results(small_clip, images, MANY, learner)
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)
    model = PromptedCLIP(small_clip, learner, MANY)
    model(images)
    pieces, recomputed, _ = model._batches(1)
    assert 1 < len(pieces) == recomputed + 1
    torch.testing.assert_close(results(small_clip, images, MANY, learner), held, rtol=0, atol=0)


@both_ways
def test_gates_of_classes_come_in_label_order_from_groups_too(small_clip, images):
    learner = make_learner(small_clip, depth=3)
    gates = []
    for chunk in (0, 5):
        PromptedCLIP(small_clip, learner, MANY, class_chunk=chunk)(images).sum().backward()
        gates.append({tower: dict(layers) for tower, layers in learner.last_gates.items()})
    torch.testing.assert_close(*gates, **TOLERANCE)


class PromptsByLayer(PromptLearner):
    """Text prompts that are given: `[b, width]` for all classes, `[classes, b, width]`, or None to keep the slots.

    Args:
        first: layer without slots before it.
        mixed: layers where a quarter of a prompt is what the layer before left in the slots.
    """

    trains_text = True

    def __init__(self, layers: list[torch.Tensor | None], first: int = 0, mixed: tuple[int, ...] = ()):
        super().__init__()
        self.layers, self.template, self.first, self.mixed = layers, "X X of a {}.", first, mixed
        self.length = layers[first].shape[-2]
        self.text_slots = 0 if first else self.length

    def text(self) -> TowerPrompts:
        def at(layer, readout):
            assert (readout.left is None) is (layer == self.first)
            given = self.layers[layer]
            by_class = given is not None and given.dim() == 3 and readout.samples is not None
            given = given[readout.samples] if by_class else given
            return 0.75 * given + 0.25 * readout.left() if layer in self.mixed else given

        return TowerPrompts(self.length, len(self.layers), at, first=self.first)


def features_of_whole_sentences(clip_model, learner, classnames) -> torch.Tensor:
    """OpenAI's own blocks over all tokens of every sentence."""
    slots = 1 + learner.length
    tokens = tokenize_classes(classnames, learner.templates, clip_model.context_length)
    x = clip_model.token_embedding(tokens.ids) + clip_model.positional_embedding[: tokens.ids.shape[1]]
    end = tokens.eot
    for layer, block in enumerate(clip_model.transformer.resblocks):
        prompts = learner.layers[layer] if layer < len(learner.layers) else None
        if prompts is not None:
            prompts = prompts + clip_model.positional_embedding[1:3] if layer == 0 else prompts
            prompts = 0.75 * prompts + 0.25 * x[:, 1:slots] if layer in learner.mixed else prompts
            inserted = 0 < layer == learner.first
            x = torch.cat([x[:, :1], prompts.expand(len(x), -1, -1), x[:, 1 if inserted else slots :]], dim=1)
            end = end + learner.length if inserted else end
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        normed = block.ln_1(x).transpose(0, 1)
        x = x + block.attn(normed, normed, normed, attn_mask=mask)[0].transpose(0, 1)
        x = x + block.mlp(block.ln_2(x))
    return clip_model.ln_final(x[torch.arange(len(x)), end]) @ clip_model.text_projection


ALL, EACH, KEPT, NOT_YET = "the same for all", "one per class", "kept", "no slots yet"
MIXED = {f"{kind}, mixed": kind for kind in (ALL, EACH)}
ALL_MIXED, EACH_MIXED = MIXED


@both_ways
@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize(
    "plan",
    [
        *[(ALL,), (EACH,), (ALL, EACH, ALL), (EACH, ALL, EACH), (ALL, ALL, EACH), (ALL, KEPT, EACH), (EACH, KEPT)],
        *[
            (NOT_YET, ALL),
            (NOT_YET, EACH, ALL),
            (NOT_YET, ALL, KEPT),
            (NOT_YET, NOT_YET, ALL),
            (NOT_YET, NOT_YET, EACH),
        ],
        *[(ALL, ALL_MIXED, EACH_MIXED), (EACH, EACH_MIXED), (NOT_YET, ALL, EACH_MIXED), (NOT_YET, EACH, ALL_MIXED)],
    ],
    ids=lambda plan: ", ".join(plan),
)
def test_what_differs_by_class_is_computed_by_class(small_clip, classnames, plan, chunk):
    torch.manual_seed(0)
    shapes = {ALL: (2, 64), EACH: (len(classnames), 2, 64)}
    kinds = [MIXED.get(kind, kind) for kind in plan]
    layers = [torch.randn(shapes[kind], requires_grad=True) if kind in shapes else None for kind in kinds]
    mixed = tuple(layer for layer, kind in enumerate(plan) if kind in MIXED)
    learner = PromptsByLayer(layers, plan.count(NOT_YET), mixed)
    fast = PromptedCLIP(small_clip, learner, classnames, class_chunk=chunk).encode_text()
    slow = features_of_whole_sentences(small_clip, learner, classnames)
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    given = [layer for layer in layers if layer is not None]
    direction = torch.randn_like(fast)
    gradients = [torch.autograd.grad((features * direction).sum(), given) for features in (fast, slow)]
    torch.testing.assert_close(*gradients, **TOLERANCE)


def test_a_wrong_number_of_prompts_is_refused(small_clip, classnames):
    learner = PromptsByLayer([torch.zeros(2, 64), torch.zeros(3, 64)])
    with pytest.raises(ValueError, match="3 prompts for 2 slots in layer 1"):
        PromptedCLIP(small_clip, learner, classnames).encode_text()


class ReadingLearner(PromptLearner):
    """Prompts enter layer 0; layer 1 looks at its slots, with or without gradient, and keeps them."""

    def __init__(self, looks: str):
        super().__init__()
        self.template, self.text_slots, self.looks = "X X {}.", 2, looks
        self.prompts = torch.nn.Parameter(torch.randn(2, 64, generator=torch.Generator().manual_seed(0)))

    def text(self) -> TowerPrompts:
        def at(layer, readout):
            if layer == 0:
                return self.prompts
            if self.looks != "never":
                with torch.no_grad():
                    readout()
            if self.looks == "twice":
                assert readout().requires_grad
            return None

        return TowerPrompts(2, 2, at)


@both_ways
@pytest.mark.parametrize("chunk", [0, 2])
def test_looking_at_slots_without_gradient_leaves_their_gradient_as_it_is(small_clip, classnames, chunk):
    gradients = []
    for looks in ("never", "once", "twice"):
        learner = ReadingLearner(looks)
        features = PromptedCLIP(small_clip, learner, classnames, class_chunk=chunk).encode_text()
        gradients.append(torch.autograd.grad(features.square().sum(), learner.prompts)[0])
    torch.testing.assert_close(gradients[1], gradients[0], **TOLERANCE)
    torch.testing.assert_close(gradients[2], gradients[0], **TOLERANCE)


class DroppingLearner(ReadingLearner):
    """Dropout on the prompts: every forward pass draws another mask."""

    def text(self) -> TowerPrompts:
        return TowerPrompts(2, 1, lambda layer, readout: F.dropout(self.prompts, 0.5))


@both_ways
def test_recomputation_repeats_random_draws(small_clip, classnames, monkeypatch):
    learner = DroppingLearner("never")
    gradients = []
    for recompute in (False, True):
        model = PromptedCLIP(small_clip, learner, classnames, class_chunk=1)
        pieces, recomputed, order = model._batches(1)
        assert recomputed > 0
        plan = pieces, recomputed if recompute else 0, order
        monkeypatch.setattr(model, "_batches", lambda images, templates, plan=plan: plan)
        torch.manual_seed(0)
        gradients.append(torch.autograd.grad(model.encode_text().square().sum(), learner.prompts)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@both_ways
def test_training_goes_on_after_an_evaluation_in_inference_mode(small_clip, images, classnames):
    learner = make_learner(small_clip, depth=2)
    model = PromptedCLIP(small_clip, learner, classnames, class_chunk=1)
    with torch.inference_mode():
        model.set_classes(classnames)
        evaluated = model(images).clone()
    trained = model(images)
    trained.sum().backward()
    torch.testing.assert_close(trained.detach(), evaluated, **TOLERANCE)


@both_ways
@pytest.mark.parametrize(
    "settings", [dict(aggregation="none"), dict(variant="paper"), dict(variant="released")], ids=str
)
def test_a_batch_without_images_has_no_logits(small_clip, images, classnames, settings):
    model = PromptedCLIP(small_clip, make_learner(small_clip, depth=2, **settings), classnames)
    assert model(images[:0]).shape == (0, len(classnames))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keys", [9, 33, 65, 199])
def test_readouts_on_cuda_equal_the_definition(dtype, keys):
    query, key = (torch.randn(3, 2, keys, 64, device="cuda").to(dtype) for _ in range(2))
    fused = attention_to(query, key, slice(1, 3), causal=True).float()
    exact = attention_to(query.double().cpu(), key.double().cpu(), slice(1, 3), causal=True)
    torch.testing.assert_close(fused.cpu(), exact.float(), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("queries", [1, 4, 7])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("slots", [slice(1, 3), slice(0, 7)])
def test_attention_of_fused_kernels_equals_its_definition(queries, causal, slots):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, queries, 4), torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 4)
    scores = query @ key.transpose(-1, -2) / 4**0.5
    for row in range(queries if causal else 0):
        scores[..., row, 7 - queries + row + 1 :] = float("-inf")
    weights = scores.softmax(dim=-1)
    for cast in (torch.Tensor.float, torch.Tensor.double):
        arguments = cast(query), cast(key)
        torch.testing.assert_close(attend(*arguments, cast(value), causal), cast(weights @ value), **TOLERANCE)
        torch.testing.assert_close(attention_to(*arguments, slots, causal), cast(weights[..., slots]), **TOLERANCE)


# Cosine of the gradients of all trained tensors, and difference of the cosines that are the logits.
BF16_GRADIENT_COSINE, BF16_LOGIT_DIFFERENCE = 0.99, 0.01


@both_ways
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_bf16_is_within_its_tolerance_of_fp32(images, variant):
    exact, rounded = make_clip(), make_clip()
    cast_matmul_weights(rounded, torch.bfloat16)
    learner = make_learner(exact, depth=3, variant=variant)
    expected = results(exact, images, MANY, learner)
    logits, *gradients = results(rounded, images, MANY, learner, precision="bf16")
    scale = exact.logit_scale.exp().item()
    assert 0 < (logits - expected[0]).abs().max() / scale < BF16_LOGIT_DIFFERENCE
    ours, reference = (torch.cat([g.flatten() for g in group]) for group in (gradients, expected[1:]))
    assert F.cosine_similarity(ours, reference, dim=0) > BF16_GRADIENT_COSINE


def held_bytes(run) -> int:
    """Memory that is held between `run` and the gradient: what autograd saves, and every tensor that Python sees."""
    held = {}

    def hold(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def visible() -> list[torch.Tensor]:
        gc.collect()
        return [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]

    before = {tensor.untyped_storage().data_ptr() for tensor in visible()}
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        result = run()  # noqa: F841
    for tensor in visible():
        hold(tensor)
    return sum(size for pointer, size in held.items() if pointer not in before)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_estimate_of_held_memory_is_near_what_is_held(variant):
    clip_model = make_clip(transformer_width=128, transformer_heads=2, transformer_layers=6)
    learner = make_learner(clip_model, depth=3, variant=variant, context="")
    held = []
    for names in (MANY * 5, MANY * 10):
        model = PromptedCLIP(clip_model, learner, names)
        held.append(held_bytes(model.encode_text))
    tokens = sum(tokenize_classes(MANY * 5, learner.templates, 77).eot + 1).item()
    estimate = activation_bytes(clip_model.transformer.resblocks, torch.float32) * tokens
    # Shared tokens and those of the last layer are not held, key and value are held with the shared ones beside them.
    assert 0.5 * estimate < held[1] - held[0] < 1.2 * estimate


def test_with_a_chunk_held_memory_does_not_grow_with_the_classes(small_clip):
    learner = make_learner(small_clip, depth=3)
    held = [
        held_bytes(PromptedCLIP(small_clip, learner, MANY * times, class_chunk=24).encode_text) for times in (2, 20)
    ]
    everything = held_bytes(PromptedCLIP(small_clip, learner, MANY * 20, class_chunk=10**6).encode_text)
    # What remains of a class are its feature and its readouts.
    assert held[1] < 1.3 * held[0] and held[1] < everything / 5
