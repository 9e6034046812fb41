"""Every declared key has an effect: changing it alone changes what trains or what is computed."""

from __future__ import annotations

import json
import random
from functools import cache

import pytest
import torch
from conftest import CLASSNAMES, make_clip
from helpers.learners import make_learner
from helpers.runs import saved

import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.bmip import BMIP
from trainers.config import default_cfg, objective_of
from trainers.prompting.core.clip_weights import PRECISIONS
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.recipes import value_at

trainers.register_all()
ALL = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
TRAINED = [name for name, trainer in ALL.items() if trainer.method.learns]
# With these, ProGrad's gradient is projected.
LABELS = torch.tensor([2, 1, 1, 3])
# Within the three layers of the small CLIP; any data set without descriptions will do.
ON = dict.fromkeys(["TRAINER.MAPLE.PROMPT_DEPTH", "TRAINER.BMIP.PROMPT_DEPTH", "TRAINER.CoPrompt.PROMPT_DEPTH"], 3)
ON |= {f"TRAINER.{node}.PROMPT_DEPTH_{tower}": 3 for node in ("IVLP", "PROMPTSRC") for tower in ("TEXT", "VISION")}
ON |= {"TRAINER.UPT.PROMPT_DEPTH": 3, "TRAINER.HICROPL.PROMPT_DEPTH": 3, "TRAINER.HICROPL.CROSS_LAYER": 1}
ON |= {"TRAINER.MMADAPTER.ADAPTER_START": 2, "TRAINER.MMADAPTER.ADAPTER_END": 3}
ON |= {"TRAINER.MMRL.REP_LAYERS": [2, 3], "TRAINER.MMRLpp.REP_LAYERS": [2, 3]}
ON |= {"TRAINER.BITP.PROMPT_DEPTH": 2}
ON |= {"OPTIM.MAX_EPOCH": 3, "DATASET.NAME": "EuroSAT"}
FEWER = {"N_CTX": 3, "PROMPT_DEPTH": 2, "CTX_INIT": "an image of the"}
TOWERS = {"N_CTX_TEXT": 3, "PROMPT_DEPTH_TEXT": 2, "N_CTX_VISION": 3, "PROMPT_DEPTH_VISION": 2}
TOWERS |= {"CTX_INIT": "an image of the"}
# What each key is changed to, by its node.
CHANGES = {
    "TRAINER.BMIP": {**FEWER, "VARIANT": "released", "AGGREGATION": "addition", "CONNECT_METHOD": "joint"},
    "TRAINER.BMIP.GATE": {"DETACH": False, "RELATIVE": True, "READOUT": "zero"},
    "SHARE": {"SHARE_PARAMETER_TEXT": False, "SHARE_PARAMETER_VISUAL": False},
    "TRAINER.MAPLE": FEWER,
    "TRAINER.HICROPL": {**FEWER, "VARIANT": "released", "CROSS_LAYER": 2, "LAMBD": 1.0},
    "TRAINER.UPT": {**FEWER, "VARIANT": "released", "DROPOUT": 0.5},
    "TRAINER.COOP": {"N_CTX": 3, "CTX_INIT": "a photo of a", "CSC": True, "CLASS_TOKEN_POSITION": "middle"}
    | {"CLASS_LAYER": 2},
    "TRAINER.MMADAPTER": {"ADAPTER_START": 3, "ADAPTER_END": 2, "TEXT_CTX_INIT": "an image of the"},
    **{f"TRAINER.{node}": {"REP_LAYERS": [3], "FUSES": "always"} for node in ("MMRL", "MMRLpp")},
    "TRAINER.DECOOP": {"N_CTX": 3, "K": 4, "DETECTOR_EPOCHS": 2, "COSINE": "epoch"},
    "TRAINER.BITP": {**FEWER, "PROMPT_DEPTH": 3, "CONNECT_METHOD": "joint"},
    "TRAINER.ProDA": {"VARIANT": "released"},
    "TRAINER.COCOOP": {"N_CTX": 3, "CTX_INIT": "a photo of a"},
    "TRAINER.VPT": {"N_CTX_VISION": 3, "PROMPT_DEPTH_VISION": 2, "CTX_INIT": "an image of the"},
    "TRAINER.IVLP": {**TOWERS, "HEAD_WIDTH": 4},
    "TRAINER.PROMPTSRC": {
        **TOWERS,
        **{
            "TEXT_LOSS_WEIGHT": 1.0,
            "IMAGE_LOSS_WEIGHT": 1.0,
            "GPA_MEAN": 1.0,
            "GPA_STD": 2.0,
            "TEACHER_SENTENCES": 80,
        },
    },
    "TRAINER.CoPrompt": {
        **FEWER,
        **{"IMAGE_ADAPTER_SHARE": 0.5, "TEXT_ADAPTER_SHARE": 0.5, "DESCRIPTIONS": "descriptions.json"},
    },
    "TRAINER": {"W": 2.0, "DISTILL": "mse"},
}


def declared_keys() -> dict[str, str]:
    """Each key with the trainer that it is tried with; PREC is below; those without effect are refused."""
    keys = {}
    for name, trainer in ALL.items():
        method = trainer.method
        for key in [*method.keys, *objective_of(default_cfg(), method).Config().keyed()]:
            keys.setdefault(key, name)
    untried = (".PREC", ".WEIGHT_THRESHOLD", ".TEACHER_NAME", "LOSS.NAME")
    return {key: name for key, name in keys.items() if not key.endswith(untried)}


