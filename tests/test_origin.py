"""A run goes on, and is tested, from its own checkpoints alone: same settings, same data, same CLIP."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers.runs import interrupt_in

from trainers.prompting.core.clip_weights import TINY

OPTIONS = ["OPTIM.MAX_EPOCH", "3"]


def stopped(run_train, monkeypatch, *flags: str, options=OPTIONS):
    """A run that was stopped in its second epoch, and whose settings were lost."""
    interrupt_in(monkeypatch, epoch=1)
    run = run_train(*flags, options=options)
    assert run.status == 130
    (run.folder / "settings.yaml").unlink()
    return run


def assert_not_resumed(run, *words: str) -> None:
    assert run.status == 2 and "epoch [" not in run.output and "Traceback" not in run.errors
    assert not [word for word in words if word not in run.errors], run.errors


def test_a_second_seed_does_not_go_on_from_the_first_ones_epoch(run_train, monkeypatch):
    stopped(run_train, monkeypatch)
    other = run_train("--seed", "2", options=[*OPTIONS, "SEED", "2"])
    assert_not_resumed(other, "SEED was 1 and is now 2", "--force")


def test_the_same_settings_go_on_although_their_record_was_lost(run_train, monkeypatch):
    stopped(run_train, monkeypatch)
    again = run_train(options=OPTIONS)
    assert again.status == 0 and "epoch [2/3]" in again.output and "epoch [1/3]" not in again.output


def test_other_training_images_are_noticed(run_train, monkeypatch):
    """As many of the same classes, so that only the images themselves tell."""
    from trainers import base

    stopped(run_train, monkeypatch)
    fingerprint = base.data_fingerprint
    monkeypatch.setattr(base, "data_fingerprint", lambda items, folder: fingerprint(items[:-1], folder))
    assert_not_resumed(run_train(options=OPTIONS), "training images", "--force")


@pytest.fixture
def own_clip(tmp_path):
    """The path of a copy of the small CLIP, and a function that changes one layer of it."""
    path = tmp_path / "clip.npz"
    shutil.copy(TINY, path)

    def change() -> None:
        with np.load(path) as arrays:
            state = {name: arrays[name] for name in arrays.files}
        state["visual.transformer.resblocks.1.attn.in_proj_weight"] += 0.01
        np.savez(path, **state)

    return path, change


def test_another_clip_of_the_same_path_is_noticed_in_training_and_in_a_test(
    run_train, tmp_path, monkeypatch, own_clip
):
    path, change = own_clip
    stopped(run_train, monkeypatch, "--backbone", str(path))
    change()
    assert_not_resumed(run_train("--backbone", str(path), options=OPTIONS), "MODEL.BACKBONE.NAME")
    flags = ("--eval-only", "--backbone", str(path), "--model-dir", str(tmp_path / "run"), "--load-epoch", "1")
    test = run_train(*flags, folder=tmp_path / "test")
    assert test.status == 2 and "MODEL.BACKBONE.NAME" in test.errors and not (tmp_path / "test/result.json").exists()


def test_another_precision_is_the_same_clip(run_train, tmp_path):
    run = run_train()
    flags = ("--eval-only", "--model-dir", str(run.folder))
    assert run_train(*flags, folder=tmp_path / "test", options=["TRAINER.BMIP.PREC", "bf16"]).status == 0


def test_zero_shot_clip_takes_nothing_from_files_in_the_current_folder(run_train, checkout):
    learned = run_train(folder=checkout / "learned")
    for name in ("settings.yaml", "result.json"):
        (learned.folder / name).rename(checkout / name)
    options = ["DATASET.SUBSAMPLE_CLASSES", "all", "TEST.SPLIT", "val"]
    test = run_train("--eval-only", trainer="ZeroshotCLIP", folder=checkout / "test", options=options)
    assert test.status == 0 and test.result["trained_on"] is None
    assert "base: first half of the classes" in test.output
