"""A step gives a GPU no more to do than the table of tests/golden/launches.json says, counted on any machine.

The fewer the better: on a GPU, small batches take as long as the host needs to launch. A change that adds some is red
here; `python -m tests.golden.freeze launches` writes the table anew.
"""

from __future__ import annotations

import pytest
import torch
from golden import freeze

from experiments.tools.launches import Launches, fake_gpu, is_launched

FROZEN = freeze.golden("launches")
aten = torch.ops.aten


@pytest.mark.parametrize("name", FROZEN["launches"])
def test_a_step_has_no_more_launches_than_before(name):
    if torch.__version__.split("+")[0] != FROZEN["environment"]["torch"]:
        pytest.skip("another version of PyTorch makes other operations of the same step")
    assert freeze.launches(name) <= FROZEN["launches"][name]


def test_views_and_memory_alone_are_no_launches():
    with Launches() as launches:
        x = torch.empty(4, 3)
        x.t().unsqueeze(0).expand(2, 3, 4).select(0, 1)
        x.detach().view(12).split(3)
    assert launches.total == 0
    assert is_launched(aten.add_.Tensor) and is_launched(aten.native_layer_norm.default)
    assert is_launched(aten._foreach_add_.List) and not is_launched(aten._unsafe_view.default)


def test_what_backward_passes_do_is_counted():
    x = torch.ones(3, requires_grad=True)
    with Launches() as launches:
        x.exp().sum().backward()
    assert launches.by_name == {"aten::exp": 1, "aten::sum": 1, "aten::ones_like": 1, "aten::mul": 1}


def test_constants_of_tensors_without_data_do_not_remain():
    from trainers.prompting.core import constants

    with fake_gpu():
        constants.positions(0, 3, torch.device("cpu"))
    assert constants.positions(0, 3, torch.device("cpu")).tolist() == [0, 1, 2]
