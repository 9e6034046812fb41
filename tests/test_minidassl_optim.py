"""Optimisers get the settings of OPTIM; learning rates follow epoch by epoch, and go on where they stopped."""

from __future__ import annotations

import copy
import math

from minidassl.config import get_cfg_default
from minidassl.own import optim
from minidassl.own.optim import build_lr_scheduler, build_optimizer, optim_settings

import pytest
import torch
from torch import nn


def optim_cfg(**options):
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list([part for item in options.items() for part in item])
    return cfg


# ------------------------------------------------------------------------------------------------------- optimisers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.head = nn.Linear(2, 3)


COMMON = dict(lr=0.01, weight_decay=0.2)
SETTINGS = dict(LR=0.01, WEIGHT_DECAY=0.2, MOMENTUM=0.8, ADAM_BETA1=0.7, ADAM_BETA2=0.95, EPS=1e-3, RMSPROP_ALPHA=0.6)


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("adam", torch.optim.Adam, dict(betas=(0.7, 0.95), eps=1e-3, amsgrad=False)),
        ("amsgrad", torch.optim.Adam, dict(betas=(0.7, 0.95), eps=1e-3, amsgrad=True)),
        ("adamw", torch.optim.AdamW, dict(betas=(0.7, 0.95), eps=1e-3)),
        ("rmsprop", torch.optim.RMSprop, dict(momentum=0.8, alpha=0.6)),
        ("sgd", torch.optim.SGD, dict(momentum=0.8, dampening=0, nesterov=True)),
        ("sgd", torch.optim.SGD, dict(momentum=0.8, dampening=1, nesterov=False)),
    ],
)
def test_every_name_builds_its_optimiser_with_its_settings(name, kind, expected):
    own = dict(SGD_NESTEROV=expected.get("nesterov", False), SGD_DAMPNING=expected.get("dampening", 0))
    optimizer = build_optimizer(nn.Linear(2, 2), optim_cfg(NAME=name, **own, **SETTINGS))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0].items() >= {**COMMON, **expected}.items()


# PyTorch's fused optimisers run on a CPU, too, where nothing here chooses them.
@pytest.fixture
def as_on_cuda(monkeypatch):
    return lambda on_cuda: monkeypatch.setattr(optim, "_on_cuda", lambda params: on_cuda)


FUSED = dict(rtol=1e-6, atol=1e-7)


def three_steps(name: str) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = Net()
    optimizer = build_optimizer(net, optim_cfg(NAME=name, **SETTINGS))
    for _ in range(3):
        optimizer.zero_grad()
        net.head(net.backbone(torch.ones(4, 2))).square().sum().backward()
        optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_on_cuda_the_optimiser_is_fused_and_gives_the_same_weights(name, as_on_cuda):
    plain, _ = three_steps(name)
    as_on_cuda(True)
    net, optimizer = three_steps(name)
    assert optimizer.param_groups[0].get("fused") == (None if name == "rmsprop" else True)
    for ours, reference in zip(net.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, reference, **FUSED)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
@pytest.mark.parametrize("saved, loaded", [(False, True), (True, False)])
def test_a_state_from_another_device_leaves_the_choice_of_kernels_alone(name, saved, loaded, as_on_cuda):
    as_on_cuda(saved)
    _, source = three_steps(name)
    as_on_cuda(loaded)
    _, target = three_steps(name)
    keys, fused = target.state_dict()["param_groups"][0].keys(), target.param_groups[0].get("fused")
    target.load_state_dict(source.state_dict())
    assert target.state_dict()["param_groups"][0].keys() == keys
    assert target.param_groups[0].get("fused") == fused
    target.step()


def test_frozen_parameters_keep_their_place_and_their_value():
    net = Net()
    net.backbone.requires_grad_(False)
    before = net.backbone.weight.clone()
    optimizer = build_optimizer(net, optim_cfg(NAME="sgd", LR=0.1))
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]
    net.head(net.backbone(torch.ones(1, 2))).sum().backward()
    optimizer.step()
    assert torch.equal(net.backbone.weight, before)


# -------------------------------------------------------------------------------------------------------- schedules

COSINE_10 = [0.002 * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(11)]

SGD = dict(NAME="sgd", LR=0.002, LR_SCHEDULER="cosine", MAX_EPOCH=10, WARMUP_CONS_LR=1e-5, WARMUP_MIN_LR=1e-5)
WARM = dict(SGD, WARMUP_EPOCH=1, WARMUP_TYPE="constant")

