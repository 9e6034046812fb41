"""The default configuration behaves under yacs as CoOp-family files expect."""

from __future__ import annotations

from minidassl.config import get_cfg_default


def test_each_call_returns_a_fresh_tree():
    first = get_cfg_default()
    first.OPTIM.LR = 1.0
    first.INPUT.PIXEL_MEAN[0] = 9.0
    second = get_cfg_default()
    assert second.OPTIM.LR == 0.0003
    assert second.INPUT.PIXEL_MEAN == [0.485, 0.456, 0.406]


def test_a_coop_style_yaml_loads_with_the_types_it_means(tmp_path):
    path = tmp_path / "rn50.yaml"
    path.write_text(
        """
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 4
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.002
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
"""
    )
    cfg = get_cfg_default()
    cfg.merge_from_file(str(path))
    assert cfg.INPUT.SIZE == (224, 224)
    assert cfg.OPTIM.WARMUP_CONS_LR == 1e-5
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 4
