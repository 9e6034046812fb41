"""One safetensors file of trained prompts: what it says of itself, its CLIP, and the export of runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from minidassl.own.safetensors_file import read_safetensors, safetensors_bytes

import numpy as np
import pytest
import torch
from conftest import make_clip
from test_classifier import NAMES, TINY, digits

from trainers.prompting.api import export, predict
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.errors import InputError

IMAGES = digits(2)[0]
QUIET = dict(device="cpu", progress=False)


@pytest.fixture
def original() -> PromptClassifier:
    return PromptClassifier(**TINY, settings={"length": 3, "depth": 2}, epochs=7).build(NAMES[:3])


@pytest.fixture
def file(original, tmp_path) -> Path:
    return original.save(tmp_path / "digits.safetensors")


def rewrite(path: Path, texts: dict | None = None, tensors: dict | None = None) -> None:
    """Change metadata and tensors of a file; None takes an entry out."""
    found = read_safetensors(path)
    changed = [{**old, **(new or {})} for old, new in zip(found, (texts, tensors))]
    path.write_bytes(safetensors_bytes(*({k: v for k, v in one.items() if v is not None} for one in changed)))


def refused(message: str, path: Path, **parameters) -> None:
    with pytest.raises(InputError, match=message):
        PromptClassifier.load(path, **parameters, **QUIET)


def test_a_file_has_prompts_settings_classes_and_clip(original, file):
    texts, tensors = read_safetensors(file)
    assert file.name == "digits.safetensors" and os.listdir(file.parent) == [file.name]
    assert (texts["method"], texts["backbone"]) == ("BMIP", "tiny")
    assert json.loads(texts["settings"]) == original.config_.plain()
    assert json.loads(texts["classes"]) == NAMES[:3] and json.loads(texts["parameters"])["epochs"] == 7
    weight = load_clip("tiny").token_embedding.weight
    assert texts["text_embedding"] == hashlib.sha256(weight.numpy().tobytes()).hexdigest()
    assert tensors.keys() == original.model_.learner.state_dict().keys()
    loaded = PromptClassifier.load(file, **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), original.predict_proba(IMAGES))
    assert loaded.epochs == 7 and loaded.config_ == original.config_ and loaded.notes_ == {}


def test_the_same_prompts_give_the_same_bytes(original, file, tmp_path):
    original.save(tmp_path / "again")
    assert (tmp_path / "again" / "prompts.safetensors").read_bytes() == file.read_bytes()


def test_an_existing_file_is_replaced_only_when_that_is_asked_for(original, file):
    before = file.read_bytes()
    other = PromptClassifier(**TINY).build(NAMES[:5])
    with pytest.raises(InputError, match=f"'{file}' is there already; give overwrite=True .* or another file"):
        other.save(file)
    assert file.read_bytes() == before
    other.save(file, overwrite=True)
    assert len(PromptClassifier.load(file, **QUIET).classes_) == 5
    (file.parent / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder; give a file"):
        original.save(file.parent / "folder.safetensors", overwrite=True)


def clip_file(path: Path, change=lambda state: None, **sizes) -> str:
    state = make_clip(**sizes).state_dict() if sizes else dict(load_clip("tiny").state_dict())
    change(state)
    torch.save(state, path)
    return str(path)


def scale(name: str):
    def change(state: dict) -> None:
        state[name] = state[name] * 1.01

    return change


def test_another_clip_is_refused(file, tmp_path):
    same = clip_file(tmp_path / "same.pt")
    assert PromptClassifier.load(file, backbone=same, **QUIET).method == "BMIP"
    words = r"digits.safetensors' belongs to a CLIP whose text embedding has the SHA-256 [0-9a-f]{64}, but that of "
    words += (
        r"backbone '\S+other.pt' has [0-9a-f]{64}; give the one that it was trained in, as which 'tiny' is recorded"
    )
    other = clip_file(tmp_path / "other.pt", scale("token_embedding.weight"))
    refused(words, file, backbone=other)
    # Before its size is compared with the prompts.
    other = clip_file(tmp_path / "other.pt", transformer_width=64, transformer_layers=1, vision_layers=1)
    refused(words, file, backbone=other)
    # Of the same text embedding.
    other = clip_file(tmp_path / "other.pt", scale("visual.proj"))
    refused(
        "trained in a CLIP with other weights than those of backbone '.*other.pt'.*'tiny' is recorded",
        file,
        backbone=other,
    )


@pytest.mark.parametrize("name", ["prompt_classifier", "method", "backbone", "settings", "classes", "text_embedding"])
def test_missing_metadata_are_named(name, file):
    rewrite(file, {name: None})
    refused(f"digits.safetensors has no metadata {name}: .*by PromptClassifier.save or scripts/export.py", file)


def test_tensors_of_others_are_no_prompts(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({"format": "pt"}, {"weight": torch.ones(2)}))
    refused("has no metadata prompt_classifier, method, backbone, .*write it again", path)


@pytest.mark.parametrize(
    "texts, message",
    [
        ({"prompt_classifier": "9"}, "has format '9'; this version reads '2'"),
        ({"settings": "{"}, "the metadata 'settings' is no JSON"),
        ({"settings": "[" * 100_000}, "the metadata 'settings' is no JSON"),
        ({"classes": '"zero"'}, "the metadata 'classes' is no list"),
        ({"classes": "[1, 2]"}, "Class 0 is 1, a int"),
        ({"parameters": '{"wings": 2}'}, "was saved with parameters that this version does not have: wings"),
        ({"method": "Mapel"}, "method is 'Mapel'.*Do you mean MaPLe"),
        ({"backbone": "/tmp/clip.pt"}, "names a file as its CLIP, '/tmp/clip.pt'.*give it as backbone"),
        ({"settings": '{"depth": 3, "length": 3}'}, r"2 layers of 3 tokens .*expected 3 layers of 3 tokens"),
    ],
)
def test_wrong_metadata_are_named(texts, message, file):
    rewrite(file, texts)
    refused(message, file)


def test_prompts_of_a_wrong_shape_are_named(file):
    rewrite(file, tensors={"text_prompts.0": torch.zeros(5, 48)})
    refused(
        r"digits.safetensors' cannot be loaded. .*text_prompts has .* 5 tokens 48 wide.*Set method, settings", file
    )
    rewrite(file, tensors={"text_prompts.0": None})
    refused(r"digits.safetensors' cannot be loaded. .*text_prompts has 1 layer .*expected 2 layers", file)


def test_a_damaged_file_is_named(file):
    file.write_bytes(file.read_bytes()[:-8])
    refused("digits.safetensors cannot be read as a safetensors file .*; copy or write it again", file)


# --------------------------------------------------------------------------------------------------------- export


@pytest.fixture
def call(capsys):
    """Call the script; gives exit status, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = export.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_run_becomes_a_file_that_predicts_the_same(run_train, call, capsys, tmp_path):
    run = run_train(options=["TRAINER.BMIP.AGGREGATION", "addition"])
    status, output, errors = call(run.folder)
    path = run.folder.with_name("run.safetensors")
    assert (status, output, errors) == (0, f"Wrote {path}\n", "")
    expected = PromptClassifier.load(run.folder, **QUIET)
    loaded = PromptClassifier.load(path, **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), expected.predict_proba(IMAGES))
    assert loaded.config_.aggregation == "addition" and list(loaded.classes_) == NAMES[:5]
    facts = {"method": "BMIP", "dataset": "Digits", "shots": 2, "seed": 1, "classes": "base"}
    assert facts.items() <= json.loads(read_safetensors(path)[0]["notes"]).items()
    image = next((Path(run.result["configuration"]["DATASET"]["ROOT"]) / "digits" / "images").rglob("*.png"))
    assert predict.main(["--checkpoint", str(path), "--device", "cpu", str(image)]) == 0
    assert str(image) in capsys.readouterr().out


