"""The table of methods agrees with the trainers: settings read from a record, recipes, sizes, names of authors."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from conftest import make_clip

import datasets  # noqa: F401  (registers the data sets)
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import FLAG_KEYS, build_cfg
from trainers.evaluation import plain_configuration
from trainers.prompting.methods import METHODS

trainers.register_all()
ROOT = Path(__file__).parents[1]
TRAINED = [name for name in METHODS if name != "ZeroshotCLIP"]
# What is trained where a user names nothing but the method.
PUBLISHED = {
    "BMIP": "vit_b16_c2_ep10_batch4_2ctx",
    "MaPLe": "vit_b16_c2_ep5_batch4_2ctx",
    "IVLP": "vit_b16_c2_ep5_batch4_2+2ctx",
    "VPT": "vit_b16_c2_ep5_batch4_4",
    "CoOp": "vit_b16_ctxv1",
    "CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1",
}
FILES = [file for name in TRAINED for file in sorted((ROOT / "configs/trainers" / name).glob("*.yaml"))]


def configuration(file: Path, *options: str):
    """The configuration of a run with a method's YAML file."""
    flags = {**dict.fromkeys(FLAG_KEYS), "trainer": file.parent.name}
    data = str(ROOT / "configs/datasets/digits.yaml")
    return build_cfg(argparse.Namespace(**flags, dataset_config_file=data, config_file=str(file), opts=list(options)))


@pytest.fixture(scope="module")
def deep_clip() -> torch.nn.Module:
    """A CLIP with as many layers as the published recipes prompt."""
    return make_clip(vision_layers=12, transformer_layers=12, vision_width=64, transformer_width=64)


def trained_config(cfg, clip_model: torch.nn.Module):
    """The settings that a trainer gives its learner."""
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME).build_learner(cfg, clip_model).config


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_record_gives_the_settings_that_the_trainer_used(file, deep_clip):
    cfg = configuration(file)
    method = METHODS[file.parent.name]
    recorded = method.recorded_settings(plain_configuration(cfg))
    assert recorded.keys() == method.keys.keys()
    assert method.configure(recorded, cfg.MODEL.BACKBONE.NAME) == trained_config(cfg, deep_clip)


def test_the_authors_key_for_joint_prompts_is_understood(deep_clip):
    cfg = configuration(ROOT / "configs/trainers/BMIP/tiny.yaml", "TRAINER.BMIP.CONNECT_METHOD", "joint")
    config = METHODS["BMIP"].configure(METHODS["BMIP"].recorded_settings(plain_configuration(cfg)), "tiny")
    assert config == trained_config(cfg, deep_clip) and config.aggregation == "joint"


@pytest.mark.parametrize("backbone", ["tiny", "ViT-B/16"])
@pytest.mark.parametrize("name", TRAINED)
def test_the_recipe_of_a_method_is_that_of_its_published_file(name, backbone, deep_clip):
    stem = "tiny" if backbone == "tiny" else PUBLISHED[name]
    cfg = configuration(ROOT / f"configs/trainers/{name}/{stem}.yaml")
    recipe = METHODS[name].recipe_for(backbone)
    optim, given = cfg.OPTIM, cfg.INPUT
    assert (recipe.optimizer, recipe.learning_rate, recipe.epochs) == (optim.NAME, optim.LR, optim.MAX_EPOCH)
    assert recipe.batch_size == cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    assert recipe.crop_scale == tuple(given.RRCROP_SCALE)
    assert recipe.flip == ("random_flip" in given.TRANSFORMS)
    assert METHODS[name].configure(None, backbone) == trained_config(cfg, deep_clip)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_described_as_its_trainer_is(name):
    method, trainer = METHODS[name], TRAINER_REGISTRY.get(name)
    assert (method.node, method.needs_vit) == (trainer.node, trainer.needs_vit)
    assert method.released is trainer.released
    assert {method.keys[field]: size for field, size in method.sizes.items()} == dict(trainer.size_keys)


@pytest.mark.parametrize("name", TRAINED)
def test_the_tensors_of_a_checkpoint_tell_its_sizes(name, small_clip):
    method = METHODS[name]
    depths = {field: 2 for field in method.keys if field.endswith("depth")}
    lengths = {field: 3 for field in method.keys if field.endswith("length")}
    context = {"context": ""} if name in ("CoOp", "CoCoOp") else {}
    config = method.configure({**depths, **lengths, **context}, "ViT-B/16")
    found = method.settings_of(method.build(config, small_clip).state_dict(), released=False)
    assert {**depths, **lengths}.items() <= found.items()
    assert method.configure(found, "ViT-B/16") == config


def test_heads_and_sharing_are_told_by_the_tensors(small_clip):
    bmip = METHODS["BMIP"].configure({"depth": 3, "share_text": False}, "tiny")
    found = METHODS["BMIP"].settings_of(METHODS["BMIP"].build(bmip, small_clip).state_dict(), released=False)
    assert (found["share_text"], found["share_vision"]) == (False, True)
    ivlp = METHODS["IVLP"].configure({"text_depth": 2, "vision_depth": 2, "head_width": 5}, "tiny")
    found = METHODS["IVLP"].settings_of(METHODS["IVLP"].build(ivlp, small_clip).state_dict(), released=False)
    assert found["head_width"] == 5
    coop = METHODS["CoOp"].configure({"context": "", "length": 2, "class_specific": True}, "tiny")
    learner = METHODS["CoOp"].build(coop, small_clip)
    learner.set_class_count(4)
    found = METHODS["CoOp"].settings_of(learner.state_dict(), released=False)
    assert found["class_specific"] and found["length"] == 2
