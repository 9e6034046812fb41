"""Every shipped YAML loads; files compose from bases; later sources overrule earlier ones, the command line last."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import train
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.bmip import config_from_cfg
from trainers.config import build_cfg, read_yaml
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.openai_clip import CLIP
from trainers.prompting.errors import InputError

trainers.register_all()
CONFIGS = Path(__file__).parents[1] / "configs"
METHODS = sorted((CONFIGS / "trainers").glob("*/*.yaml"))
DATASETS = sorted((CONFIGS / "datasets").glob("*.yaml"))
# By the beginning of a file's name; the authors of BMIP and CoPrompt leave it out of theirs.
BACKBONES = {"tiny": "tiny", "rn50": "RN50", "rn101": "RN101", "vit_b32": "ViT-B/32", "vit_b16": "ViT-B/16"}
BACKBONES.update(dict.fromkeys(("BMIP", "vit_bitp", "coprompt"), "ViT-B/16"))

# Published recipes: training batch, learning rate, epochs, keys of the method's node. All train with SGD.
COOP = {"N_CTX": 16, "CTX_INIT": "", "CSC": False, "CLASS_TOKEN_POSITION": "end", "PREC": "fp16"}
WORDS = {"CTX_INIT": "a photo of a", "PREC": "fp16"}
PUBLISHED = {
    **{f"CoOp/{name}": (32, 0.002, 200, COOP) for name in ("rn50", "rn101", "vit_b32", "vit_b16")},
    **{f"CoOp/{name}_ep50": (32, 0.002, 50, COOP) for name in ("rn50", "rn101", "vit_b32", "vit_b16")},
    **{f"CoOp/{name}_ep100": (32, 0.002, 100, COOP) for name in ("rn50", "vit_b16")},
    **{f"CoOp/{name}_ctxv1": (32, 0.002, 200, WORDS) for name in ("rn50", "vit_b16")},
    **{f"CoOp/{name}_ep50_ctxv1": (32, 0.002, 50, WORDS) for name in ("rn50", "vit_b16")},
    "CoOp/vit_b16_ep100_ctxv1": (32, 0.002, 100, WORDS),
    "CoCoOp/vit_b16_c4_ep10_batch1": (1, 0.002, 10, {"N_CTX": 4, "CTX_INIT": "", "PREC": "fp16"}),
    "CoCoOp/vit_b16_c8_ep10_batch1": (1, 0.002, 10, {"N_CTX": 8, "CTX_INIT": "", "PREC": "fp16"}),
    "CoCoOp/vit_b16_c16_ep10_batch1": (1, 0.002, 10, {"N_CTX": 16, "CTX_INIT": "", "PREC": "fp16"}),
    "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1": (1, 0.002, 10, {"N_CTX": 4, **WORDS}),
    "VPT/vit_b16_c2_ep5_batch4_4": (4, 0.0025, 5, {"N_CTX_VISION": 8, "PROMPT_DEPTH_VISION": 12, **WORDS}),
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx": (4, 0.0035, 5, {"N_CTX": 2, "PROMPT_DEPTH": 9, **WORDS}),
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets": (4, 0.0026, 2, {"N_CTX": 2, "PROMPT_DEPTH": 3, **WORDS}),
}
# Text and vision: prompt tokens, then layers.
for name, epochs, rate, tokens, layers in (
    ("vit_b16_c2_ep5_batch4_2+2ctx", 5, 0.0035, (2, 2), (12, 12)),
    ("vit_b16_c2_ep5_batch4_4ctx_language_only", 5, 0.0025, (4, 0), (12, 0)),
    ("vit_b16_c2_ep20_batch4_4+4ctx", 20, 0.0025, (4, 4), (9, 9)),
):
    keys = ("N_CTX_TEXT", "N_CTX_VISION", "PROMPT_DEPTH_TEXT", "PROMPT_DEPTH_VISION", "HEAD_WIDTH")
    PUBLISHED[f"IVLP/{name}"] = (4, rate, epochs, {**dict(zip(keys, (*tokens, *layers, 0))), **WORDS})

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
    assert next(name for stem, name in BACKBONES.items() if path.stem.startswith(stem)) == cfg.MODEL.BACKBONE.NAME
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


@pytest.mark.parametrize("file", PUBLISHED)
def test_the_published_recipes_of_the_baselines(file):
    batch, rate, epochs, node = PUBLISHED[file]
    trainer = file.split("/")[0]
    cfg = load(trainer, CONFIGS / f"trainers/{file}.yaml")
    loader, optim = cfg.DATALOADER, cfg.OPTIM
    assert (batch, 100, 8) == (loader.TRAIN_X.BATCH_SIZE, loader.TEST.BATCH_SIZE, loader.NUM_WORKERS)
    assert ("sgd", rate, epochs, "cosine") == (optim.NAME, optim.LR, optim.MAX_EPOCH, optim.LR_SCHEDULER)
    assert (optim.WARMUP_EPOCH, optim.WARMUP_TYPE, optim.WARMUP_CONS_LR) == (1, "constant", 1e-5)
    assert (tuple(cfg.INPUT.SIZE), cfg.TRAIN.PRINT_FREQ) == ((224, 224), 5 if trainer == "CoOp" else 20)
    assert cfg.INPUT.TRANSFORMS == ("random_resized_crop", "random_flip", "normalize")
    assert {key: cfg.TRAINER[trainer.upper()][key] for key in node} == node


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
@pytest.mark.parametrize("backbone", ["rn50", "rn101", "vit_b32", "vit_b16"])
def test_zero_shot_clip_sees_and_tests_as_coop_does(trainer, backbone):
    ours = load(trainer, CONFIGS / f"trainers/{trainer}/{backbone}.yaml")
    coop = load("CoOp", CONFIGS / f"trainers/CoOp/{backbone}.yaml")
    assert (ours.INPUT, ours.MODEL, ours.DATALOADER.TEST) == (coop.INPUT, coop.MODEL, coop.DATALOADER.TEST)


def vit_b16() -> CLIP:
    """OpenAI's ViT-B/16, shapes alone."""
    with torch.device("meta"):
        return CLIP(
            embed_dim=512,
            image_resolution=224,
            vision_layers=12,
            vision_width=768,
            vision_patch_size=16,
            context_length=77,
            vocab_size=49408,
            transformer_width=512,
            transformer_heads=8,
            transformer_layers=12,
        )


