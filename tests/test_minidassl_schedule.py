"""Learning rates epoch by epoch, and schedules that continue where they stopped."""

from __future__ import annotations

import io
import math

from minidassl.config import get_cfg_default
from minidassl.own.optim import build_lr_scheduler, build_optimizer, optim_settings

import pytest
import torch
from torch import nn

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
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list([part for item in settings.items() for part in item])
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, cfg)
    return model, optimizer, build_lr_scheduler(optimizer, cfg)


def run(optimizer, scheduler, epochs) -> list[float]:
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("settings, expected", SEQUENCES.values(), ids=SEQUENCES)
def test_the_learning_rate_of_every_epoch(settings, expected):
    _, optimizer, scheduler = build(settings)
    rates = run(optimizer, scheduler, len(expected) - 1) + [optimizer.param_groups[0]["lr"]]
    assert rates == pytest.approx(expected, rel=2e-6, abs=1e-12)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


def test_the_customary_schedule_is_exact_to_the_last_bit():
    settings, expected = SEQUENCES["cosine after one constant epoch"]
    _, optimizer, scheduler = build(settings)
    assert run(optimizer, scheduler, 10) + [optimizer.param_groups[0]["lr"]] == expected


@pytest.mark.parametrize("rate, epochs", [(0.0035, 5), (0.002, 50), (0.0026, 2), (0.01, 1)])
def test_plain_settings_give_the_published_rates(rate, epochs):
    settings = optim_settings(LR=rate, LR_SCHEDULER="cosine", MAX_EPOCH=epochs, WARMUP_EPOCH=1, WARMUP_TYPE="constant")
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    published = [rate / 2 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs - 1)]
    assert run(optimizer, build_lr_scheduler(optimizer, settings), epochs) == pytest.approx(
        [1e-5, *published], rel=1e-13
    )


def test_a_plain_setting_that_does_not_exist_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match="no key LERNING_RATE; its keys are NAME, LR, "):
        optim_settings(LERNING_RATE=0.1)


@pytest.mark.parametrize("warmup_type, middle", [("constant", [1e-5, 1e-5]), ("linear", [0.05, 0.1])])
def test_every_parameter_group_follows_its_own_full_rate(warmup_type, middle):
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list(["WARMUP_EPOCH", 2, "WARMUP_TYPE", warmup_type, "LR", 0.2, "NAME", "sgd"])
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
    epochs = settings["MAX_EPOCH"]
    stop = min(stop, epochs - 1)
    _, optimizer, scheduler = build(settings)
    uninterrupted = run(optimizer, scheduler, epochs) + [optimizer.param_groups[0]["lr"]]

    _, optimizer, scheduler = build(settings)
    before = run(optimizer, scheduler, stop)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)

    _, fresh_optimizer, fresh_scheduler = build(settings)
    file.seek(0)
    fresh_optimizer.load_state_dict(torch.load(file, weights_only=True))
    fresh_scheduler.load_state_dict(scheduler.state_dict())
    after = run(fresh_optimizer, fresh_scheduler, epochs - stop) + [fresh_optimizer.param_groups[0]["lr"]]
    assert before + after == uninterrupted
    assert optimizer.param_groups[0]["lr"] == uninterrupted[stop], "the old optimiser is no longer driven"


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (dict(LR_SCHEDULER="polynomial"), ValueError, "LR_SCHEDULER is 'polynomial'; set it to one of single_step"),
        (dict(WARMUP_EPOCH=1, WARMUP_TYPE="cubic"), ValueError, "WARMUP_TYPE is 'cubic'; set it to one of .*linear"),
    ],
)
def test_unknown_schedules_list_the_known_ones(settings, error, message):
    with pytest.raises(error, match=message):
        build(settings)


@pytest.mark.parametrize("name, stepsize", [("multi_step", 3), ("single_step", (2.5,)), ("single_step", "3")])
def test_step_sizes_of_the_wrong_kind_name_the_key(name, stepsize):
    cfg = get_cfg_default().OPTIM
    cfg.LR_SCHEDULER, cfg.STEPSIZE = name, stepsize
    with pytest.raises(TypeError, match="OPTIM.STEPSIZE"):
        build_lr_scheduler(build_optimizer(nn.Linear(1, 1), cfg), cfg)