def configured(name: str, **changes):
    cfg = default_cfg()
    cfg.merge_from_list([word for pair in {"TRAINER.NAME": name, **ON, **changes}.items() for word in pair])
    return cfg


def computed(name: str, **changes) -> dict[str, torch.Tensor]:
    """Logits, loss, trained tensors with their gradients, logits of a test, and what the epochs' ends make of them."""
    clip_model = make_clip()
    torch.manual_seed(0)
    random.seed(0)
    images = torch.randn(8, 3, 32, 32)
    learner, objective = ALL[name].build_parts(configured(name, **changes), clip_model)
    model = PromptedCLIP(clip_model, learner, CLASSNAMES)
    objective.prepare(model, CLASSNAMES)
    objective.before_step()
    loss = objective.loss(model, images.chunk(2)[: objective.views], LABELS)
    objective.backward(loss, list(learner.parameters()), lambda loss: loss)
    found = {"logits": loss.logits.detach(), "loss": loss.total.detach()}
    for key, parameter in learner.named_parameters():
        found[key] = parameter.detach().clone()
        if parameter.grad is not None:
            found[f"gradient of {key}"] = parameter.grad
    model.eval().learned = torch.zeros(len(CLASSNAMES), dtype=torch.bool)
    with torch.no_grad():
        found["logits of other classes"] = model(images[:1])
    for epoch in (1, 2, 3):
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.mul_(epoch)
        objective.end_epoch(learner, epoch)
    if objective.stage:  # a later one; of the second step, for what changes from step to step
        learner.zero_grad()
        for _ in range(2):
            objective.before_step()
        loss = objective.loss(model, images.chunk(2)[: objective.views], LABELS)
        objective.backward(loss, list(learner.parameters()), lambda loss: loss)
        trained = {key: one.grad for key, one in learner.named_parameters() if one.grad is not None}
        found |= {f"later gradient of {key}": gradient for key, gradient in trained.items()}
    return {**found, **{f"{key} at the end": parameter.detach() for key, parameter in learner.named_parameters()}}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[key].shape == second[key].shape and torch.equal(first[key], second[key]) for key in first
    )


@cache
def unchanged(name: str) -> dict[str, torch.Tensor]:
    found = computed(name)
    assert equal(found, computed(name))
    return found


def another_value(key: str) -> object:
    """The one that is listed; of a number that is not listed half, and of a switch the opposite."""
    node, _, own = key.rpartition(".")
    if own in CHANGES.get(node, ()):
        return CHANGES[node][own]
    default = value_at(default_cfg(), key)
    assert not isinstance(default, str), f"no change is listed for {key}, which is a text"
    return not default if isinstance(default, bool) else type(default)(default / 2) or 1


@pytest.mark.parametrize("key", DECLARED := declared_keys())
def test_changing_a_key_changes_what_is_trained_or_computed(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "descriptions.json").write_text(json.dumps({name: ["words.", "more."] for name in CLASSNAMES}))
    assert not equal(unchanged(DECLARED[key]), computed(DECLARED[key], **{key: another_value(key)}))


@pytest.mark.parametrize(
    "key, unshared, shared",
    [
        ("SHARE.SHARE_PARAMETER_TEXT", "text_to_vision", "vision_to_text"),
        ("SHARE.SHARE_PARAMETER_VISUAL", "vision_to_text", "text_to_vision"),
    ],
)
def test_sharing_is_named_after_the_modality_that_is_projected(small_clip, key, unshared, shared):
    learner, _ = BMIP.build_parts(configured("BMIP", **{key: False}), small_clip)
    assert set(getattr(learner, unshared)) == {"0", "1", "2"} and set(getattr(learner, shared)) == {"0", "deep"}


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


# ------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize(
    "name, precision",
    [*(("BMIP", precision) for precision in PRECISIONS), *((name, "amp") for name in TRAINED if name != "BMIP")],
)
def test_the_precision_of_the_configuration_is_trained_in(run_train, tmp_path, name, precision):
    runs = []
    for folder, prec in (("exact", "fp32"), ("other", precision)):
        options = [f"TRAINER.{ALL[name].method.node}.PREC", prec, "OPTIM.MAX_EPOCH", "1", "OPTIM.LR", "0.01"]
        options += ["OPTIM.WARMUP_EPOCH", "0", "TRAINER.PROMPTSRC.GPA_MEAN", "1", "TEST.NO_TEST", "True"]
        run = run_train(trainer=name, folder=tmp_path / folder, options=options)
        assert run.status == 0, run.errors
        runs.append(saved(run, 1))
    exact, other = runs
    kinds = {name: value.dtype for name, value in other["state_dict"].items() if name != "base_names"}  # of DeCoOp
    assert set(kinds.values()) == {torch.float32}
    assert equal(exact["state_dict"], other["state_dict"]) is (precision == "fp32")
    assert bool(other["scaler"]) is (precision == "amp")


@pytest.mark.parametrize("name", ["ZeroshotCLIP", "ZeroshotCLIP2"])
def test_the_precision_of_zero_shot_clip_is_used(run_train, tmp_path, name, seen):
    for prec in ("fp32", "bf16"):
        run = run_train(trainer=name, folder=tmp_path / prec, options=["TRAINER.ZEROSHOTCLIP.PREC", prec])
        assert run.status == 0, run.errors
    (_, exact), (_, reduced) = seen
    assert 0 < (exact - reduced).abs().max() < 0.1 * exact.abs().max()
