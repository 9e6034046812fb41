"""CoOp's few-shot caches: used as CoOp uses them, from any machine, without executing what they name."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import pytest
from dataset_trees import write_tree
from test_datasets_registered import build, facts

from trainers.prompting.errors import InputError


@pytest.fixture
def datum(monkeypatch):
    """A class that pickles under the name of upstream's record."""
    module = types.ModuleType("dassl.data.datasets.base_dataset")
    module.Datum = type("Datum", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(path: str, label: int, name: str) -> object:
        record = module.Datum()
        record.__dict__.update(_impath=path, _label=label, _domain=0, _classname=name)
        return record

    return make


def write_cache(folder: Path, content: object, shots: int = 2, seed: int = 1) -> Path:
    path = folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.pkl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, pickle.HIGHEST_PROTOCOL))
    return path


def records(datum, items, root: str, below: Path) -> list:
    return [datum(item.impath.replace(str(below), root), item.label, item.classname) for item in items]


@pytest.mark.parametrize("name", ["DescribableTextures", "StanfordCars", "ImageNet"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_cached_shots_are_used_in_cached_order_wherever_they_were_written(name, elsewhere, datum, tmp_path):
    folder = write_tree(tmp_path, name)
    whole = build(name, tmp_path)
    train, val = whole.train_x[::-7], whole.val[::-5]
    root = "/scratch/images/someone/data" if elsewhere else str(tmp_path)
    content = {"train": records(datum, train, root, tmp_path)}
    if name != "ImageNet":
        content["val"] = records(datum, val, root, tmp_path)
    write_cache(folder, content)
    cached = build(name, tmp_path, NUM_SHOTS=2)
    assert facts(cached.train_x) == facts(train)
    assert facts(cached.val) == facts(whole.val if name == "ImageNet" else val)
    # Other seeds and shots have no cache.
    assert facts(build(name, tmp_path, NUM_SHOTS=2, SEED=2).train_x) != facts(train)


class Harmful:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


def test_a_cache_that_would_execute_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_tree(tmp_path, "EuroSAT")
    path = write_cache(folder, {"train": [Harmful()], "val": []})
    with pytest.raises(InputError, match=f"{path.name}.*move it elsewhere"):
        build("EuroSAT", tmp_path, NUM_SHOTS=2)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x05garbage", {"val": []}, {"train": [1]}, []], ids=str)
def test_a_damaged_cache_is_named(content, tmp_path):
    folder = write_tree(tmp_path, "EuroSAT")
    path = write_cache(folder, content)
    with pytest.raises(InputError, match=f"{path}.*move it elsewhere"):
        build("EuroSAT", tmp_path, NUM_SHOTS=2)


@pytest.mark.parametrize("fault", ["path", "label", "name"])
def test_a_cache_of_another_split_is_named(fault, datum, tmp_path):
    folder = write_tree(tmp_path, "EuroSAT")
    item = build("EuroSAT", tmp_path).train_x[0]
    path = item.impath + (".gone" if fault == "path" else "")
    wrong = datum(path, item.label + (fault == "label"), item.classname + ("x" if fault == "name" else ""))
    write_cache(folder, {"train": [wrong], "val": []})
    with pytest.raises(InputError, match="another split"):
        build("EuroSAT", tmp_path, NUM_SHOTS=2)
