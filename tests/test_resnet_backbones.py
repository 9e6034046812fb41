"""Methods that prompt the text tower alone run on CLIP's ResNets; the others refuse them."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip

from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, load_clip
from trainers.prompting.core.learner import FixedSentence
from trainers.prompting.core.openai_clip import clip
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.learners.cocoop import CoCoOpLearner
from trainers.prompting.learners.coop import CoOpConfig, CoOpLearner
from trainers.prompting.learners.ivlp import IVLPConfig, IVLPLearner
from trainers.prompting.learners.maple import MaPLeConfig, MaPLeLearner

RESNET = dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None, embed_dim=32)


@pytest.fixture(scope="module")
def resnet():
    return make_clip(**RESNET)


def test_without_prompts_its_logits_are_clips(resnet, images, classnames):
    model = PromptedCLIP(resnet, FixedSentence("a photo of a {}."), classnames)
    tokens = clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in classnames])
    with torch.no_grad():
        torch.testing.assert_close(model(images), resnet(images, tokens)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [CoOpLearner, CoCoOpLearner])
def test_text_prompts_train_on_it(resnet, images, classnames, make):
    learner = make(CoOpConfig(length=3), resnet)
    PromptedCLIP(resnet, learner, classnames)(images).logsumexp(dim=1).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in learner.parameters())


def test_bf16_is_near_fp32(images, classnames):
    exact = PromptedCLIP(make_clip(**RESNET), FixedSentence("a {}."), classnames)
    model = make_clip(**RESNET)
    cast_matmul_weights(model, torch.bfloat16)
    rounded = PromptedCLIP(model, FixedSentence("a {}."), classnames, PRECISIONS["bf16"])
    features = exact.encode_image(images), rounded.encode_image(images).float()
    assert torch.cosine_similarity(*features).min() > 0.99


def test_language_prompting_takes_it(resnet, images, classnames):
    learner = IVLPLearner(IVLPConfig(2, 3, 0, 0), resnet)
    assert PromptedCLIP(resnet, learner, classnames)(images).shape == (4, 5)


@pytest.mark.parametrize(
    "make",
    [lambda model: IVLPLearner(IVLPConfig(2, 1, 2, 1), model), lambda model: MaPLeLearner(MaPLeConfig(2, 1), model)],
    ids=["IVLP", "MaPLe"],
)
def test_vision_prompts_are_refused(resnet, make):
    with pytest.raises(InputError, match="backbone is .*a ResNet.*ViT-B/16"):
        make(resnet)


def test_a_checkpoint_in_openais_layout_loads(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    loaded = load_clip(str(tmp_path / "resnet.pt"))
    assert loaded.visual.input_resolution == 32
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, resnet.state_dict()[name]), name
