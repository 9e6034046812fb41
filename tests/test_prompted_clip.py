"""Without prompts the core is CLIP itself; with them, each token is where it belongs and features are never stale."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.learner import FixedSentence, PromptLearner, TowerPrompts
from trainers.prompting.core.openai_clip import clip
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.learners.bmip import BMIPConfig, BMIPLearner

VIT_B16 = dict(
    embed_dim=512,
    image_resolution=224,
    vision_layers=12,
    vision_width=768,
    vision_patch_size=16,
    transformer_width=512,
    transformer_heads=8,
    transformer_layers=12,
)


@pytest.mark.parametrize(
    "make", [make_clip, lambda: load_clip("tiny"), lambda: make_clip(**VIT_B16)], ids=["small", "tiny", "ViT-B/16"]
)
def test_without_prompts_features_equal_clips(make, classnames):
    clip_model = make()
    side = clip_model.visual.input_resolution
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    sentences = [f"a photo of a {name.replace('_', ' ')}." for name in classnames]
    model = PromptedCLIP(clip_model, FixedSentence("a photo of a {}."), classnames)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images), clip_model.encode_image(images), rtol=1e-5, atol=1e-5)
        expected = clip_model.encode_text(clip.tokenize(sentences))
        torch.testing.assert_close(model.encode_text(), expected, rtol=1e-5, atol=1e-5)
        expected = clip_model(images, clip.tokenize(sentences))[0]
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-4)


class KeepingLearner(PromptLearner):
    """Prompts enter layer 0; deeper layers are asked, and keep their slots."""

    def __init__(self, depth: int):
        super().__init__()
        self.template, self.text_slots, self.depth = "X X {}.", 2, depth
        self.tokens = {64: torch.full((2, 64), 0.3), 128: torch.full((2, 128), 0.3)}

    def prompts(self, width: int) -> TowerPrompts:
        return TowerPrompts(2, self.depth, lambda layer, readout: self.tokens[width] if layer == 0 else None)

    def text(self) -> TowerPrompts:
        return self.prompts(64)

    def vision(self) -> TowerPrompts:
        return self.prompts(128)


def test_a_layer_without_new_prompts_keeps_its_slots(small_clip, images, classnames):
    shallow, asked = (PromptedCLIP(small_clip, KeepingLearner(depth), classnames)(images) for depth in (1, 3))
    torch.testing.assert_close(shallow, asked, rtol=1e-5, atol=1e-5)


def test_kept_text_features_follow_every_change_of_a_parameter(small_clip, images, classnames):
    learner = BMIPLearner(BMIPConfig(depth=2), small_clip)
    model = PromptedCLIP(small_clip, learner, classnames).eval()
    optimiser = torch.optim.SGD(learner.parameters(), lr=1.0)

    def features() -> torch.Tensor:
        with torch.no_grad():
            return model.class_features()

    def fresh() -> torch.Tensor:
        return model.class_features().detach()

    first = features()
    assert features() is first
    model(images).logsumexp(dim=1).sum().backward()
    optimiser.step()
    stepped = features()
    assert not torch.allclose(stepped, first)
    torch.testing.assert_close(stepped, fresh())
    fused = torch.optim.Adam(learner.parameters(), lr=0.1, fused=True)  # raises no version counter
    model(images).logsumexp(dim=1).sum().backward()
    fused.step()
    torch.testing.assert_close(features(), fresh())
    learner.load_state_dict({key: torch.zeros_like(value) for key, value in learner.state_dict().items()})
    torch.testing.assert_close(features(), fresh())
    # Other classes of the same number, again and again, so that memory of the old ones is used for the new ones.
    for shift in range(1, 20):
        model.set_classes(classnames[shift % 5 :] + classnames[: shift % 5])
        torch.testing.assert_close(features(), fresh())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_kept_text_features_hold_no_graph_of_the_text_tower(small_clip, classnames, mode):
    model = PromptedCLIP(small_clip, BMIPLearner(BMIPConfig(depth=2), small_clip), classnames).eval()
    with mode():
        kept = model.class_features()
    assert not kept.requires_grad and not kept.is_inference()


def test_training_mode_leaves_clip_in_evaluation_mode(small_clip, classnames):
    model = PromptedCLIP(small_clip, BMIPLearner(BMIPConfig(depth=1), small_clip), classnames).train()
    assert model.learner.training and not model.clip_model.training
