"""The registered data sets, built from a configuration as a trainer builds them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

import datasets
from datasets import registry
from datasets.table import ROWS, Row
from trainers.prompting.errors import InputError

PETS = next(row for row in ROWS if row.name == "OxfordPets")
CONFIGS = Path(__file__).parent.parent / "configs" / "datasets"
# Those whose split JSON is published; of the first kind, class folders are enough without it.
JSON = [row for row in ROWS if row.write is None and row.has_split_file]
OF_FOLDERS = ("Caltech101", "Food101", "DescribableTextures", "EuroSAT", "ImageFolder")
FOLDERED = [row for row in JSON if row.name in OF_FOLDERS or row.remote_sensing]
ANNOTATED = [row for row in JSON if row not in FOLDERED]


def config(name: str, root: object, **keys: object) -> CfgNode:
    defaults = {"NUM_SHOTS": -1, "SUBSAMPLE_CLASSES": "all", "USE_RATIO": False, "SUBSAMPLE_RATIO": 100}
    dataset = {"NAME": name, "ROOT": str(root), **defaults, **keys}
    return CfgNode({"SEED": dataset.pop("SEED", 1), "DATASET": CfgNode(dataset)})


def build(name: str, root: object, **keys: object):
    return registry.DATASET_REGISTRY.get(name)(config(name, root, **keys))


def write_tree(root: Path, row: Row, classes: int = 4, per_class: int = 40, split_file: bool = True) -> None:
    """A data set of empty image files with class folders c0, c1, …, in the layout of `row`."""
    images = root / row.folder / row.images
    rng = random.Random(9)
    splits: dict[str, list] = {"train": [], "val": [], "test": []}
    for label in range(classes):
        (images / f"c{label}").mkdir(parents=True)
        files = [f"c{label}/{index:03d}.jpg" for index in range(per_class)]
        for file in files:
            (images / file).touch()
        rng.shuffle(files)
        for rows, part in zip(splits.values(), (files[:20], files[20:30], files[30:])):
            rows.extend([file, label, f"class_{label}"] for file in part)
    if split_file:
        (root / row.folder / row.split_file).write_text(json.dumps(splits))


def facts(items) -> list[tuple[str, int, str]]:
    return [(item.impath, item.label, item.classname) for item in items]


@pytest.mark.parametrize("row", JSON, ids=lambda row: row.name)
def test_a_split_file_in_coops_layout_is_enough(row, tmp_path):
    write_tree(tmp_path, row)
    dataset = build(row.name, tmp_path)
    assert [len(items) for items in (dataset.train_x, dataset.val, dataset.test)] == [80, 40, 40]
    assert dataset.classnames == ["class_0", "class_1", "class_2", "class_3"]
    assert Path(dataset.train_x[0].impath).is_file()


@pytest.mark.parametrize("row", ANNOTATED, ids=lambda row: row.name)
def test_without_split_file_and_annotations_both_are_named(row, tmp_path):
    write_tree(tmp_path, row, split_file=False)
    words = rf"{row.folder}/\S+ is not there; download it .*\. Or download {row.split_file} and put it into"
    with pytest.raises(InputError, match=words):
        build(row.name, tmp_path)


@pytest.mark.parametrize("shots, val_shots", [(2, 2), (6, 4)])
@pytest.mark.parametrize("split_file", [True, False], ids=["with split file", "from class folders"])
def test_shots_do_not_depend_on_how_the_split_came_about(split_file, shots, val_shots, tmp_path):
    """Training images are drawn from the seed, whatever cutting the folders has drawn, then validation images."""
    row = FOLDERED[0]
    write_tree(tmp_path, row, split_file=split_file)
    whole, few = build(row.name, tmp_path), build(row.name, tmp_path, NUM_SHOTS=shots)
    rng = random.Random(1)
    for items, number, drawn in ((whole.train_x, shots, few.train_x), (whole.val, val_shots, few.val)):
        expected = [rng.sample([item for item in items if item.label == label], number) for label in range(4)]
        assert facts(drawn) == facts(sum(expected, []))
    assert facts(few.test) == facts(whole.test)


@pytest.mark.parametrize("row", FOLDERED, ids=lambda row: row.name)
def test_runs_of_all_seeds_and_without_one_have_one_derived_split(row, tmp_path):
    write_tree(tmp_path, row, split_file=False)
    one, *others = (build(row.name, tmp_path, SEED=seed) for seed in (1, 2, -1))
    for other in others:
        assert all(facts(getattr(one, part)) == facts(getattr(other, part)) for part in ("train_x", "val", "test"))


def test_base_shots_are_the_same_images_as_among_all(tmp_path):
    write_tree(tmp_path, PETS)
    of_all, of_base = (build(PETS.name, tmp_path, NUM_SHOTS=3, SUBSAMPLE_CLASSES=s) for s in ("all", "base"))
    assert facts(of_base.train_x) == [fact for fact in facts(of_all.train_x) if fact[1] < 2]
    assert of_base.num_classes == 2


def test_mixed_classes_do_not_depend_on_the_shots(tmp_path):
    write_tree(tmp_path, PETS, classes=9)
    keys = {"SUBSAMPLE_CLASSES": "new", "USE_RATIO": True, "SUBSAMPLE_RATIO": 40}
    a, b = (build(PETS.name, tmp_path, NUM_SHOTS=shots, **keys) for shots in (-1, 4))
    assert facts(a.test) == facts(b.test)
    assert sorted(a.classnames) != sorted(build(PETS.name, tmp_path, SUBSAMPLE_CLASSES="new").classnames)


def test_a_wrong_root_is_named_and_left_empty(tmp_path):
    with pytest.raises(InputError, match=f"DATASET.ROOT is '{tmp_path}'.*{tmp_path / 'dtd'}.*docs/DATASETS.md"):
        build("DescribableTextures", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, root, words",
    [
        ("DescribableTextures", "dtd", "did you mean --root {folder}"),
        ("EuroSAT", ".", "needs its images in {folder}/eurosat/2750"),
        ("EuroSAT", "", "DATASET.ROOT is empty.*--root"),
    ],
)
def test_a_missing_folder_is_named_with_the_likely_mistake(name, root, words, tmp_path):
    (tmp_path / "dtd").mkdir()
    (tmp_path / "eurosat").mkdir()
    with pytest.raises(InputError, match=words.format(folder=tmp_path)):
        build(name, root and tmp_path / root)


def test_the_console_says_what_is_read_and_sampled(tmp_path, capsys):
    write_tree(tmp_path, PETS)
    build(PETS.name, tmp_path, NUM_SHOTS=16, SUBSAMPLE_CLASSES="base")
    assert capsys.readouterr().out.splitlines() == [
        f"Reading split from {tmp_path / PETS.folder / PETS.split_file}",
        "Creating a 16-shot dataset",
        "Creating a 4-shot dataset",
        "SUBSAMPLE BASE CLASSES!",
    ]


def test_a_config_without_our_keys_means_all_classes(tmp_path):
    """CoOp's own train.py declares SUBSAMPLE_CLASSES only, and some of its tools not even that."""
    write_tree(tmp_path, PETS)
    cfg = config(PETS.name, tmp_path)
    for key in ("SUBSAMPLE_CLASSES", "USE_RATIO", "SUBSAMPLE_RATIO"):
        del cfg.DATASET[key]
    assert registry.DATASET_REGISTRY.get(PETS.name)(cfg).num_classes == 4


def test_without_a_root_built_in_data_goes_into_the_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "REPOSITORY", tmp_path)
    assert build("Digits", "").dataset_dir == str(tmp_path / "data" / "digits")


def test_every_row_is_registered_and_has_a_yaml():
    registered = {row.name for row in ROWS}
    assert registered <= set(registry.DATASET_REGISTRY.registered_names())
    named = [yaml.safe_load(path.read_text()) for path in CONFIGS.glob("*.yaml")]
    assert registered <= {content["DATASET"]["NAME"] for content in named}


def test_a_name_that_is_taken_keeps_its_owner():
    owner = registry.DATASET_REGISTRY.get("EuroSAT")
    registry.register([Row("EuroSAT", "elsewhere")])
    assert registry.DATASET_REGISTRY.get("EuroSAT") is owner
