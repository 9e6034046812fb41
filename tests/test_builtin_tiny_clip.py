"""The shipped `tiny` weights, and the script that makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.tools import pretrain_tiny_clip as script
from trainers.prompting.core.openai_clip import CLIP, build_model, clip

REPOSITORY = Path(__file__).parent.parent
WEIGHTS = REPOSITORY / "trainers" / "prompting" / "weights" / "tiny_clip.npz"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def tiny(arrays) -> CLIP:
    return build_model({key: torch.tensor(value.astype(np.float32)) for key, value in arrays.items()}).float()


def test_the_file_is_small_and_a_complete_state_dict(arrays):
    assert WEIGHTS.stat().st_size <= 4 * 2**20
    fresh = CLIP(**script.ARCHITECTURE).state_dict()
    assert {key: value.shape for key, value in arrays.items()} == {key: value.shape for key, value in fresh.items()}
    assert {key for key, value in arrays.items() if value.dtype != np.float16} == {"logit_scale"}


def test_openais_build_model_reads_the_sizes_from_it(tiny):
    assert tiny.visual.input_resolution == script.PICTURE
    assert len(tiny.transformer.resblocks) == len(tiny.visual.transformer.resblocks) == 4
    assert 1.0 < tiny.logit_scale.exp() <= 100.01


def test_words_of_no_caption_keep_their_random_signs(arrays):
    embedding = arrays["token_embedding.weight"]
    names = [name for group, _ in script.GROUPS for name in group]
    seen = clip.tokenize([template.format(name) for template in script.TEMPLATES for name in names]).unique()
    unseen = np.setdiff1d(np.arange(len(embedding)), seen.numpy())
    assert set(np.unique(np.abs(embedding[unseen]))) == {np.float16(0.02)}


def test_it_knows_real_digits_above_chance_and_leaves_room_to_learn(tiny, tmp_path):
    """ "a photo of a {}." on the test split; chance is 20% on the halves and 10% on all."""
    for subset, low, high in (("base", 35, 90), ("new", 35, 90), ("all", 25, 85)):
        data = script.built_in("Digits", subset, str(tmp_path))
        features, labels = script.features_of(tiny, data.test)
        assert low < script.zero_shot_accuracy(tiny, features, labels, data.classnames) < high


def test_cut_text_features_are_clips_own(tiny):
    tokens = clip.tokenize(["zero", script.TEMPLATES[-1].format("yin yang")])
    with torch.no_grad():
        assert torch.allclose(script.text_features(tiny, tokens), tiny.encode_text(tokens), atol=1e-5)


def test_the_loss_has_one_text_per_image_and_several_images_per_text():
    """Two images share the first text. By hand, with logits of 1 for equal unit vectors and 0 for orthogonal ones."""
    text = torch.eye(2)
    loss = script.contrastive_loss(text[[0, 0, 1]], text, torch.tensor([0, 0, 1]), torch.tensor(1.0))
    e = np.exp(1.0)
    by_image = np.log(e + 1) - 1
    by_text = (np.log(2 * e + 1) - 1 + np.log(e + 2) - 1) / 2
    assert loss.item() == pytest.approx((by_image + by_text) / 2, abs=1e-6)


@pytest.fixture
def pretrained(monkeypatch, tmp_path):
    """The bytes that a two-step pre-training at a very small size writes."""
    sizes = {"vision_layers": 1, "transformer_layers": 1, "vision_width": 64}
    small = dict(ARCHITECTURE={**script.ARCHITECTURE, **sizes}, STEPS=2, BATCH=8, WARM_UP=1, THREADS=1)
    for name, value in small.items():
        monkeypatch.setattr(script, name, value)

    def run(seed: int) -> bytes:
        monkeypatch.setattr(script, "SEED", seed)
        path = tmp_path / "tiny.npz"
        script.save(script.pretrain(), path)
        return path.read_bytes()

    return run


def test_pretraining_repeats_to_the_bit(pretrained):
    assert pretrained(seed=1) == pretrained(seed=1) != pretrained(seed=2)