def test_a_half_precision_stays_recorded_without_a_gpu(run_train, call, tmp_path):
    run = run_train()
    record = run.result
    record["configuration"]["TRAINER"]["BMIP"]["PREC"] = "fp16"
    (run.folder / "result.json").write_text(json.dumps(record))
    assert call(run.folder, "--output", tmp_path / "half.safetensors")[0] == 0
    parameters = json.loads(read_safetensors(tmp_path / "half.safetensors")[0]["parameters"])
    assert parameters["precision"] == "fp16"


def test_a_checkpoint_alone_needs_method_and_classes(original, call, tmp_path):
    torch.save({"state_dict": original.model_.learner.state_dict(), "epoch": 1}, tmp_path / "prompts.pth")
    status, _, errors = call(tmp_path / "prompts.pth", "--backbone", "tiny")
    assert status == 2 and "does not record a method" in errors
    given = ["--method", "BMIP", "--backbone", "tiny", "--classes", "zero,one,two"]
    assert call(tmp_path / "prompts.pth", *given)[0] == 0
    loaded = PromptClassifier.load(tmp_path / "prompts.pth.safetensors", **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), original.predict_proba(IMAGES))


def test_what_cannot_be_exported_is_refused_with_the_remedy(original, call, tmp_path):
    original.save(tmp_path / "saved")
    taken = tmp_path / "taken.safetensors"
    taken.write_text("earlier")
    for arguments, words in (
        ([tmp_path / "nowhere"], "There is no checkpoint or folder"),
        ([tmp_path / "saved", "--output", taken], "taken.safetensors' is there already; give --overwrite"),
        ([tmp_path / "saved", "--output", tmp_path / "prompts.npz"], "a name that ends in .safetensors"),
        ([tmp_path / "saved", "--method", "BMPI"], "Do you mean BMIP?"),
        ([tmp_path / "saved", "--output", tmp_path / "taken.safetensors" / "x.safetensors"], "Not a directory"),
    ):
        status, output, errors = call(*arguments)
        assert (status, output) == (2, "") and words in errors and errors.count("\n") == 1, errors
    assert taken.read_text() == "earlier"
    assert call(tmp_path / "saved", "--output", taken, "--overwrite")[0] == 0
    assert list(PromptClassifier.load(taken, **QUIET).classes_) == NAMES[:3]
