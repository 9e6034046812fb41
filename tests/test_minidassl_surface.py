"""The stand-in has what the supported projects use of Dassl; their source says what that is."""

from __future__ import annotations

import importlib

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)
from minidassl.config import get_cfg_default

import pytest
from dassl_surface import NOT_DASSLS, PROJECTS, USED, checkouts, surface_of
from test_minidassl_training import make_toy


@pytest.mark.parametrize("module", USED.imports)
def test_every_import_of_the_projects_works_on_the_stand_in(module):
    found = importlib.import_module(module.replace("dassl", "minidassl", 1))
    assert {name for name in USED.imports[module] if not hasattr(found, name)} == set()


def test_every_key_that_the_projects_set_or_read_is_declared():
    cfg = get_cfg_default()
    for key in USED.keys:
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_each_call_returns_a_fresh_tree():
    first = get_cfg_default()
    first.OPTIM.LR = 1.0
    first.INPUT.PIXEL_MEAN[0] = 9.0
    second = get_cfg_default()
    assert second.OPTIM.LR == 0.0003
    assert second.INPUT.PIXEL_MEAN == [0.485, 0.456, 0.406]


# In an order of their own: processes that share the tests must find the same ones.
@pytest.mark.parametrize(
    "key, value", [(key, value) for key, values in USED.values.items() for value in sorted(values)]
)
def test_every_choice_of_the_projects_trains(tmp_path, key, value):
    make_toy(tmp_path, key, (value,) if key == "INPUT.TRANSFORMS" else value, "OPTIM.WARMUP_EPOCH", 1).train()


def test_a_trained_trainer_has_every_attribute_that_the_projects_use(tmp_path):
    trainer = make_toy(tmp_path, "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    assert {name for name in USED.trainer | USED.overridden if not hasattr(trainer, name)} == set()
    assert {name for name in USED.dataset if not hasattr(trainer.dm.dataset, name)} == set()


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@pytest.mark.skipif(not checkouts(), reason=f"none of {', '.join(PROJECTS)} names a checkout")
def test_the_list_is_what_the_checkouts_use():
    found, all_there = [surface_of(root) for root in checkouts()], len(checkouts()) == len(PROJECTS)
    for part in ("imports", "values"):
        known = {(key, name) for key, names in getattr(USED, part).items() for name in names}
        used = {(key, name) for each in found for key, names in getattr(each, part).items() for name in names}
        assert used == known if all_there else used <= known
    for part in ("keys", "trainer", "dataset", "overridden"):
        used = set().union(*(getattr(each, part) for each in found)) - getattr(NOT_DASSLS, part)
        assert used == getattr(USED, part) if all_there else used <= getattr(USED, part)
