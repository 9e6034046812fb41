"""Transforms: chosen by name, in a fixed order, drawing from the generators that a resume restores."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.data.transforms import AVAI_CHOICES, build_transform
from minidassl.data.transforms.transforms import Cutout, InstanceNorm, RandomTranslation
from minidassl.utils import set_random_seed

import pytest
import torch
from PIL import Image
from torchvision import transforms as T


def make_cfg(**options):
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 20)
    cfg.INPUT.GB_K = 3
    for key, value in options.items():
        cfg.INPUT[key] = value
    return cfg


@pytest.fixture
def image() -> Image.Image:
    torch.manual_seed(0)
    return T.functional.to_pil_image(torch.rand(3, 30, 24))


ALL_STEPS = """\
Building transform_train
+ random translation
+ random crop (padding = 4)
+ random resized crop (size=(16, 20), scale=(0.08, 1.0))
+ random flip
+ randaugment (n=2, m=10)
+ color jitter (brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
+ random gray scale
+ gaussian blur (kernel=3)
+ to torch tensor of range [0, 1]
+ cutout (n_holes=1, length=16)
+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
+ gaussian noise (mean=0.0, std=0.15)
+ instance normalization
"""


def test_the_order_is_fixed_whatever_the_order_of_the_names(capsys):
    build_transform(make_cfg(TRANSFORMS=tuple(reversed(AVAI_CHOICES))))
    assert capsys.readouterr().out == ALL_STEPS


@pytest.mark.parametrize(
    "choices, expected",
    [
        ((), ["+ resize to 16x20", "+ to torch tensor of range [0, 1]"]),
        (("random_flip",), ["+ resize to 16x20", "+ random flip", "+ to torch tensor of range [0, 1]"]),
        (("random_crop",), ["+ random crop (padding = 4)", "+ to torch tensor of range [0, 1]"]),
        (("center_crop",), ["+ resize to 16x20", "+ to torch tensor of range [0, 1]"]),
    ],
)
def test_images_are_resized_unless_a_crop_does_it(choices, expected, capsys):
    build_transform(make_cfg(TRANSFORMS=choices))
    assert capsys.readouterr().out.splitlines()[1:] == expected


@pytest.mark.parametrize("name", [name for name in AVAI_CHOICES if name != "random_crop"])
def test_every_training_transform_gives_a_tensor_of_the_input_size_and_repeats_under_a_seed(name, image):
    transform = build_transform(make_cfg(TRANSFORMS=(name,)))
    set_random_seed(1)
    first = [transform(image) for _ in range(4)]
    set_random_seed(1)
    again = [transform(image) for _ in range(4)]
    assert all(result.shape == (3, 16, 20) and result.dtype == torch.float32 for result in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize(
    "name",
    ["random_translation", "random_resized_crop", "random_flip", "colorjitter", "randomgrayscale", "gaussian_blur"]
    + ["cutout", "normalize", "gaussian_noise", "instance_norm"],
)
def test_every_training_transform_has_an_effect(name, image):
    plain = build_transform(make_cfg())(image)
    transform = build_transform(make_cfg(TRANSFORMS=(name,)))
    assert any(not torch.equal(transform(image), plain) for _ in range(30))


def test_a_random_crop_pads_and_crops(image):
    small = image.resize((20, 16))
    transform = build_transform(make_cfg(TRANSFORMS=("random_crop",)))
    assert transform(small).shape == (3, 16, 20)


def test_evaluation_resizes_the_shorter_side_crops_the_centre_and_normalises(image, capsys):
    cfg = make_cfg(SIZE=(16, 16), INTERPOLATION="bicubic", TRANSFORMS=("random_flip", "gaussian_noise", "normalize"))
    transform = build_transform(cfg, is_train=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Building transform_test", "+ resize the smaller edge to 16", "+ 16x16 center crop"]
    by_hand = T.functional.to_tensor(image.resize((16, 20), Image.BICUBIC).crop((0, 2, 16, 18)))
    mean, std = torch.tensor(cfg.INPUT.PIXEL_MEAN), torch.tensor(cfg.INPUT.PIXEL_STD)
    torch.testing.assert_close(transform(image), (by_hand - mean[:, None, None]) / std[:, None, None])


def test_choices_take_the_place_of_the_configured_names(capsys):
    build_transform(make_cfg(TRANSFORMS=("normalize",)), choices=["random_flip"])
    out = capsys.readouterr().out
    assert "+ random flip" in out and "normalization" not in out


@pytest.mark.parametrize("name", ["randaugment2", "imagenet_policy", "radnom_flip"])
def test_an_unknown_transform_names_the_key_the_value_and_the_choices(name):
    with pytest.raises(ValueError, match=rf"INPUT.TRANSFORMS contains '{name}'.*'random_resized_crop'"):
        build_transform(make_cfg(TRANSFORMS=("normalize", name)))


def test_an_unknown_interpolation_names_the_key_the_value_and_the_choices():
    with pytest.raises(ValueError, match="INPUT.INTERPOLATION is 'lanczos'.*'bicubic'"):
        build_transform(make_cfg(INTERPOLATION="lanczos"))


def test_no_transform_gives_none(capsys):
    assert build_transform(make_cfg(NO_TRANSFORM=True)) is None
    assert capsys.readouterr().out == "Note: no transform is applied!\n"


def test_cutout_zeroes_a_square_cut_off_at_the_border(monkeypatch):
    centres = iter([1, 4])
    monkeypatch.setattr("numpy.random.randint", lambda high: next(centres))
    image = torch.ones(2, 6, 8)
    result = Cutout(n_holes=1, length=4)(image)
    hole = torch.zeros(6, 8, dtype=torch.bool)
    hole[0:3, 2:6] = True
    assert torch.equal(result == 0, hole.expand(2, 6, 8))
    assert torch.equal(image, torch.ones(2, 6, 8)), "the image itself stays as it is"


def test_a_translation_shifts_without_scaling_beyond_nine_eighths(monkeypatch):
    draws = iter([0.2, 3.0, 1.0])  # below 0.5: translate; then left, top
    monkeypatch.setattr("random.uniform", lambda low, high: next(draws))
    ramp = torch.arange(24 * 16, dtype=torch.uint8).reshape(1, 16, 24).expand(3, -1, -1)
    picture = T.functional.to_pil_image(ramp)
    result = RandomTranslation((16, 24))(picture)
    expected = picture.resize((27, 18), Image.BILINEAR).crop((3, 1, 27, 17))
    assert result.tobytes() == expected.tobytes()


def test_instance_norm_gives_each_channel_mean_0_and_deviation_1():
    result = InstanceNorm()(torch.rand(3, 5, 7) * torch.tensor([1.0, 5.0, 9.0])[:, None, None] + 3)
    torch.testing.assert_close(result.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(dim=(1, 2)), torch.ones(3))
