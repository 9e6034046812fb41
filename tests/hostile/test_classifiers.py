"""Saved classifiers and run folders of strangers: nothing of them is executed, and no file of theirs is a CLIP."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from helpers.earlier import save_as_before

from hostile.payloads import calls, memory_bombs, write_torchscript, write_zip
from trainers.prompting.api import predict
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.core.clip_weights import TINY
from trainers.prompting.errors import InputError

QUIET = dict(device="cpu", progress=False)


@pytest.fixture
def saved(tmp_path) -> Path:
    save_as_before(PromptClassifier("BMIP", "tiny", **QUIET).build(["a", "b"]), tmp_path / "saved")
    return tmp_path / "saved"


def changed(folder: Path, **values) -> None:
    path = folder / "classifier.json"
    content = json.loads(path.read_text())
    content["parameters"].update(values.pop("parameters", {}))
    path.write_text(json.dumps({**content, **values}))


def test_a_folder_does_not_choose_a_file_as_its_clip(saved, tmp_path):
    bait = tmp_path / "executed"
    write_torchscript(tmp_path / "clip.pt", bait)
    changed(saved, parameters={"backbone": str(tmp_path / "clip.pt")})
    with pytest.raises(InputError, match="names a file as its CLIP"):
        PromptClassifier.load(saved, **QUIET)
    with pytest.raises(InputError, match="clip.pt"):  # named by the caller, it is read, but not executed
        PromptClassifier.load(saved, backbone=str(tmp_path / "clip.pt"), **QUIET)
    assert not bait.exists()


def test_a_file_that_the_caller_names_is_its_clip(saved, tmp_path):
    shutil.copy(TINY, tmp_path / "own.npz")
    changed(saved, parameters={"backbone": str(tmp_path / "own.npz")})
    loaded = PromptClassifier.load(saved, backbone=str(tmp_path / "own.npz"), **QUIET)
    assert list(loaded.classes_) == ["a", "b"]


def test_a_run_does_not_choose_a_file_as_its_clip_either(run_train, tmp_path):
    shutil.copy(TINY, tmp_path / "own.npz")
    run = run_train("--backbone", str(tmp_path / "own.npz"))
    with pytest.raises(InputError, match="names a file as its CLIP"):
        PromptClassifier.load(run.folder, **QUIET)
    assert PromptClassifier.load(run.folder, backbone=str(tmp_path / "own.npz"), **QUIET).method == "BMIP"
    with pytest.raises(InputError, match="other weights"):
        changed_clip(tmp_path / "own.npz")
        PromptClassifier.load(run.folder, backbone=str(tmp_path / "own.npz"), **QUIET)


def changed_clip(path: Path) -> None:
    import numpy as np

    with np.load(path) as arrays:
        np.savez(path, **{name: arrays[name] * 1.01 for name in arrays.files})


def test_a_classifier_of_another_clip_is_noticed(saved):
    changed(saved, clip="0" * 16)
    with pytest.raises(InputError, match="other weights"):
        PromptClassifier.load(saved, **QUIET)


def test_weights_of_another_save_are_noticed(saved, tmp_path):
    save_as_before(PromptClassifier("BMIP", "tiny", random_state=5, **QUIET).build(["c", "d"]), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "prompts.npz", saved / "prompts.npz")
    with pytest.raises(InputError, match=r"prompts\.npz.*not the file that the description was written for"):
        PromptClassifier.load(saved, **QUIET)


RECORDS = ["[" * 100_000, '"text"', "1e999", "{}x", '{"method": "BMIP"}', '{"method": "BMIP", "backbone": []}']
RECORDS += ['{"method": []}', '{"method": "BMIP", "backbone": "tiny", "configuration": [1]}', '{"trainer": {}}']
RECORDS += ['{"method": "BMIP", "backbone": "tiny", "configuration": {"INPUT": {}, "TRAINER": {}}}']


@pytest.mark.parametrize("text", RECORDS, ids=lambda text: text[:60])
@pytest.mark.parametrize("name", ["classifier.json", "result.json"])
def test_a_damaged_description_or_record_is_an_error_by_its_path(run_train, saved, tmp_path, name, text):
    folder = saved
    if name == "result.json":
        folder = tmp_path / "run"
        checkpoint = folder / "MultiModalPromptLearner" / "model.pth.tar-1"
        checkpoint.parent.mkdir(parents=True)
        write_zip(checkpoint, {"state_dict": {}, "epoch": 1})
    (folder / name).write_text(text)
    with pytest.raises(InputError):
        PromptClassifier.load(folder, **QUIET)


@pytest.mark.parametrize("name", [*calls(Path("x")), *memory_bombs()])
def test_hostile_pickles_in_its_files_are_refused_unexecuted(saved, tmp_path, name):
    bait = tmp_path / "executed"
    if name in memory_bombs():
        (saved / "prompts.npz").write_bytes(memory_bombs()[name])
    else:
        write_zip(saved / "prompts.npz", {"weight": calls(bait)[name]})
    with pytest.raises(InputError, match="prompts.npz"):
        PromptClassifier.load(saved, **QUIET)
    assert not bait.exists()


def test_predictions_in_a_terminal_or_a_spreadsheet_are_text(tmp_path, capsys):
    from PIL import Image

    image = tmp_path / "=1+1\x1b7.png"
    Image.new("RGB", (32, 32)).save(image)
    names = "=cmd()|x,\x1b[31mred"
    for style in ("csv", "text"):
        arguments = ["--backbone", "tiny", "--device", "cpu", "--classes", names, "--format", style]
        assert predict.main([*arguments, str(image), str(tmp_path / "missing\x1b7.png")]) == 1
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out and "\x1b" not in captured.err.rpartition("error: ")[2]
        if style == "csv":
            cells = [cell for row in csv.reader(io.StringIO(captured.out)) for cell in row]
            assert not [cell for cell in cells if cell.startswith("=")] and "'=cmd()|x" in cells