@pytest.mark.parametrize(
    "backbone, bmip, control",
    [
        (vit_b16, "vit_b16_c2_ep10_batch4_2ctx", "vit_b16_ep10_2+2ctx_bmip_size"),
        (lambda: load_clip("tiny"), "tiny", "tiny_bmip_size"),
    ],
    ids=["ViT-B/16", "tiny"],
)
def test_the_control_differs_from_bmip_in_the_interaction_alone(backbone, bmip, control):
    clip_model = backbone()

    def read(trainer: str, name: str, *options: str):
        # Without words, which have no values where the model has shapes alone.
        words = f"TRAINER.{trainer}.CTX_INIT"
        return load(trainer, CONFIGS / f"trainers/{trainer}/{name}.yaml", words, "", *options)

    def count(trainer: str, cfg) -> int:
        learner = TRAINER_REGISTRY.get(trainer).build_learner(cfg, clip_model)
        return sum(parameter.numel() for parameter in learner.parameters())

    ours, theirs = read("IVLP", control), read("BMIP", bmip)
    for node in ("OPTIM", "DATALOADER", "INPUT", "MODEL"):
        assert ours[node] == theirs[node]
    ivlp, recipe = ours.TRAINER.IVLP, theirs.TRAINER.BMIP
    assert ivlp.N_CTX_TEXT == ivlp.N_CTX_VISION == recipe.N_CTX
    assert ivlp.PROMPT_DEPTH_TEXT == ivlp.PROMPT_DEPTH_VISION == recipe.PROMPT_DEPTH
    assert ivlp.PREC == recipe.PREC

    wanted, width = count("BMIP", theirs), ivlp.HEAD_WIDTH
    gaps = {
        step: abs(count("IVLP", read("IVLP", control, "TRAINER.IVLP.HEAD_WIDTH", str(width + step))) - wanted)
        for step in (-1, 0, 1)
    }
    assert min(gaps, key=gaps.get) == 0
    # The small CLIP's next widths are 2 % apart.
    assert gaps[0] < (0.011 if clip_model.ln_final.weight.shape[0] < 512 else 0.001) * wanted


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
