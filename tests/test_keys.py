"""Every key of BMIP has an effect: changing it alone changes the trainable tensors or what the model computes."""

from __future__ import annotations

import argparse

import pytest
import torch
from test_bmip_equals_naive import make_learner
from torch.nn import functional as F
from yacs.config import CfgNode

import datasets  # noqa: F401  (registers the data set that the configuration names)
import trainers
from trainers.bmip import BMIP, CONNECT_METHODS, config_from_cfg
from trainers.config import build_cfg
from trainers.prompting.core.clip_weights import PRECISIONS
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError

trainers.register_all()

ON = ["TRAINER.BMIP.PROMPT_DEPTH", "3"]
CHANGES = {
    "TRAINER.BMIP.VARIANT": "released",
    "TRAINER.BMIP.N_CTX": "3",
    "TRAINER.BMIP.CTX_INIT": "",
    "TRAINER.BMIP.PROMPT_DEPTH": "2",
    "TRAINER.BMIP.AGGREGATION": "addition",
    "TRAINER.BMIP.GATE.DETACH": "False",
    "TRAINER.BMIP.GATE.RELATIVE": "True",
    "TRAINER.BMIP.GATE.READOUT": "zero",
    "TRAINER.BMIP.CONNECT_METHOD": "joint",
    "SHARE.SHARE_PARAMETER_VISUAL": "False",
    "SHARE.SHARE_PARAMETER_TEXT": "False",
}
# Tested elsewhere: PREC in test_trainable_tensors.py, WEIGHT_THRESHOLD is refused (test_bad_input.py).
ELSEWHERE = {"TRAINER.BMIP.PREC", "TRAINER.BMIP.WEIGHT_THRESHOLD"}


def make_cfg(*options: str) -> CfgNode:
    arguments = argparse.Namespace(dataset_config_file="", config_file="", opts=[*ON, *options])
    for flag in ("root", "output_dir", "resume", "seed", "source_domains", "target_domains", "transforms", "head"):
        setattr(arguments, flag, None)
    arguments.trainer, arguments.backbone = "BMIP", "tiny"
    arguments.opts += ["DATASET.NAME", "Digits"]
    return build_cfg(arguments)


def fingerprint(clip_model, images, classnames, *options: str) -> list[torch.Tensor]:
    """Trainable tensors, logits and gradients of a configuration, at given values of the tensors."""
    config = config_from_cfg(make_cfg(*options))
    learner = make_learner(clip_model, **vars(config))
    logits = PromptedCLIP(clip_model, learner, classnames)(images)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    return [logits.detach(), *(tensor for p in learner.parameters() for tensor in (p.detach(), p.grad))]


def keys_of(defaults: dict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in defaults.items():
        keys += keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys


def test_every_declared_key_is_tested():
    assert set(keys_of(BMIP.defaults)) == CHANGES.keys() | ELSEWHERE


@pytest.mark.parametrize("key", CHANGES)
def test_changing_a_key_changes_the_model(small_clip, images, classnames, key):
    before = fingerprint(small_clip, images, classnames)
    same = fingerprint(small_clip, images, classnames)
    after = fingerprint(small_clip, images, classnames, key, CHANGES[key])
    assert all(torch.equal(a, b) for a, b in zip(before, same))
    assert len(before) != len(after) or any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(before, after))


@pytest.mark.parametrize(
    "key, unshared, shared",
    [
        ("SHARE.SHARE_PARAMETER_TEXT", "text_to_vision", "vision_to_text"),
        ("SHARE.SHARE_PARAMETER_VISUAL", "vision_to_text", "text_to_vision"),
    ],
)
def test_sharing_is_named_after_the_modality_that_is_projected(small_clip, key, unshared, shared):
    learner = make_learner(small_clip, **vars(config_from_cfg(make_cfg(key, "False"))))
    assert set(getattr(learner, unshared)) == {"0", "1", "2"} and set(getattr(learner, shared)) == {"0", "deep"}


def test_the_authors_connect_method_joint_is_the_aggregation_joint():
    assert config_from_cfg(make_cfg("TRAINER.BMIP.CONNECT_METHOD", "joint")).aggregation == "joint"
    assert set(CONNECT_METHODS) == {"None", "joint"}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_of_the_configuration_is_used(run_train, tmp_path, name):
    exact, run = (
        run_train(folder=tmp_path / prec, options=["TRAINER.BMIP.PREC", prec, "OPTIM.MAX_EPOCH", "1", "OPTIM.LR", lr])
        for prec, lr in (("fp32", "0.01"), (name, "0.010"))
    )
    assert run.status == 0, run.errors
    saved, reference = run.checkpoint(1), exact.checkpoint(1)
    assert all(value.dtype == torch.float32 for value in saved["state_dict"].values())
    equal = all(torch.equal(saved["state_dict"][key], value) for key, value in reference["state_dict"].items())
    assert equal is (name == "fp32")
    assert (saved["scaler"] is not None) is (name == "amp")


def test_a_shuffled_readout_is_that_of_the_image_and_class_before(small_clip, images, classnames):
    kept = {}
    for readout in ("attention", "shuffled"):
        learner = make_learner(small_clip, depth=1, readout=readout)
        PromptedCLIP(small_clip, learner, classnames)(images)
        kept[readout] = learner.last_gates
    for tower in ("text", "vision"):
        own, shuffled = kept["attention"][tower][0], kept["shuffled"][tower][0]
        assert len(own.unique(dim=0)) == len(own)
        torch.testing.assert_close(shuffled, own.roll(1, dims=0))


def test_a_zero_readout_is_a_learned_constant(small_clip, images, classnames):
    learner = make_learner(small_clip, depth=2, readout="zero")
    PromptedCLIP(small_clip, learner, classnames)(images)
    for tower, gates in (("text", learner.text_gate), ("vision", learner.vision_gate)):
        for layer, weights in learner.last_gates[tower].items():
            torch.testing.assert_close(weights, torch.sigmoid(gates[str(layer)].bias).expand(weights.shape))


def test_messages_name_the_node_that_the_user_has():
    cfg = make_cfg("TRAINER.BMIP.PROMPT_DEPTH", "0").clone()
    cfg.defrost()
    cfg.TRAINER.BMIPPLUGIN = cfg.TRAINER.BMIP  # as where a plugin found the method's own name taken
    with pytest.raises(InputError, match="TRAINER.BMIPPLUGIN.PROMPT_DEPTH is 0"):
        config_from_cfg(cfg, "BMIPPLUGIN")
