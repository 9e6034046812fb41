"""Data sets of remote sensing: the layouts, split files, class names and recipe of BMIP's authors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from dataset_trees import write_classes
from test_datasets_registered import build, facts

from datasets.check import main as check_data
from datasets.table import ROWS
from experiments.data import FIFTEEN, ROW_OF, collection_of
from experiments.methods import recipe_for
from trainers.prompting.core.templates import DEFAULT, template_of
from trainers.prompting.recipes import read_recipe

REMOTE = {row.name: row for row in ROWS if row.remote_sensing}
# Of the authors' compiled loaders: the folder of the images below the root, and the split file.
AUTHORS = {
    "RESISC45": ("RESISC45/images", "split_chen_RESISC45.json"),
    "AID": ("AID/AID_dataset", "split_chen_aid.json"),
    "WHURS19": ("WHURS19/images", "split_chen_WHURS19.json"),
    "PatternNet": ("PatternNet/images", "split_chen_patternnet.json"),
    "MLRSNet": ("MLRSNet/Images", "split_chen_mlrsnet.json"),
    "OPTIMAL": ("OPTIMAL/Images", "split_chen_optimal.json"),
    "RSICD": ("RSICD/RSICD", "split_chen_RSICD.json"),
    "RSICB128": ("RSICB128/images", "split_chen_RSICB128.json"),
    "RSICB256": ("RSICB256/images", "split_chen_RSICB256.json"),
}
# Of these and of their YAML files; the last is of this project.
FILES = {**{name: name.lower() for name in AUTHORS}, "UCM": "ucm", "RSITMD": "rsitmd", "NaSCTG2": "nasc_tg2"}
# Folders, and the names that the authors' loaders give them.
NAMES = {
    "RESISC45": {"airplane": "airplane", "baseball_diamond": "baseball diamond", "sea_ice": "sea ice"},
    "AID": {
        "BareLand": "bare land",
        "Center": "center area",
        "Industrial": "industrial area",
        "Park": "park",
        "StorageTanks": "storage tanks",
    },
    "WHURS19": {
        "Airport": "airport",
        "Industrial": "industrial area",
        "Residential": "residential area",
        "footballField": "football field",
        "railwayStation": "railway station",
    },
    "PatternNet": {"beach": "beach", "ferry_terminal": "ferry terminal", "oil_gas_field": "oil gas field"},
    "MLRSNet": {"bareland": "bareland", "harbor&port": "harbor and port", "swimmimg_pool": "swimming pool"},
    "OPTIMAL": {"airport": "airport", "ground_track_field": "ground track field"},
    "RSICD": {"BareLand": "bare land", "Playfields": "playfields", "SparseResidential": "sparse residential area"},
    "RSICB128": {"fork_road": "fork road", "parkinglot": "parking lot", "sandbeach": "sand beach"},
    "RSICB256": {"dry_farm": "dry farm", "parkinglot": "parking lot", "town": "town"},
    "UCM": {"agricultural": "agricultural", "baseballdiamond": "baseball diamond", "tenniscourt": "tennis court"},
    "RSITMD": {"Commercial": "commercial area", "Viaduct": "viaduct"},
    "NaSCTG2": {"circularfarmland": "circular farmland", "cloud": "cloud"},
}


def images_of(root: Path, name: str) -> Path:
    return root / REMOTE[name].folder / REMOTE[name].images


def test_every_data_set_has_its_file():
    assert {name: row.name for name, row in ROW_OF.items() if row.remote_sensing} == {
        file: name for name, file in FILES.items()
    }


@pytest.mark.parametrize("name", AUTHORS)
def test_folders_and_split_file_are_the_authors(name):
    row = REMOTE[name]
    assert (f"{row.folder}/{row.images}", row.split_file) == AUTHORS[name]


@pytest.mark.parametrize("name", NAMES)
def test_class_folders_are_cut_as_in_coop_and_called_as_the_authors_call_them(name, tmp_path):
    write_classes(images_of(tmp_path, name), *NAMES[name])
    dataset = build(name, tmp_path)
    parts = [facts(part) for part in (dataset.train_x, dataset.val, dataset.test)]
    classes = len(NAMES[name])
    assert [len(part) for part in parts] == [5 * classes, 2 * classes, 3 * classes]
    assert {Path(path).parent.name: text for part in parts for path, _, text in part} == NAMES[name]
    assert {label: text for _, label, text in parts[0]} == dict(enumerate(NAMES[name].values()))


def test_shots_and_classes_are_chosen_as_of_any_data_set(tmp_path):
    write_classes(images_of(tmp_path, "WHURS19"), *NAMES["WHURS19"], images=40)
    base = build("WHURS19", tmp_path, NUM_SHOTS=4, SUBSAMPLE_CLASSES="base")
    assert base.classnames == ["airport", "industrial area", "residential area"] and len(base.train_x) == 12


def test_a_split_file_of_the_authors_is_read_and_a_derived_one_written_under_its_name(tmp_path, capsys):
    write_classes(images_of(tmp_path, "AID"), *NAMES["AID"])
    derived = build("AID", tmp_path)
    assert check_data(["aid", "--root", str(tmp_path), "--write-split"]) == 0
    path = tmp_path / "AID" / "split_chen_aid.json"
    split = json.loads(path.read_text())
    assert facts(build("AID", tmp_path).test) == facts(derived.test)
    path.write_text(json.dumps({**split, "test": split["test"][:2]}))
    assert len(build("AID", tmp_path).test) == 2 and f"Reading split from {path}" in capsys.readouterr().out


def test_the_check_compares_classes_and_images_with_the_published_numbers(tmp_path, monkeypatch, capsys):
    write_classes(images_of(tmp_path, "UCM"), *NAMES["UCM"])
    assert check_data(["UCM", "--root", str(tmp_path), "--deep"]) == 0
    shown = capsys.readouterr().out
    assert "3 classes and 30 images are here, 21 classes and 2100 images are published" in shown
    monkeypatch.setattr("datasets.check.ROWS", (dataclasses.replace(REMOTE["UCM"], total=(3, 30)),))
    assert check_data(["UCM", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert " as published" in shown and "not the published" not in shown


def test_missing_data_are_named_by_their_folder(tmp_path, capsys):
    (tmp_path / "AID").mkdir()
    assert check_data(["AID", "NaSCTG2", "--root", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'AID' / 'AID_dataset'}, which is not there" in shown
    assert f"the folder {tmp_path / 'NaSC-TG2'}, which is not there" in shown
    write_classes(tmp_path / "AID" / "AID_dataset", "BareLand", "bare_land")
    assert check_data(["AID", "--root", str(tmp_path)]) == 1
    assert "which CLIP reads as one name" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_they_are_no_part_of_the_fields_tables_and_have_the_usual_sentence(name):
    file = FILES[name]
    assert file not in FIFTEEN and collection_of(file) == "remote sensing"
    assert template_of(name) == DEFAULT


def test_bmip_learns_them_by_the_authors_recipe_for_them():
    assert recipe_for("BMIP", "base2new", "resisc45", 16) == "vit_b16_c2_ep20_batch4_2ctx"
    assert recipe_for("BMIP", "base2new", "resisc45", 16, "addition") == "vit_b16_c2_ep20_batch4_2ctx_addition"
    assert recipe_for("BMIP", "base2new", "eurosat", 16) == "vit_b16_c2_ep10_batch4_2ctx"
    assert recipe_for("MaPLe", "base2new", "resisc45", 16) == "vit_b16_c2_ep5_batch4_2ctx"
    ours, authors = (read_recipe("BMIP", name) for name in ("vit_b16_c2_ep20_batch4_2ctx", "BMIP_rs_default"))
    assert ours["OPTIM"] == authors["OPTIM"] and ours["OPTIM"]["MAX_EPOCH"] == 20
