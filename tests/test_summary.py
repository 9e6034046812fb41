"""`--summary` and the methods' table: sizes alone, no data, no weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from trainers.prompting.core import summary
from trainers.prompting.core.openai_clip import clip

ROOT = Path(__file__).parents[1]
IMAGENET = ["--dataset-config-file", str(ROOT / "configs/datasets/imagenet.yaml")]


def test_the_sizes_are_those_of_openais_backbones():
    assert set(summary.SIZES) <= set(clip.available_models())


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(clip, "load", refuse)


def test_a_summary_lists_every_trainable_tensor_without_data_or_weights(no_download, capsys, tmp_path):
    folder = tmp_path / "run"
    command = ["--trainer", "VPT", *IMAGENET, "--backbone", "ViT-B/16", "--output-dir", str(folder), "--summary"]
    assert train.main([*command, "TRAINER.VPT.N_CTX_VISION", "8", "TRAINER.VPT.PROMPT_DEPTH_VISION", "12"]) == 0
    printed = capsys.readouterr().out
    assert "VPT on ViT-B/16" in printed and "73,728 trainable numbers, 0.0493 % of CLIP's" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("vision_prompts")]
    assert [row[0] for row in rows] == [f"vision_prompts.{layer}" for layer in range(12)]
    assert all(row[1:] == ["[8,", "768]", "6,144"] for row in rows)
    assert not folder.exists()


def test_what_belongs_to_a_class_is_said_to(capsys):
    assert (
        train.main(["--trainer", "CoOp", *IMAGENET, "--backbone", "tiny", "--summary", "TRAINER.COOP.CSC", "True"])
        == 0
    )
    assert "[1, 16, 128]" in (printed := capsys.readouterr().out) and "for one class" in printed


def test_a_summary_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    summary.clip_of_size("ViT-B/32")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_table_has_every_method_of_the_launcher():
    from experiments.methods import names

    command = [sys.executable, "scripts/tools/summarize_methods.py", "tiny"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = [line.split("|")[1].strip() for line in printed.splitlines()[2:]]
    assert rows == names()
