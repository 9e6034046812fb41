"""Data sets of remote sensing: the layouts, split files, class names and recipe of BMIP's authors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from minidassl.own.safetensors_file import read_safetensors

import numpy as np
import pytest
import torch
from conftest import make_clip
from dataset_trees import write_classes
from test_datasets_registered import build, facts

import train
from datasets.check import main as check_data
from datasets.table import ROWS
from experiments.data import FIFTEEN, ROW_OF, collection_of
from experiments.methods import recipe_for
from trainers.prompting.api import export
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.openai_clip import clip
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
        "Dense Residential": "dense residential area",
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
    "RSITMD": {"baseballfield": "baseball field", "commercial": "commercial area", "viaduct": "viaduct"},
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


@pytest.mark.parametrize("zipped", [True, False], ids=["an archive", "before PyTorch 1.6"])
def test_a_state_dict_in_the_form_of_remoteclip_is_a_backbone_by_its_path(zipped, tmp_path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(1)
    # As RemoteCLIP's authors evaluate theirs: open_clip's modules, with OpenAI's activation.
    theirs = open_clip.model.CLIP(
        32,
        dict(layers=2, width=64, head_width=64, patch_size=16, image_size=32),
        dict(context_length=77, vocab_size=49408, layers=3, width=64, heads=1),
        quick_gelu=True,
    ).eval()
    path = tmp_path / "RemoteCLIP-ViT-B-32.pt"
    torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=zipped)
    ours = load_clip(str(path), needs_vit=True)
    images, words = torch.randn(2, 3, 32, 32), clip.tokenize(["an airport", "a golf course"])
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(words), theirs.encode_text(words), rtol=0, atol=1e-5)


def test_bmip_trains_on_a_data_set_with_a_backbone_by_path_and_its_export_asks_for_that_path(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    write_classes(images_of(tmp_path, "AID"), *NAMES["AID"])
    backbone, run = tmp_path / "remote.pt", tmp_path / "run"
    torch.save(make_clip(vision_layers=3, transformer_layers=3).state_dict(), backbone)
    command = ["--root", str(tmp_path), "--seed", "1", "--trainer", "BMIP", "--output-dir", str(run)]
    command += ["--dataset-config-file", "configs/datasets/aid.yaml", "--backbone", str(backbone)]
    command += ["--config-file", "configs/trainers/BMIP/tiny.yaml", "DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1"]
    assert train.main(command) == 0
    assert json.loads((run / "result.json").read_text())["dataset"] == "AID"
    assert export.main([str(run)]) == 2  # the record's path alone is not followed
    assert export.main([str(run), "--backbone", str(backbone)]) == 0
    file, quiet = tmp_path / "run.safetensors", dict(device="cpu", progress=False)
    assert json.loads(read_safetensors(file)[0]["classes"]) == list(NAMES["AID"].values())
    loaded, expected = (PromptClassifier.load(path, backbone=str(backbone), **quiet) for path in (file, run))
    images = [str(path) for path in sorted(images_of(tmp_path, "AID").rglob("*.png"))[:3]]
    np.testing.assert_array_equal(loaded.predict_proba(images), expected.predict_proba(images))
