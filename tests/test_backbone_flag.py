"""`--backbone` of the commands: another CLIP than that of the recipes, with folders and rows of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clip
from PIL import Image
from yacs.config import CfgNode

import train
import trainers
from experiments import compare, launch, reproduce
from experiments.commands import absolute_backbone
from experiments.methods import LONGEST_TAG, backbone_tag
from experiments.store import collect
from trainers.config import build_cfg
from trainers.prompting import PromptClassifier
from trainers.prompting.api.images import evaluation_transform
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.design import images_of
from trainers.prompting.errors import InputError

QUICK = ["OPTIM.MAX_EPOCH", "1", "TRAINER.VPT.PROMPT_DEPTH_VISION", "2"]
VIT_B16 = "configs/trainers/BMIP/vit_b16_c2_ep10_batch4_2ctx.yaml"


def save(folder: Path, **sizes) -> str:
    path = folder / "own.npz"
    np.savez(path, **{key: value.numpy() for key, value in make_clip(**sizes).state_dict().items()})
    return str(path)


def built(*arguments: str) -> CfgNode:
    trainers.register_all()
    flags = ["--trainer", "BMIP", "--dataset-config-file", "configs/datasets/digits.yaml", "--config-file", VIT_B16]
    return build_cfg(train.parse_args([*flags, *arguments]))


def test_images_are_prepared_for_the_backbone_that_replaces_the_recipe_s(tmp_path):
    assert tuple(built().INPUT.SIZE) == (224, 224)
    assert tuple(built("--backbone", save(tmp_path)).INPUT.SIZE) == (32, 32)
    assert tuple(built("MODEL.BACKBONE.NAME", save(tmp_path)).INPUT.SIZE) == (32, 32)
    assert tuple(built("--backbone", "ViT-L/14@336px").INPUT.SIZE) == (336, 336)
    given = built("--backbone", "tiny", "INPUT.SIZE", "(64, 64)", "INPUT.INTERPOLATION", "nearest").INPUT
    assert (tuple(given.SIZE), given.INTERPOLATION) == ((64, 64), "nearest")


def test_a_resnet_of_a_file_tells_its_images_too(tmp_path):
    resnet = dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None, image_resolution=64)
    assert tuple(built("--backbone", save(tmp_path, **resnet)).INPUT.SIZE) == (64, 64)


def test_a_file_that_replaces_another_of_its_name_is_read_anew(tmp_path):
    built("--backbone", save(tmp_path))
    assert tuple(built("--backbone", save(tmp_path, image_resolution=48)).INPUT.SIZE) == (48, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    pytest.importorskip("safetensors")
    from helpers.backbones import clip_model_of_transformers, save_folder

    return save_folder(clip_model_of_transformers(), tmp_path_factory.mktemp("clip"))


def test_images_are_prepared_as_the_checkpoint_says_and_recorded(run_train, folder):
    outcome = run_train("--backbone", folder, trainer="VPT", options=QUICK)
    assert outcome.status == 0
    recorded = outcome.result["configuration"]["INPUT"]
    assert (recorded["SIZE"], recorded["PIXEL_MEAN"], recorded["INTERPOLATION"]) == (
        [32, 32],
        [0.5, 0.4, 0.3],
        "bilinear",
    )
    assert outcome.result["backbone"] == folder


@pytest.mark.parametrize(
    "key, value", [("PIXEL_MEAN", "[0.1, 0.1, 0.1]"), ("INTERPOLATION", "bicubic"), ("SIZE", "(64, 64)")]
)
def test_images_that_are_prepared_otherwise_are_refused(run_train, folder, no_data, key, value):
    outcome = run_train("--backbone", folder, trainer="VPT", options=[*QUICK, f"INPUT.{key}", value])
    assert outcome.status == 2 and f"INPUT.{key} is" in outcome.errors and folder in outcome.errors


def test_methods_on_another_backbone_have_folders_and_rows_of_their_own(checkout, data_root, folder, capsys):
    command = [
        "digits",
        "1",
        "VPT ZeroshotCLIP",
        "--shots",
        "1",
        "--data",
        data_root,
        "--backbone",
        folder,
        *QUICK,
        "--no-report",
    ]
    assert compare.main([*command, "--tag", "short"]) == 0
    assert f"digits, {folder}, 1 shots" in capsys.readouterr().out
    records = collect(checkout / "output").records
    assert {record.data["backbone"] for record in records} == {folder}
    assert {record.method for record in records if record.plain_method == "VPT"} == {
        f"VPT, short, OPTIM.MAX_EPOCH 1, TRAINER.VPT.PROMPT_DEPTH_VISION 2, {folder}"
    }
    assert all(f"@short_{backbone_tag(folder)}" in str(record.path) for record in records)
    # Done runs are not done again.
    assert compare.main([*command, "--tag", "short"]) == 0


def test_the_launcher_has_the_flag_too(checkout, data_root, folder, capsys):
    launch.main(["open_world", "VPT", "digits", "1", "--data", data_root, "--backbone", folder, "--dry-run", *QUICK])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(f"--backbone {folder}" in line for line in lines)
    assert all(f"tiny@{backbone_tag(folder)}/seed1" in line for line in lines)


def test_tags_of_backbones_are_short_and_tell_long_paths_apart():
    assert backbone_tag("open_clip:ViT-B-16/laion2b_s34b_b88k") == "open_clip-ViT-B-16-laion2b_s34b_b88k"
    first, second = (backbone_tag(f"hf:/data/{name * 40}/clip") for name in "ab")
    assert first != second and max(len(first), len(second)) <= LONGEST_TAG


def test_paths_are_absolute_where_they_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.pt").touch()
    for name, absolute in {
        "clip.pt": f"{tmp_path}/clip.pt",
        "open_clip:ViT-B-16/clip.pt": f"open_clip:ViT-B-16/{tmp_path}/clip.pt",
        "open_clip:ViT-B-16/openai": "open_clip:ViT-B-16/openai",
        "hf:.": f"hf:{tmp_path}",
        "hf:openai/clip": "hf:openai/clip",
        "ViT-B/16": "ViT-B/16",
    }.items():
        assert absolute_backbone(name) == absolute


def test_the_command_of_a_table_has_the_flag_too(checkout, data_root, folder, capsys):
    flags = ["--methods", "VPT", "--datasets", "digits", "--seeds", "1", "--data", data_root, "--dry-run"]
    assert reproduce.main(["open-world", *flags, "--backbone", folder, "--tag", "short", *QUICK]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "train.py" in line]
    assert len(lines) == 2
    assert all(f"--backbone {folder}" in line and f"@short_{backbone_tag(folder)}/seed1" in line for line in lines)


def test_a_classifier_prepares_images_for_its_backbone_and_comes_back(folder, tmp_path):
    pictures = [Image.new("RGB", (40, 50), color) for color in ("red", "blue", "red", "blue")]
    settings = {"vision_depth": 2, "vision_length": 2}
    made = PromptClassifier("VPT", backbone=folder, settings=settings, epochs=1, batch_size=2, progress=False)
    fitted = made.fit(pictures, ["red", "blue", "red", "blue"])
    model = load_clip(folder)
    assert images_of(model).mean == (0.5, 0.4, 0.3)
    prepared = torch.stack([evaluation_transform(images_of(model))(picture) for picture in pictures])
    red = prepared[0, :, 16, 16]
    torch.testing.assert_close(red, torch.tensor([(1 - 0.5) / 0.2, (0 - 0.4) / 0.25, (0 - 0.3) / 0.3]))
    with torch.no_grad():
        expected = fitted.model_(prepared).softmax(dim=1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(pictures), expected, atol=1e-6)
    fitted.save(tmp_path / "saved")
    with pytest.raises(InputError, match="give it as backbone"):
        PromptClassifier.load(tmp_path / "saved")
    again = PromptClassifier.load(tmp_path / "saved", backbone=folder, progress=False)
    np.testing.assert_allclose(again.predict_proba(pictures), expected, atol=1e-6)
