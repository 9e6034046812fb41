"""The shipped `tiny` weights, and the script that makes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.builtin.drawing import Style, glyph_mask
from datasets.builtin.icon_fonts import EVALUATED, PRETRAINING
from experiments.tools import drawn_batches
from experiments.tools import pretrain_tiny_clip as script
from trainers.prompting.core.openai_clip import CLIP, build_model, clip
from trainers.prompting.errors import InputError

REPOSITORY = Path(__file__).parent.parent
WEIGHTS = REPOSITORY / "trainers" / "prompting" / "weights" / "tiny_clip.npz"
needs_fonts = pytest.mark.skipif(
    not all(importlib.util.find_spec(family.package) for family in (*PRETRAINING.values(), EVALUATED["Material"])),
    reason="needs qtawesome and tkinter-icons-{lucide,bs,ion,eva,gmi}",
)


@pytest.fixture(scope="module")
def drawn() -> list[drawn_batches.Drawing]:
    return drawn_batches.drawings()


@pytest.fixture(scope="module")
def names(drawn) -> drawn_batches.Names:
    return drawn_batches.Names(drawn)


@pytest.fixture(scope="module")
def vocabulary(names) -> drawn_batches.Tokens:
    return drawn_batches.Tokens(names.all)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def tiny(arrays) -> CLIP:
    return build_model({key: torch.tensor(value.astype(np.float32)) for key, value in arrays.items()}).float()


def test_the_file_is_small_and_a_complete_state_dict(arrays):
    assert WEIGHTS.stat().st_size <= 8 * 2**20
    fresh = CLIP(**script.ARCHITECTURE).state_dict()
    assert {key: value.shape for key, value in arrays.items()} == {key: value.shape for key, value in fresh.items()}
    assert {key for key, value in arrays.items() if value.dtype != np.float16} == {"logit_scale"}


def test_openais_build_model_reads_the_sizes_from_it(tiny):
    assert tiny.visual.input_resolution == script.PICTURE
    assert len(tiny.transformer.resblocks) == len(tiny.visual.transformer.resblocks) == 4
    assert 1.0 < tiny.logit_scale.exp() <= 100.01


@needs_fonts
def test_words_of_no_caption_keep_their_random_signs(arrays, vocabulary):
    embedding = arrays["token_embedding.weight"]
    unseen = np.setdiff1d(np.arange(len(embedding)), vocabulary.used)
    assert set(np.unique(np.abs(embedding[unseen]))) == {np.float16(0.02)}


def test_it_knows_real_digits_above_chance_and_leaves_room_to_learn(tiny, tmp_path):
    """ "a photo of a {}." on the test split; chance is 20% on the halves and 10% on all."""
    for subset, low, high in (("base", 35, 90), ("new", 35, 90), ("all", 25, 85)):
        data = script.built_in("Digits", subset, str(tmp_path))
        features, labels = script.features_of(tiny, data.test)
        assert low < script.zero_shot_accuracy(tiny, features, labels, data.classnames) < high


def test_the_faster_towers_are_clips_own():
    torch.manual_seed(1)
    model = CLIP(**script.ARCHITECTURE)
    images = torch.rand(2, 3, script.PICTURE, script.PICTURE)
    tokens = clip.tokenize(["zero", "a sheet of paper with a yin yang"])
    with torch.no_grad():
        assert torch.allclose(script.image_features(model, images), model.encode_image(images), atol=1e-5)
        assert torch.allclose(script.text_features(model, tokens), model.encode_text(tokens), atol=1e-5)


def test_the_loss_has_one_text_per_image_several_images_per_text_and_texts_without_images():
    """Two images share the first text. By hand, with logits of 1 for equal unit vectors and 0 for orthogonal ones."""
    text = torch.eye(3)
    loss = script.contrastive_loss(text[[0, 0, 1]], text, torch.tensor([0, 0, 1]), torch.tensor(1.0), shown=2)
    e = np.exp(1.0)
    by_image = np.log(e + 2) - 1
    by_text = (np.log(2 * e + 1) - 1 + np.log(e + 2) - 1) / 2
    assert loss.item() == pytest.approx((by_image + by_text) / 2, abs=1e-6)


def test_pretraining_reads_no_font_that_is_evaluated():
    """Font Awesome alone is both: its data set shows other styles of drawings that are known."""
    read = {font for family in PRETRAINING.values() for font, _ in family.files}
    assert read == {
        "materialdesignicons6-webfont-6.9.96.ttf",
        "fontawesome6-solid-webfont-6.7.2.ttf",
        "fontawesome6-regular-webfont-6.7.2.ttf",
        "fontawesome5-solid-webfont-5.15.4.ttf",
        "fontawesome5-regular-webfont-5.15.4.ttf",
        "codicon-0.0.36.ttf",
        "elusiveicons-webfont-2.0.ttf",
        "fonts/lucide.ttf",
        "bootstrap.ttf",
        "fonts/ionicons.ttf",
        "fonts/eva-icons.ttf",
    }
    assert not {(family.package, font) for family in EVALUATED.values() for font, _ in family.files} & {
        (family.package, font) for family in PRETRAINING.values() for font, _ in family.files
    }


@needs_fonts
def test_no_mask_of_pretraining_is_googles(drawn):
    googles = {mask.tobytes() for _, mask in drawn_batches.masks_of(EVALUATED["Material"].glyphs())}
    assert len(googles) > 4000
    assert not [one.name for one in drawn if one.family == "MaterialDesign" and one.mask.tobytes() in googles]


@needs_fonts
def test_names_with_many_families_come_first_and_characters_have_their_share(drawn, names):
    assert {"bell", "lock", "heart"} < set(names.all[:100])
    few, all_names = names.odds(300), names.odds(names.icons)
    assert few.sum() == pytest.approx(1) and all_names.sum() == pytest.approx(1)
    assert (few > 0).sum() < 600 < 7000 < (all_names > 0).sum()
    at = names.all.index("seven")
    assert few[at] == all_names[at] == pytest.approx(drawn_batches.CHARACTERS[0][1] / 10)


@needs_fonts
def test_captions_are_clips_tokens(names, vocabulary):
    rows = vocabulary.captions(np.array([5, 700]), template=3)
    texts = [drawn_batches.TEMPLATES[3].format(names.all[name]) for name in (5, 700)]
    expected = clip.tokenize(texts)[:, : rows.shape[1]].numpy()
    for row, line in zip(rows.numpy(), expected):
        length = int(line.argmax()) + 1
        assert np.array_equal(vocabulary.used[row[:length]], line[:length])
        assert row.argmax() == length - 1


@pytest.mark.parametrize("change", [{"hollow_odds": 1.0}, {"blur": (0.05, 0.05)}, {"inverse_odds": 1.0}])
def test_pictures_of_a_batch_are_drawn_as_single_ones(change):
    """Without chance, except for resampling: the mean picture's grey levels differ by little."""
    plain = {
        "rotation": (20, 20),
        "shear": (5, 5),
        "height": (0.8, 0.8),
        "squeeze": (0.8, 0.8),
        "contrast": (1.0, 1.0),
    }
    style, mask = Style(**plain, **change), glyph_mask("α", "DejaVuSans")
    batch = drawn_batches.draw(torch.from_numpy(np.array(mask))[None], style, torch.Generator())
    single = np.asarray(style.draw_mask(mask, np.random.RandomState(1)))
    assert np.abs(batch[0].permute(1, 2, 0).numpy().astype(float) - single).mean() < 6


