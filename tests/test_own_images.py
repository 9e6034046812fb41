"""A plain folder of images goes through check, training, comparison and prediction, by the commands of OWN_DATA.md."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from dataset_trees import write_image

from datasets.check import main as check_data
from experiments import compare, launch
from trainers.prompting.api import predict

NAMES = ("blue sky", "grass", "red brick", "sand")
SHORT = ("TRAIN.PRINT_FREQ", "100", "OPTIM.MAX_EPOCH", "2", "USE_CUDA", "False")


@pytest.fixture
def photos(tmp_path):
    """Four classes of six images each, of one colour a class, and an image that is not among them."""
    for shade, name in enumerate(NAMES):
        for number in range(6):
            write_image(tmp_path / "photos" / name / f"{number}.png", 60 * shade + number)
    write_image(tmp_path / "new.png", 61)
    return tmp_path / "photos"


def train(photos, *words: str) -> int:
    return launch.main(["few_shot", "BMIP", "image_folder", "1", "tiny", "--data", str(photos), *words, *SHORT])


def test_a_folder_is_checked_trained_on_and_predicts(photos, checkout, capfd):
    assert check_data(["ImageFolder", "--root", str(photos), "--deep"]) == 0
    assert train(photos) == 0
    folder = checkout / "output" / "image_folder" / "BMIP" / "tiny_16shots" / "seed1"
    assert [one["name"] for one in json.loads((folder / "result.json").read_text())["per_class"]] == list(NAMES)
    capfd.readouterr()
    words = ["--checkpoint", str(folder), "--device", "cpu", "--format", "json", str(photos.parent / "new.png")]
    assert predict.main(words) == 0
    (found,) = json.loads(capfd.readouterr().out)
    assert {one["class"] for one in found["predictions"]} == set(NAMES)


def test_methods_are_compared_on_a_folder(photos, checkout, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    methods = " ".join(f"{name}:configs/trainers/{name}/tiny.yaml" for name in ("ZeroshotCLIP", "BMIP"))
    words = ["image_folder", "1", methods, "--data", str(photos), "--shots", "2", "--jobs", "1", *SHORT]
    assert compare.main(words) == 0
    shown = capfd.readouterr().out
    assert "image_folder, 2 shots, seed 1:" in shown
    plain, rule, bmip, _, difference = [
        line for line in shown.splitlines() if "tiny" in line or line.startswith("---")
    ][1:6]
    assert plain.startswith("ZeroshotCLIP, tiny  ") and set(rule) == {"-", " "} and bmip.startswith("BMIP, tiny  ")
    assert difference.startswith("BMIP, tiny  ") and re.search(r"[+-]\d", difference)


def test_another_folder_is_another_data_set_and_a_link_to_the_same_is_not(photos, run_train):
    def train(folder):
        return run_train(options=["DATASET.NAME", "ImageFolder", "DATASET.ROOT", str(folder)])

    assert train(photos).status == 0
    (photos.parent / "link").symlink_to(photos)
    assert "Already trained" in train(photos.parent / "link").output
    others = shutil.copytree(photos, photos.parent / "others")
    refused = train(others)
    assert refused.status == 2 and f"DATASET.ROOT was '{photos}' and is now '{others}'" in refused.errors
