"""The command line for images: where images and classes come from, the formats, and what happens to bad files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_classifier import NAMES, TINY, digits

from trainers.prompting.api import predict
from trainers.prompting.api.classifier import PromptClassifier

ROOT = Path(__file__).parents[1]

ZERO_SHOT = ["--backbone", "tiny", "--device", "cpu", "--classes", "zero,one,two"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six digits in two folders, a hidden file and a text."""
    images, labels = digits(2)
    for number, (image, label) in enumerate(zip(images, labels)):
        place = tmp_path / "images" / ("a" if number < 3 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number} {label}.png")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    Image.fromarray(images[0]).save(tmp_path / "images" / ".hidden.png")
    return tmp_path / "images"


@pytest.fixture
def call(capsys):
    """Call the script; gives exit status, standard output and error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = predict.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def paths_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("[0-9]*.png"))]


def test_json_has_the_probabilities_of_the_classifier_best_first(folder, call):
    status, output, _ = call(*ZERO_SHOT, "--format", "json", "--top", 2, "--batch-size", 4, folder)
    assert status == 0
    rows = json.loads(output)
    assert [row["image"] for row in rows] == paths_of(folder)
    classifier = PromptClassifier("ZeroshotCLIP", **TINY).build(NAMES[:3])
    for row, expected in zip(rows, classifier.predict_proba(paths_of(folder))):
        best = np.argsort(-expected)[:2]
        assert [found["class"] for found in row["predictions"]] == [NAMES[label] for label in best]
        found = [found["probability"] for found in row["predictions"]]
        np.testing.assert_allclose(found, expected[best], rtol=1e-5, atol=1e-7)


def test_csv_has_a_line_for_each_image_and_class_also_in_a_file(folder, call, tmp_path):
    status, output, _ = call(*ZERO_SHOT, "--format", "csv", folder)
    rows = list(csv.DictReader(io.StringIO(output)))
    assert status == 0 and len(rows) == 6 * 3
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    assert rows[0]["image"] == paths_of(folder)[0]
    assert sum(float(row["probability"]) for row in rows[:3]) == pytest.approx(1, abs=1e-5)
    assert call(*ZERO_SHOT, "--format", "csv", "--output", tmp_path / "found.csv", folder)[:2] == (0, "")
    assert (tmp_path / "found.csv").read_text() == output


def test_a_failed_write_leaves_the_earlier_output_as_it_was(folder, call, tmp_path, monkeypatch):
    output = tmp_path / "found.csv"
    output.write_text("earlier")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("no space left")))
    assert call(*ZERO_SHOT, "--format", "csv", "--output", str(output), folder)[0] == 2
    assert output.read_text() == "earlier"


def test_text_names_the_image_and_its_classes_in_per_cent(folder, call):
    status, output, errors = call(*ZERO_SHOT, paths_of(folder)[0])
    lines = output.splitlines()
    assert status == 0 and lines[0] == paths_of(folder)[0] and len(lines) == 4
    shares = [float(line.split("%")[0]) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.1)
    assert "images" in errors and "images:" not in output  # the progress bar


def test_a_full_disk_is_told_in_words(folder, call, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    status, _, errors = call(*ZERO_SHOT, "--output", tmp_path / "found.txt", folder)
    assert status == 2 and f"error: {tmp_path / 'found.txt'}: No space left on device. Free space" in errors


def test_files_folders_and_patterns_name_each_image_once_and_a_file_with_brackets_is_no_pattern(folder, call):
    image = folder / "a [1].png"
    Image.new("RGB", (8, 8)).save(image)
    arguments = [folder / "b", folder / "*" / "*.png", paths_of(folder)[0], image]
    status, output, _ = call(*ZERO_SHOT, "--format", "json", *arguments)
    found = [row["image"] for row in json.loads(output)]
    assert status == 0 and sorted(found) == sorted([*paths_of(folder), str(image)])
    assert Path(found[0]).parent.name == "b"


def test_unreadable_images_are_named_and_the_others_still_predicted(folder, call):
    (folder / "a" / "5 broken.png").write_bytes(b"nothing")
    half = folder / "b" / "9 half.jpg"
    Image.effect_noise((64, 64), 90).save(half)
    half.write_bytes(half.read_bytes()[:700])
    missing = folder / "missing.png"
    status, output, errors = call(*ZERO_SHOT, "--format", "json", "--batch-size", 2, folder, missing)
    rows = json.loads(output)
    assert status == 1 and len(rows) == 9
    assert sum("predictions" in row for row in rows) == 6
    for name, reason in (("5 broken.png", "no image"), ("9 half.jpg", "cannot be read"), ("missing.png", "no image")):
        assert any(name in line and reason in line for line in errors.splitlines()), name
    assert "3 of 9 images cannot be read." in errors and "Traceback" not in errors
    status, output, _ = call(*ZERO_SHOT, "--format", "csv", missing)
    assert (status, output) == (1, "image,rank,class,probability\n")


def test_classes_come_from_a_file_with_one_per_line(folder, call, tmp_path):
    (tmp_path / "classes.txt").write_text("zero\n\n  one, with a comma \nzwölf\n", encoding="utf-8")
    flags = ["--backbone", "tiny", "--device", "cpu", "--classes", tmp_path / "classes.txt"]
    _, output, _ = call(*flags, "--format", "json", paths_of(folder)[0])
    found = {prediction["class"] for prediction in json.loads(output)[0]["predictions"]}
    assert found == {"zero", "one, with a comma", "zwölf"}


def test_a_run_folder_suffices(run_train, call, folder):
    run = run_train(options=["TRAINER.BMIP.AGGREGATION", "joint"])
    status, output, _ = call("--checkpoint", run.folder, "--device", "cpu", "--format", "json", folder)
    assert status == 0
    expected = PromptClassifier.load(run.folder, device="cpu", progress=False).predict_proba(paths_of(folder))
    for row, probabilities in zip(json.loads(output), expected):
        assert row["predictions"][0]["class"] == NAMES[probabilities.argmax()]
        assert row["predictions"][0]["probability"] == pytest.approx(float(probabilities.max()), rel=1e-4)
        assert len(row["predictions"]) == 5


def test_a_checkpoint_that_records_nothing_is_described_by_flags(call, folder, tmp_path):
    original = PromptClassifier(**TINY, settings={"aggregation": "l2v", "depth": 2}).build(NAMES[:3])
    torch.save(original.model_.learner.state_dict(), tmp_path / "prompts.pt")
    flags = ["--checkpoint", tmp_path / "prompts.pt", "--method", "BMIP", "--setting", "aggregation=l2v"]
    status, output, _ = call(*flags, *ZERO_SHOT, "--format", "json", folder)
    assert status == 0
    found = [row["predictions"][0]["class"] for row in json.loads(output)]
    assert found == list(original.predict(paths_of(folder)))


def test_sentences_of_zero_shot_clip_can_be_given(call, folder):
    first, second = (
        call(*ZERO_SHOT, "--format", "csv", "--template", template, folder)[1]
        for template in ("a photo of a {}.", "a {} in a video game.")
    )
    assert first == call(*ZERO_SHOT, "--format", "csv", folder)[1] != second


WRONG = {
    "no classes": (["--backbone", "tiny"], "--classes"),
    "no names": ([*ZERO_SHOT[:4], "--classes", " , "], "--classes is ' , ', which has no names"),
    "no file": ([*ZERO_SHOT[:4], "--classes", "gone.txt"], "--classes is 'gone.txt', and there is no such file"),
    "one twice": ([*ZERO_SHOT[:4], "--classes", "a,a"], "'a' more than once"),
    "trained method": ([*ZERO_SHOT, "--method", "BMIP"], "--method is 'BMIP', whose prompts are trained"),
    "method": ([*ZERO_SHOT, "--method", "CLIP"], "--method is 'CLIP'"),
    "backbone": (["--backbone", "huge", "--classes", "a,b"], "backbone is 'huge'"),
    "no checkpoint": (["--checkpoint", "/no/such"], "There is no checkpoint or folder '/no/such'"),
    "setting": ([*ZERO_SHOT, "--setting", "depth"], "--setting is 'depth'; write NAME=VALUE"),
    "top": ([*ZERO_SHOT, "--top", "0"], "--top is 0; set it to 1 or more"),
    "batch": ([*ZERO_SHOT, "--batch-size", "-1"], "--batch-size is -1"),
    "pattern": ([*ZERO_SHOT, "/no/such/*.jpg"], "'/no/such/*.jpg' names no images"),
    "empty folder": ([*ZERO_SHOT, "empty"], "'empty' names no images"),
    "output to a folder": ([*ZERO_SHOT, "--output", "/tmp"], "--output is '/tmp', which is no file"),
    "output to a device": (
        [*ZERO_SHOT, "--output", "/dev/null"],
        "--output is '/dev/null', which is no file on a disk",
    ),
    "output": ([*ZERO_SHOT, "--output", "/no/such/file.csv"], "whose folder is not there"),
}


def test_an_output_that_cannot_be_written_is_refused_before_the_clip_is_loaded(call, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.prompting.api.predict.make_classifier", None)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    status, output, errors = call(*ZERO_SHOT, "--output", str(tmp_path / "file.csv"), paths_of(folder)[0])
    assert (status, output) == (2, "") and f"{tmp_path}: Permission denied. Make it readable and writable" in errors


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_an_error_without_a_traceback(case, call, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    arguments, message = WRONG[case]
    status, output, errors = call(*arguments, paths_of(folder)[0])
    assert (status, output) == (2, "")
    assert errors.startswith("error: ") and message in errors and "Traceback" not in errors