@pytest.fixture
def pretrained(monkeypatch, tmp_path):
    """The bytes that a pre-training of four steps writes, on few drawings and at a very small size."""
    sizes = {"vision_layers": 1, "transformer_layers": 1, "vision_width": 64, "transformer_width": 64}
    small = dict(STEPS=4, BATCH=8, WARM_UP=1, KEEP_EVERY=2, FIRST_NAMES=2, OTHER_NAMES=3)
    drawing = drawn_batches.Drawing
    few = [drawing(name, "One", np.asarray(glyph_mask(name[0], "DejaVuSans"))) for name in ("bell", "cup", "key")]
    characters = [drawing(name, "", few[0].mask) for group, _ in drawn_batches.CHARACTERS for name in group]
    monkeypatch.setattr(drawn_batches, "drawings", lambda: [*few, *characters])
    for name, value in {**small, "ARCHITECTURE": {**script.ARCHITECTURE, **sizes, "transformer_heads": 1}}.items():
        monkeypatch.setattr(script, name, value)

    def run(seed: int, name: str = "x") -> bytes:
        monkeypatch.setattr(script, "SEED", seed)
        script.save(script.pretrain(tmp_path / f"{name}{seed}.state"), tmp_path / "tiny.npz")
        return (tmp_path / "tiny.npz").read_bytes()

    return run


def test_pretraining_repeats_to_the_bit(pretrained):
    assert pretrained(1, "a") == pretrained(1, "b") != pretrained(2)


def test_an_interrupted_pretraining_ends_as_another_does(pretrained, monkeypatch):
    whole = pretrained(1, "whole")
    rate = script.learning_rate
    monkeypatch.setattr(script, "learning_rate", lambda step: rate(step) if step < 3 else pytest.exit("interrupted"))
    with pytest.raises(pytest.exit.Exception):
        pretrained(1, "part")
    monkeypatch.setattr(script, "learning_rate", rate)
    assert pretrained(1, "part") == whole


def test_a_state_of_another_recipe_is_refused(pretrained, monkeypatch):
    pretrained(1)
    monkeypatch.setattr(script, "LEARNING_RATE", 1.0)
    with pytest.raises(InputError, match="another recipe; remove it"):
        pretrained(1)
