"""Every data set is what CoOp's own loader makes of it: images, labels, names and shots, in the same order.

Needs a checkout of KaiyangZhou/CoOp, named by the environment variable COOP_ROOT.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from coop_datasets import facts_of
from dataset_trees import FOLDERS, write_tree
from test_datasets_registered import build

from datasets.check import main as check_data
from datasets.table import ROWS

ROOT = os.environ.get("COOP_ROOT")
pytestmark = pytest.mark.skipif(not ROOT, reason="COOP_ROOT names no checkout of CoOp")
BY_NAME = {row.name: row for row in ROWS}
CONFIGS = Path(__file__).parents[2] / "configs" / "datasets"
MODULES = {yaml.safe_load(path.read_text())["DATASET"]["NAME"]: path.stem for path in CONFIGS.glob("*.yaml")}
SEEDS, SHOTS, SUBSETS = (1, 2, 3), (1, 4, 16), ("all", "base", "new")


class CoOp:
    """CoOp's loaders over a tree, in a process of their own."""

    def __init__(self, root: Path):
        self.root = root
        script = Path(__file__).parent / "coop_datasets.py"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, ROOT, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def build(self, name: str, seed: int, shots: int, subset: str, forget: list[str]) -> list:
        # CoOp names a data set's YAML file as its module, and so does this project.
        request = dict(name=name, module=MODULES[name], seed=seed, shots=shots, subset=subset, forget=forget)
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def coop(tmp_path_factory) -> CoOp:
    root = tmp_path_factory.mktemp("data")
    for name in FOLDERS:
        write_tree(root, name)
    coop = CoOp(root)
    yield coop
    coop.process.stdin.close()
    coop.process.wait()


def ours(root: Path, name: str, seed: int, shots: int, subset: str) -> list:
    return facts_of(build(name, root, NUM_SHOTS=shots, SUBSAMPLE_CLASSES=subset, SEED=seed), root)


def caches(name: str) -> list[str]:
    return [f"{FOLDERS[name]}/split_fewshot", f"{FOLDERS[name]}/preprocessed.pkl"]


@pytest.mark.parametrize("name", FOLDERS)
def test_derived_splits_are_those_that_coop_derives_and_keeps_where_its_first_run_has_seed_1(coop, name):
    row = BY_NAME[name]
    split_file = f"{row.folder}/{row.split_file}"
    theirs = coop.build(name, 1, -1, "all", [split_file, *caches(name)])
    assert theirs[0] and theirs[2]
    for seed in SEEDS:
        (coop.root / split_file).unlink(missing_ok=True)
        assert ours(coop.root, name, seed, -1, "all") == theirs


@pytest.mark.parametrize("name", [name for name in FOLDERS if BY_NAME[name].has_split_file])
def test_a_written_split_file_is_coops(coop, name):
    row = BY_NAME[name]
    path = coop.root / row.folder / row.split_file
    coop.build(name, 1, -1, "all", [f"{row.folder}/{row.split_file}", *caches(name)])
    theirs = json.loads(path.read_text())
    path.unlink()
    assert check_data([name, "--root", str(coop.root), "--write-split"]) == 0
    assert json.loads(path.read_text()) == theirs
    for seed in SEEDS:
        mine = ours(coop.root, name, seed, 4, "base")
        assert mine == coop.build(name, seed, 4, "base", caches(name))
        shutil.rmtree(coop.root / FOLDERS[name] / "split_fewshot")


@pytest.mark.parametrize("name", FOLDERS)
def test_shots_and_classes_are_coops_on_the_same_split(coop, name):
    coop.build(name, 1, -1, "all", caches(name))  # writes the split file where CoOp has one
    for seed in SEEDS:
        for shots in (-1, *SHOTS):
            for subset in SUBSETS:
                shutil.rmtree(coop.root / FOLDERS[name] / "split_fewshot", ignore_errors=True)
                mine = ours(coop.root, name, seed, shots, subset)
                assert mine == coop.build(name, seed, shots, subset, caches(name)), (seed, shots, subset)


@pytest.mark.parametrize("name", [name for name in FOLDERS if not BY_NAME[name].test_only])
def test_shots_are_those_of_the_cache_that_coop_has_left(coop, name):
    """The run that derives a split draws other shots than a later one, and its cache keeps them."""
    row = BY_NAME[name]
    cold = coop.build(name, 1, 4, "all", [f"{row.folder}/{row.split_file}", *caches(name)])
    assert ours(coop.root, name, 1, 4, "all") == cold
    assert ours(coop.root, name, 1, 4, "base") == coop.build(name, 1, 4, "base", [])
