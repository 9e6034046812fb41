"""Transforms: chosen by name, in a fixed order, drawing from the generators that a resume restores."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.data.transforms import TRANSFORMS, build_transform
from minidassl.utils import set_random_seed

import pytest
import torch
from PIL import Image
from torchvision import transforms as T


def make_cfg(**options):
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 20)
    for key, value in options.items():
        cfg.INPUT[key] = value
    return cfg


@pytest.fixture
def image() -> Image.Image:
    torch.manual_seed(0)
    return T.functional.to_pil_image(torch.rand(3, 30, 24))


ALL_STEPS = """\
Building transform_train
+ random resized crop (size=(16, 20), scale=(0.08, 1.0))
+ random flip
+ randaugment (n=2, m=10)
+ to torch tensor of range [0, 1]
+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
"""


def test_the_order_is_fixed_whatever_the_order_of_the_names(capsys):
    build_transform(make_cfg(TRANSFORMS=tuple(reversed(TRANSFORMS))))
    assert capsys.readouterr().out == ALL_STEPS


@pytest.mark.parametrize(
    "choices, expected",
    [
        ((), ["+ resize to 16x20", "+ to torch tensor of range [0, 1]"]),
        (("random_flip",), ["+ resize to 16x20", "+ random flip", "+ to torch tensor of range [0, 1]"]),
        (("random_resized_crop",), [ALL_STEPS.splitlines()[1], "+ to torch tensor of range [0, 1]"]),
    ],
)
def test_images_are_resized_unless_a_crop_does_it(choices, expected, capsys):
    build_transform(make_cfg(TRANSFORMS=choices))
    assert capsys.readouterr().out.splitlines()[1:] == expected


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_training_transform_has_an_effect_of_the_input_size_that_repeats_under_a_seed(name, image):
    plain, transform = build_transform(make_cfg())(image), build_transform(make_cfg(TRANSFORMS=(name,)))
    results = []
    for _ in range(2):
        set_random_seed(1)
        results.append([transform(image) for _ in range(30)])
    assert all(result.shape == (3, 16, 20) and result.dtype == torch.float32 for result in results[0])
    assert all(map(torch.equal, *results))
    assert any(not torch.equal(result, plain) for result in results[0])


def test_evaluation_resizes_the_shorter_side_crops_the_centre_and_normalises(image, capsys):
    cfg = make_cfg(SIZE=(16, 16), INTERPOLATION="bicubic", TRANSFORMS=("random_flip", "randaugment", "normalize"))
    transform = build_transform(cfg, is_train=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Building transform_test", "+ resize the smaller edge to 16", "+ 16x16 center crop"]
    by_hand = T.functional.to_tensor(image.resize((16, 20), Image.BICUBIC).crop((0, 2, 16, 18)))
    mean, std = torch.tensor(cfg.INPUT.PIXEL_MEAN), torch.tensor(cfg.INPUT.PIXEL_STD)
    torch.testing.assert_close(transform(image), (by_hand - mean[:, None, None]) / std[:, None, None])


@pytest.mark.parametrize("name", ["cutout", "radnom_flip"])
def test_an_unknown_transform_names_the_key_the_value_and_the_choices(name):
    with pytest.raises(ValueError, match=rf"INPUT.TRANSFORMS contains '{name}'; choose from random_resized_crop"):
        build_transform(make_cfg(TRANSFORMS=("normalize", name)))


def test_an_unknown_interpolation_names_the_key_the_value_and_the_choices():
    with pytest.raises(ValueError, match="INPUT.INTERPOLATION is 'lanczos'.*'bicubic'"):
        build_transform(make_cfg(INTERPOLATION="lanczos"))