# The rate in force during each epoch; the last entry is what the optimiser holds after the last step.
SEQUENCES = {
    "cosine after one constant epoch": (
        WARM,
        [1e-05, 0.002, 0.0019510565162951536, 0.0018090169943749473, 0.0015877852522924731, 0.0013090169943749475]
        + [0.001, 0.0006909830056250527, 0.000412214747707527, 0.00019098300562505268, 4.894348370484647e-05],
    ),
    "cosine after two constant epochs": (
        dict(WARM, WARMUP_EPOCH=2),
        [1e-5, 1e-5, 0.002, 0.001951057, 0.001809017, 0.001587785, 0.001309017, 0.001, 0.000690983, 0.000412215]
        + [0.000190983],
    ),
    "cosine after three linear epochs": (
        dict(WARM, WARMUP_EPOCH=3, WARMUP_TYPE="linear"),
        [1e-5, 0.000666667, 0.001333333, 0.002, 0.001951057, 0.001809017, 0.001587785, 0.001309017, 0.001]
        + [0.000690983, 0.000412215],
    ),
    "cosine that counts the warm-up": (
        dict(WARM, WARMUP_RECOUNT=False),
        [1e-5, 0.002, 0.001854397, 0.001627616, 0.001341855, 0.001025086, 0.000708317, 0.000422555, 0.000195774]
        + [0.0000501713, 0.0],
    ),
    "cosine": (SGD, COSINE_10),
    "multi-step after one constant epoch": (
        dict(WARM, LR_SCHEDULER="multi_step", STEPSIZE=(3, 6)),
        [1e-5] + [0.002] * 3 + [0.0002] * 3 + [0.00002] * 3 + [0.00002],
    ),
    "multi-step": (
        dict(SGD, LR_SCHEDULER="multi_step", STEPSIZE=(2, 9), GAMMA=0.5),
        [0.002] * 2 + [0.001] * 7 + [0.0005] * 2,
    ),
    "single step at the end": (dict(SGD, LR_SCHEDULER="single_step"), [0.002] * 10 + [0.0002]),
    "single step every four": (
        dict(SGD, LR_SCHEDULER="single_step", STEPSIZE=(7, 4)),
        [0.002] * 4 + [0.0002] * 4 + [0.00002] * 3,
    ),
}


def build(settings):
    optimizer = build_optimizer(nn.Linear(2, 2), optim_cfg(**settings))
    return optimizer, build_lr_scheduler(optimizer, optim_cfg(**settings))


def run(optimizer, scheduler, epochs) -> list[float]:
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("settings, expected", SEQUENCES.values(), ids=SEQUENCES)
def test_the_learning_rate_of_every_epoch(settings, expected):
    optimizer, scheduler = build(settings)
    rates = run(optimizer, scheduler, len(expected) - 1) + [optimizer.param_groups[0]["lr"]]
    assert rates == pytest.approx(expected, rel=2e-6, abs=1e-12)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


def test_the_customary_schedule_is_exact_to_the_last_bit():
    settings, expected = SEQUENCES["cosine after one constant epoch"]
    optimizer, scheduler = build(settings)
    assert run(optimizer, scheduler, 10) + [optimizer.param_groups[0]["lr"]] == expected


def test_a_plain_setting_that_does_not_exist_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match="no key LERNING_RATE; its keys are NAME, LR, "):
        optim_settings(LERNING_RATE=0.1)


@pytest.mark.parametrize("warmup_type, middle", [("constant", [1e-5, 1e-5]), ("linear", [0.05, 0.1])])
def test_every_parameter_group_follows_its_own_full_rate(warmup_type, middle):
    cfg = optim_cfg(WARMUP_EPOCH=2, WARMUP_TYPE=warmup_type, LR=0.2, NAME="sgd")
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = build_optimizer(groups, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    seen = []
    for _ in range(3):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert seen == [[1e-5, 1e-5], middle, [0.1, 0.2]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("settings, expected", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_a_restored_schedule_drives_the_new_optimiser_exactly(settings, expected, stop):
    optimizer, scheduler = build(settings)
    uninterrupted = run(optimizer, scheduler, 10) + [optimizer.param_groups[0]["lr"]]

    optimizer, scheduler = build(settings)
    before = run(optimizer, scheduler, stop)
    fresh_optimizer, fresh_scheduler = build(settings)
    fresh_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    fresh_scheduler.load_state_dict(scheduler.state_dict())
    after = run(fresh_optimizer, fresh_scheduler, 10 - stop) + [fresh_optimizer.param_groups[0]["lr"]]
    assert before + after == uninterrupted
    assert optimizer.param_groups[0]["lr"] == uninterrupted[stop], "the old optimiser is no longer driven"


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(NAME="lion"), "OPTIM.NAME is 'lion'; set it to one of adam, .*adamw"),
        (dict(STAGED_LR=True), "OPTIM.STAGED_LR is True.*set it to False"),
        (dict(LR_SCHEDULER="polynomial"), "LR_SCHEDULER is 'polynomial'; set it to one of single_step"),
        (dict(WARMUP_EPOCH=1, WARMUP_TYPE="cubic"), "WARMUP_TYPE is 'cubic'; set it to one of .*linear"),
    ],
)
def test_a_value_that_is_not_supported_names_the_key_and_the_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        build(settings)


@pytest.mark.parametrize("name, stepsize", [("multi_step", 3), ("single_step", (2.5,)), ("single_step", "3")])
def test_step_sizes_of_the_wrong_kind_name_the_key(name, stepsize):
    cfg = optim_cfg(LR_SCHEDULER=name)
    cfg.STEPSIZE = stepsize
    with pytest.raises(TypeError, match="OPTIM.STEPSIZE"):
        build_lr_scheduler(build_optimizer(nn.Linear(1, 1), cfg), cfg)
