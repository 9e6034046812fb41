"""Every shipped YAML loads; files compose from bases; later sources overrule earlier ones, the command line last."""

from __future__ import annotations

from pathlib import Path

import pytest

import train
import trainers
from trainers.bmip import config_from_cfg
from trainers.config import build_cfg, read_yaml
from trainers.prompting.errors import InputError

trainers.register_all()
CONFIGS = Path(__file__).parents[1] / "configs"
METHODS = sorted((CONFIGS / "trainers").glob("*/*.yaml"))
DATASETS = sorted((CONFIGS / "datasets").glob("*.yaml"))

# The authors' file, key for key.
AUTHORS_YAML = """
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 4
  TEST:
    BATCH_SIZE: 100
  NUM_WORKERS: 8
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "adam"
  LR: 0.002
  MAX_EPOCH: 10
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
TRAIN:
  PRINT_FREQ: 20
  EARLY_STOPPING: True
  PATIENT_COUNT: 4
MODEL:
  INIT_SEED: 48
  BACKBONE:
    NAME: "ViT-B/16"
TRAINER:
  BMIP:
    N_CTX: 2
    CTX_INIT: "a photo of a"
    PREC: "fp16"
    PROMPT_DEPTH: 9
    CONNECT_METHOD: "None"
    WEIGHT_THRESHOLD: 0.0025
SHARE:
  SHARE_PARAMETER_VISUAL: True
  SHARE_PARAMETER_TEXT: True
DATASET:
  USE_RATIO: True
  SUBSAMPLE_RATIO: 0
  SUBSAMPLE_CLASSES: "base"
TEST:
  FINAL_MODEL: "best_val"
  NO_TEST_EARLY: True
"""


def load(trainer: str, config: Path | str, *arguments: str, dataset: Path | str = CONFIGS / "datasets/digits.yaml"):
    flags = ["--trainer", trainer, "--config-file", str(config), "--dataset-config-file", str(dataset)]
    return build_cfg(train.parse_args([*flags, *arguments]))


@pytest.mark.parametrize("path", METHODS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_method_yaml_loads_under_its_trainer(path):
    cfg = load(path.parent.name, path)
    backbone = "tiny" if path.stem == "tiny" else "ViT-B/16"
    assert backbone == cfg.MODEL.BACKBONE.NAME
    assert cfg.INPUT.INTERPOLATION == "bicubic"


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_every_shipped_data_set_yaml_names_a_registered_data_set(path):
    assert load("BMIP", CONFIGS / "trainers/BMIP/tiny.yaml", dataset=path).DATASET.NAME


def test_there_are_yamls_to_test():
    assert len(METHODS) >= 6 and len(DATASETS) >= 11


def test_the_authors_yaml_is_accepted_unchanged(tmp_path):
    path = tmp_path / "authors.yaml"
    path.write_text(AUTHORS_YAML)
    theirs = load("BMIP", path)
    ours = load("BMIP", CONFIGS / "trainers/BMIP/BMIP_ctx2_dp9_lr2.yaml")
    for node in ("INPUT", "OPTIM", "TRAIN", "SHARE", "MODEL"):
        assert theirs[node] == ours[node]
    assert config_from_cfg(theirs).aggregation == "bmip"


def test_the_published_recipe_is_in_the_shipped_files():
    ours = load("BMIP", CONFIGS / "trainers/BMIP/vit_b16_c2_ep10_batch4_2ctx.yaml")
    theirs = load("BMIP", CONFIGS / "trainers/BMIP/BMIP_ctx2_dp9_lr2.yaml")
    remote_sensing = load("BMIP", CONFIGS / "trainers/BMIP/BMIP_rs_default.yaml")
    for cfg in (ours, theirs, remote_sensing):
        assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.WEIGHT_DECAY) == ("adam", 0.002, 5e-4)
        assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.DATALOADER.TEST.BATCH_SIZE) == (4, 100)
        assert (cfg.OPTIM.LR_SCHEDULER, cfg.OPTIM.WARMUP_EPOCH, cfg.OPTIM.WARMUP_CONS_LR) == ("cosine", 1, 1e-5)
        bmip = cfg.TRAINER.BMIP
        assert (bmip.N_CTX, bmip.PROMPT_DEPTH, bmip.CTX_INIT, bmip.PREC) == (2, 9, "a photo of a", "fp16")
    assert (ours.TRAINER.BMIP.VARIANT, theirs.TRAINER.BMIP.VARIANT) == ("paper", "released")
    assert (ours.OPTIM.MAX_EPOCH, theirs.OPTIM.MAX_EPOCH, remote_sensing.OPTIM.MAX_EPOCH) == (10, 10, 20)
    assert (theirs.MODEL.INIT_SEED, theirs.TRAIN.PATIENT_COUNT, theirs.TEST.NO_TEST_EARLY) == (48, 4, True)


def test_sources_overrule_in_coops_order(tmp_path):
    (tmp_path / "base.yaml").write_text("OPTIM:\n  LR: 0.1\n  MAX_EPOCH: 1\nSEED: 1\n")
    (tmp_path / "method.yaml").write_text("_BASE_: base.yaml\nOPTIM:\n  LR: 0.2\nDATASET:\n  NUM_SHOTS: 4\n")
    (tmp_path / "data.yaml").write_text("DATASET:\n  NAME: Digits\n  NUM_SHOTS: 2\nOPTIM:\n  MAX_EPOCH: 3\n")
    cfg = load("BMIP", tmp_path / "method.yaml", dataset=tmp_path / "data.yaml")
    assert (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.DATASET.NUM_SHOTS, cfg.SEED) == (0.2, 1, 4, 1)
    cfg = load("BMIP", tmp_path / "method.yaml", "--seed", "0", "OPTIM.LR", "0.3", dataset=tmp_path / "data.yaml")
    assert (cfg.OPTIM.LR, cfg.SEED) == (0.3, 0)
    assert load("BMIP", tmp_path / "method.yaml", "--seed", "5", "SEED", "6").SEED == 6


def test_several_bases_are_merged_in_order(tmp_path):
    for number in "12":
        (tmp_path / f"{number}.yaml").write_text(f"SEED: {number}\n")
    (tmp_path / "top.yaml").write_text("_BASE_: [1.yaml, 2.yaml]\n")
    assert load("BMIP", tmp_path / "top.yaml").SEED == 2


def test_a_file_that_is_its_own_base_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\n")
    with pytest.raises(InputError, match="its own _BASE_"):
        read_yaml(tmp_path / "a.yaml")


def test_an_unknown_key_names_its_file(tmp_path):
    (tmp_path / "typo.yaml").write_text("OPTIM:\n  LRR: 0.1\n")
    with pytest.raises(InputError, match=r"typo\.yaml.*OPTIM\.LRR"):
        load("BMIP", tmp_path / "typo.yaml")
