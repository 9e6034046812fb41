"""The checkpoint evaluator: sizes come from the file, what is taken and left is said, bad folders are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_clip

from experiments import evaluate_checkpoint
from trainers.prompting.learners.maple import MaPLeConfig
from trainers.prompting.learners.maple import learner as maple_learner


@pytest.fixture
def backbone(tmp_path):
    """A small CLIP on disk, and its module."""
    model = make_clip()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    return str(tmp_path / "clip.pt"), model


def published(learner: torch.nn.Module, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What MaPLe's authors save of a model."""
    state = {"prompt_learner.token_prefix": torch.zeros(7, 1, 64), "logit_scale": model.logit_scale}
    state |= {f"image_encoder.{key}": value for key, value in model.visual.state_dict().items()}
    for key, value in learner.state_dict().items():
        group, layer, *kind = key.split(".")
        if group == "text_prompts":
            name = "ctx" if layer == "0" else f"compound_prompts_text.{int(layer) - 1}"
        else:
            name = "proj." if layer == "0" else f"compound_prompt_projections.{int(layer) - 1}."
            name += kind[0]
        state[f"prompt_learner.{name}"] = value.half()
    return state


def evaluate(
    data_root: str, model_dir: Path, backbone: str, tmp_path: Path, *extra: str, trainer: str = "MaPLe"
) -> int:
    return evaluate_checkpoint.main(
        [
            *("--trainer", trainer, "--model-dir", str(model_dir), "digits", "--root", data_root, "--classes", "new"),
            *("--output-dir", str(tmp_path / "evaluation"), *extra, "--backbone", backbone),
            *("INPUT.SIZE", "(32, 32)", f"TRAINER.{trainer.upper()}.PREC", "fp32"),
        ]
    )


def test_a_published_checkpoint_of_any_size_is_evaluated(tmp_path, data_root, backbone, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    path, model = backbone
    learner = maple_learner(MaPLeConfig(length=3, depth=2), model)
    folder = tmp_path / "weights" / "MultiModalPromptLearner"
    folder.mkdir(parents=True)
    torch.save({"state_dict": published(learner, model), "epoch": 5}, folder / "model.pth.tar-5")
    assert evaluate(data_root, tmp_path / "weights", path, tmp_path) == 0
    printed = capsys.readouterr().out
    assert "TRAINER.MAPLE.N_CTX 3, TRAINER.MAPLE.PROMPT_DEPTH 2" in printed
    assert "text_prompts.1" in printed and "are left out: frozen CLIP" in printed
    assert "1 are left out: tokens of the class names" in printed
    result = json.loads((tmp_path / "evaluation" / "result.json").read_text())
    assert result["classes"] == "new" and result["accuracy"] is not None


def test_a_checkpoint_of_ours_is_evaluated_by_its_sizes(run_train, tmp_path, data_root, capsys, monkeypatch):
    run = run_train(trainer="VPT", options=["TRAINER.VPT.N_CTX_VISION", "5"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert evaluate(data_root, run.folder, "tiny", tmp_path, trainer="VPT") == 0
    assert "TRAINER.VPT.N_CTX_VISION 5, TRAINER.VPT.PROMPT_DEPTH_VISION 4" in capsys.readouterr().out


def test_what_cannot_be_evaluated_is_named(tmp_path, data_root, backbone, capsys):
    path, model = backbone
    assert evaluate(data_root, tmp_path, path, tmp_path) == 2
    assert (
        "MultiModalPromptLearner/model-best.pth.tar" in (errors := capsys.readouterr().err) and "--model-dir" in errors
    )
    folder = tmp_path / "MultiModalPromptLearner"
    folder.mkdir()
    foreign = {"prompt_learner.ctx": torch.zeros(2, 64), "prompt_learner.meta_net.linear1.bias": torch.zeros(4)}
    torch.save({"state_dict": foreign, "epoch": 5}, folder / "model.pth.tar-5")
    assert evaluate(data_root, tmp_path, path, tmp_path) == 2
    assert "model.pth.tar-5" in (errors := capsys.readouterr().err) and "meta_net.linear1.bias" in errors
    assert evaluate(data_root, tmp_path, path, tmp_path, "--load-epoch", "7") == 2
    assert "model.pth.tar-7" in (errors := capsys.readouterr().err) and "[5]" in errors
