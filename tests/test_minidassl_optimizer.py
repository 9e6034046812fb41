"""Optimisers get the settings of the OPTIM section."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.own.optim import build_optimizer

import pytest
import torch
from torch import nn


def optim_cfg(**options):
    cfg = get_cfg_default().OPTIM
    cfg.merge_from_list([part for item in options.items() for part in item])
    return cfg


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.neck = nn.Linear(2, 2)
        self.head = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.ones(1))


COMMON = dict(lr=0.01, weight_decay=0.2)
SETTINGS = dict(LR=0.01, WEIGHT_DECAY=0.2, MOMENTUM=0.8, ADAM_BETA1=0.7, ADAM_BETA2=0.95, RMSPROP_ALPHA=0.6)


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("adam", torch.optim.Adam, dict(betas=(0.7, 0.95), amsgrad=False)),
        ("amsgrad", torch.optim.Adam, dict(betas=(0.7, 0.95), amsgrad=True)),
        ("adamw", torch.optim.AdamW, dict(betas=(0.7, 0.95))),
        ("rmsprop", torch.optim.RMSprop, dict(momentum=0.8, alpha=0.6)),
        ("sgd", torch.optim.SGD, dict(momentum=0.8, dampening=0, nesterov=True)),
        ("sgd", torch.optim.SGD, dict(momentum=0.8, dampening=1, nesterov=False)),
    ],
)
def test_every_name_builds_its_optimiser_with_its_settings(name, kind, expected):
    own = dict(SGD_NESTEROV=expected.get("nesterov", False), SGD_DAMPNING=expected.get("dampening", 0))
    optimizer = build_optimizer(nn.Linear(2, 2), optim_cfg(NAME=name, **own, **SETTINGS))
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    wanted = {**COMMON, **expected}
    assert {key: group[key] for key in wanted} == wanted


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"OPTIM.NAME is 'lion'; set it to one of adam, .*adamw"):
        build_optimizer(Net(), optim_cfg(NAME="lion"))


def test_frozen_parameters_keep_their_place_and_their_value():
    net = Net()
    net.backbone.requires_grad_(False)
    before = net.backbone.weight.clone()
    optimizer = build_optimizer(net, optim_cfg(NAME="sgd", LR=0.1))
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]
    net.head(net.neck(net.backbone(torch.ones(1, 2)))).sum().backward()
    optimizer.step()
    assert torch.equal(net.backbone.weight, before)


def test_parameters_or_groups_may_be_given_in_place_of_a_module():
    net = Net()
    cfg = optim_cfg(NAME="sgd", LR=0.1)
    assert len(build_optimizer(list(net.head.parameters()), cfg).param_groups[0]["params"]) == 2
    groups = [{"params": [net.scale], "lr": 0.5}, {"params": net.head.parameters()}]
    assert [group["lr"] for group in build_optimizer(groups, cfg).param_groups] == [0.5, 0.1]


def test_rates_by_layer_are_refused_rather_than_ignored():
    with pytest.raises(ValueError, match="OPTIM.STAGED_LR is True.*set it to False"):
        build_optimizer(Net(), optim_cfg(STAGED_LR=True))
