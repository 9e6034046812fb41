"""Every key that a baseline declares has an effect: changing it alone changes what trains or what is computed."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip
from test_keys import keys_of
from torch.nn import functional as F

import datasets  # noqa: F401  (registers the data set that the configuration names)
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import default_cfg
from trainers.prompting.core.prompted_clip import PromptedCLIP

trainers.register_all()

# Within the three layers of the small CLIP.
SETTINGS = {
    "CoOp": [],
    "CoCoOp": [],
    "VPT": [],
    "IVLP": ["TRAINER.IVLP.PROMPT_DEPTH_TEXT", "2", "TRAINER.IVLP.PROMPT_DEPTH_VISION", "2"],
    "MaPLe": ["TRAINER.MAPLE.PROMPT_DEPTH", "2"],
}
CHANGES = {
    "CoOp": {
        "TRAINER.COOP.N_CTX": "3",
        "TRAINER.COOP.CSC": "True",
        "TRAINER.COOP.CTX_INIT": "a photo of a",
        "TRAINER.COOP.CLASS_TOKEN_POSITION": "middle",
    },
    "CoCoOp": {"TRAINER.COCOOP.N_CTX": "3", "TRAINER.COCOOP.CTX_INIT": "a photo of a"},
    "VPT": {
        "TRAINER.VPT.N_CTX_VISION": "3",
        "TRAINER.VPT.CTX_INIT": "an image of the",
        "TRAINER.VPT.PROMPT_DEPTH_VISION": "3",
    },
    "IVLP": {
        "TRAINER.IVLP.N_CTX_VISION": "3",
        "TRAINER.IVLP.N_CTX_TEXT": "3",
        "TRAINER.IVLP.CTX_INIT": "",
        "TRAINER.IVLP.PROMPT_DEPTH_VISION": "3",
        "TRAINER.IVLP.PROMPT_DEPTH_TEXT": "3",
        "TRAINER.IVLP.HEAD_WIDTH": "4",
    },
    "MaPLe": {"TRAINER.MAPLE.N_CTX": "3", "TRAINER.MAPLE.CTX_INIT": "", "TRAINER.MAPLE.PROMPT_DEPTH": "3"},
}
PAIRS = [(name, key) for name, changes in CHANGES.items() for key in changes]
METHODS = pytest.mark.parametrize("name", CHANGES)


def results(name: str, images, classnames, *options: str) -> dict[str, torch.Tensor]:
    """What a configuration computes: logits, and trained tensors with gradients by name."""
    cfg = default_cfg()
    cfg.merge_from_list([*SETTINGS[name], *options])
    clip_model = make_clip()
    torch.manual_seed(0)
    learner = TRAINER_REGISTRY.get(name).build_learner(cfg, clip_model)
    logits = PromptedCLIP(clip_model, learner, classnames)(images)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    found = {"logits": logits.detach()}
    for key, parameter in learner.named_parameters():
        found |= {key: parameter.detach(), f"gradient of {key}": parameter.grad}
    return found


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    alike = [first[key].shape == second[key].shape for key in first.keys() & second.keys()]
    return first.keys() == second.keys() and all(alike) and all(torch.equal(first[k], second[k]) for k in first)


def precision_key(name: str) -> str:
    return f"TRAINER.{TRAINER_REGISTRY.get(name).node}.PREC"


@METHODS
def test_every_declared_key_is_tested(name):
    assert set(keys_of(TRAINER_REGISTRY.get(name).defaults)) == CHANGES[name].keys() | {precision_key(name)}


@pytest.mark.parametrize("name", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_zero_shot_clip_declares_its_precision_only(name):
    assert keys_of(TRAINER_REGISTRY.get(name).defaults) == [precision_key(name)]


@pytest.mark.parametrize("name, key", PAIRS)
def test_changing_a_key_changes_the_model(images, classnames, name, key):
    before = results(name, images, classnames)
    assert equal(before, results(name, images, classnames))
    after = results(name, images, classnames, key, CHANGES[name][key])
    assert not equal(before, after) and not torch.equal(before["logits"], after["logits"])


def test_language_prompting_is_ivlp_without_vision_prompts(images, classnames):
    off = ["TRAINER.IVLP.N_CTX_VISION", "0", "TRAINER.IVLP.PROMPT_DEPTH_VISION", "0"]
    assert {key for key in results("IVLP", images, classnames, *off) if "vision" in key} == set()


@METHODS
@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_the_precision_of_the_configuration_is_trained_in(run_train, tmp_path, name, precision):
    runs = []
    for prec in ("fp32", precision):
        options = [precision_key(name), prec, "OPTIM.MAX_EPOCH", "1", "OPTIM.LR", "0.01", "OPTIM.WARMUP_EPOCH", "0"]
        run = run_train(trainer=name, folder=tmp_path / prec, options=[*options, "TEST.NO_TEST", "True"])
        assert run.status == 0, run.errors
        (file,) = run.folder.glob("*/model.pth.tar-1")
        runs.append(torch.load(file, weights_only=True))
    exact, reduced = runs
    assert all(value.dtype == torch.float32 for value in reduced["state_dict"].values())
    assert not all(torch.equal(reduced["state_dict"][key], value) for key, value in exact["state_dict"].items())
    assert (reduced["scaler"] is not None) is (precision == "amp")


@pytest.mark.parametrize("name", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_the_precision_of_zero_shot_clip_is_used(run_train, tmp_path, name, monkeypatch):
    from trainers.base import PromptTrainer

    logits = []

    def model_inference(trainer, images):
        logits.append(trainer.model(images))
        return logits[-1]

    monkeypatch.setattr(PromptTrainer, "model_inference", model_inference)
    for prec in ("fp32", "bf16"):
        run = run_train(trainer=name, folder=tmp_path / prec, options=["TRAINER.ZEROSHOTCLIP.PREC", prec])
        assert run.status == 0, run.errors
    exact, reduced = logits
    assert 0 < (exact - reduced).abs().max() < 0.1 * exact.abs().max()
