"""Prompts from disk: saved classifiers, runs of train.py, checkpoints of ours and of the methods' authors."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clip
from helpers.earlier import save_as_before
from helpers.learners import make_learner, naive_features
from helpers.published import coop, expected_mma, mma, released_layout
from naive_methods import cosine_logits
from test_classifier import NAMES, TINY, data_of, digits

from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.api.images import evaluation_transform, open_image
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.declaration import CROSS_ENTROPY
from trainers.prompting.errors import InputError
from trainers.prompting.methods import METHODS

IMAGES = digits(2)[0]
QUIET = dict(device="cpu", progress=False)
CLOSE = dict(rtol=1e-4, atol=1e-5)


def pixels(images: list) -> torch.Tensor:
    return torch.stack([evaluation_transform(32)(open_image(image)) for image in images])


# ---------------------------------------------------------------------------------------------- saved classifiers


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].objective == CROSS_ENTROPY])
def test_a_saved_classifier_comes_back_with_the_same_predictions(method, tmp_path):
    images, labels = digits(2)
    saved = PromptClassifier(method, **TINY, epochs=1, flip=True, crop_scale=(0.5, 1.0)).fit(images, labels)
    saved.save(tmp_path / "saved")
    loaded = PromptClassifier.load(tmp_path / "saved", **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(images), saved.predict_proba(images))
    assert list(loaded.classes_) == list(saved.classes_) and loaded.config_ == saved.config_
    given = {name: value for name, value in saved.get_params().items() if name not in ("settings", "crop_scale")}
    assert given.items() <= loaded.get_params().items()
    # A fit goes on from its parameters, too.
    np.testing.assert_array_equal(loaded.fit(images, labels).predict_proba(images), saved.predict_proba(images))


def test_a_saved_classifier_is_replaced_only_when_that_is_asked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("")  # a folder of other files is as good as none
    PromptClassifier(**TINY).build(NAMES[:3]).save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = PromptClassifier(**TINY).build(NAMES[:5])
    with pytest.raises(InputError, match=f"'{tmp_path}' holds prompts.safetensors.*overwrite=True.*another folder"):
        other.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    other.save(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "prompts.safetensors"]
    assert len(PromptClassifier.load(tmp_path, **QUIET).classes_) == 5
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder"):
        PromptClassifier(**TINY).build(NAMES).save(tmp_path / "file")


def test_a_folder_of_an_earlier_version_is_read_and_replaced_by_one_file(tmp_path):
    saved = PromptClassifier(**TINY, settings={"depth": 2}).build(NAMES[:3])
    save_as_before(saved, tmp_path)
    loaded = PromptClassifier.load(tmp_path, **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), saved.predict_proba(IMAGES))
    assert loaded.config_ == saved.config_
    for left in (["prompts.npz", "classifier.json"], ["classifier.json"]):
        with pytest.raises(InputError, match=f"'{tmp_path}' holds {' and '.join(left)} of a saved.*overwrite=True"):
            loaded.save(tmp_path)
        (tmp_path / left[0]).unlink()
    save_as_before(saved, tmp_path)
    PromptClassifier(**TINY).build(NAMES[:5]).save(tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["prompts.safetensors"]
    assert len(PromptClassifier.load(tmp_path, **QUIET).classes_) == 5


class Payload:
    """What a pickle may do when it is read: here, make a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_pickled_weights_are_refused_and_not_executed(tmp_path):
    save_as_before(PromptClassifier(**TINY).build(NAMES[:3]), tmp_path)
    np.savez(tmp_path / "prompts.npz", text=np.array([Payload(tmp_path / "made")], dtype=object))
    with pytest.raises(InputError, match="prompts.npz is missing or damaged"):
        PromptClassifier.load(tmp_path, **QUIET)
    torch.save({"state_dict": {"ctx": Payload(tmp_path / "made")}}, tmp_path / "prompts.pt")
    with pytest.raises(InputError, match="it has not been executed"):
        PromptClassifier.load(tmp_path / "prompts.pt", NAMES, method="CoOp", **QUIET)
    assert not (tmp_path / "made").exists()


def rewrite(folder: Path, **changes) -> None:
    """Change entries of a saved classifier's description."""
    path = folder / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "prompts.npz").write_bytes(b"PK\x03\x04"), "prompts.npz is missing or damaged"),
        (lambda folder: (folder / "prompts.npz").unlink(), "prompts.npz is missing or damaged"),
        (
            lambda folder: (folder / "classifier.json").write_text("{"),
            "classifier.json is no JSON .*; restore it, or save the classifier again or repeat",
        ),
        (
            lambda folder: (folder / "classifier.json").write_text("[]"),
            "classifier.json holds a list in the place of an object; restore it",
        ),
        (
            lambda folder: (folder / "classifier.json").write_text('{"format": 9}'),
            "has format 9; this version reads 1",
        ),
        (lambda folder: rewrite(folder, parameters=[1]), "has no parameters by name"),
        (lambda folder: rewrite(folder, parameters={"wings": 2}), "parameters that this version does not have: wings"),
    ],
)
def test_a_damaged_folder_of_an_earlier_version_is_named(change, message, tmp_path):
    save_as_before(PromptClassifier(**TINY).build(NAMES[:3]), tmp_path)
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        PromptClassifier.load(tmp_path, **QUIET)


# --------------------------------------------------------------------------------------------------- runs of train.py


def logits_of(run) -> np.ndarray:
    with np.load(run.folder / "logits.npz") as arrays:
        return arrays["logits"]


@pytest.mark.filterwarnings("error:The prompts were trained with")
@pytest.mark.parametrize(
    "trainer", ["BMIP", "MaPLe", "IVLP", "VPT", "CoOp", "CoCoOp", "MMA", "PromptSRC", "PromptSRC_BMIP"]
)
def test_a_run_is_loaded_from_its_folder_with_the_probabilities_of_its_test(trainer, run_train):
    options = ["TRAINER.PROMPTSRC.GPA_MEAN", "1.0"] if "PromptSRC" in trainer else []
    run = run_train(trainer=trainer, options=["TEST.SAVE_LOGITS", "True", *options])
    classifier = PromptClassifier.load(run.folder, **QUIET)
    data = data_of(run)
    paths = [item.impath for item in data.test]
    expected = torch.from_numpy(logits_of(run)).softmax(dim=1)
    some = slice(0, len(paths), 7)
    np.testing.assert_allclose(classifier.predict_proba(paths[some]), expected[some], **CLOSE)
    assert list(classifier.classes_) == NAMES[:5] == data.classnames
    methods = {"PromptSRC": "IVLP", "PromptSRC_BMIP": "BMIP"}
    assert (classifier.method, classifier.backbone) == (methods.get(trainer, trainer), "tiny")


def test_adapters_are_refused_rather_than_left_out(run_train):
    run = run_train(trainer="CoPrompt")
    assert run.status == 0, run.errors
    with pytest.raises(InputError, match="cannot be loaded. It has adapters after the towers"):
        PromptClassifier.load(run.folder, **QUIET)


def test_the_record_beside_a_checkpoint_file_is_used(run_train):
    run = run_train(options=["TRAIN.CHECKPOINT_FREQ", "1", "TRAINER.BMIP.AGGREGATION", "addition"])
    folder = run.folder / "MultiModalPromptLearner"
    first, last = (PromptClassifier.load(folder / f"model.pth.tar-{epoch}", **QUIET) for epoch in (1, 2))
    assert last.config_.aggregation == "addition"
    probabilities = last.predict_proba(IMAGES)
    assert not np.array_equal(first.predict_proba(IMAGES), probabilities)
    for place in (run.folder, folder):
        np.testing.assert_array_equal(PromptClassifier.load(place, **QUIET).predict_proba(IMAGES), probabilities)
    shutil.copy(folder / "model.pth.tar-1", folder / "model-best.pth.tar")
    best = PromptClassifier.load(run.folder, **QUIET)
    np.testing.assert_array_equal(best.predict_proba(IMAGES), first.predict_proba(IMAGES))


def test_a_test_of_other_classes_stands_for_these_and_for_the_weights_it_tested(run_train, tmp_path):
    run = run_train()
    tested = run_train(
        *("--eval-only", "--model-dir", str(run.folder)),
        folder=tmp_path / "tested",
        options=["DATASET.SUBSAMPLE_CLASSES", "new", "TEST.SAVE_LOGITS", "True"],
    )
    classifier = PromptClassifier.load(tested.folder, **QUIET)
    assert list(classifier.classes_) == NAMES[5:]
    paths = [item.impath for item in data_of(tested).test][::20]
    expected = torch.from_numpy(logits_of(tested)[::20]).softmax(dim=1)
    np.testing.assert_allclose(classifier.predict_proba(paths), expected, **CLOSE)
    shutil.move(run.folder, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is of a test of .*run', which is no folder from here"):
        PromptClassifier.load(tested.folder, **QUIET)


def test_what_is_given_overrules_what_is_recorded(run_train):
    run = run_train()
    classifier = PromptClassifier.load(run.folder, classes=["a", "b"], precision="bf16", **QUIET)
    assert list(classifier.classes_) == ["a", "b"] and classifier.precision == "bf16"
    with pytest.raises(InputError, match=r"cannot be loaded. .*Set method, settings and backbone"):
        PromptClassifier.load(run.folder, settings={"depth": 2}, **QUIET)
    with pytest.raises(InputError, match="It does not fit BMIP with .*text_gate.*; set method and settings to those"):
        PromptClassifier.load(run.folder, settings={"aggregation": "addition"}, **QUIET)


def test_records_of_the_plugin_of_other_precisions_and_of_older_versions_are_read(run_train):
    run = run_train(options=["TRAINER.BMIP.AGGREGATION", "addition"])
    expected = PromptClassifier.load(run.folder, **QUIET).predict_proba(IMAGES)

    def load_changed(record: dict, **parameters) -> PromptClassifier:
        (run.folder / "result.json").write_text(json.dumps(record))
        return PromptClassifier.load(run.folder, **QUIET, **parameters)

    half = run.result
    half["configuration"]["TRAINER"]["BMIP"]["PREC"] = "fp16"
    assert load_changed(half).precision == "fp32"  # half precision is not taken over to the CPU
    assert load_changed(half, precision="fp16").precision == "fp16"
    plugin = run.result
    nodes = plugin["configuration"]["TRAINER"]
    plugin["trainer"], nodes["BMIPPLUGIN"] = "BMIPPlugin", nodes.pop("BMIP")
    np.testing.assert_array_equal(load_changed(plugin).predict_proba(IMAGES), expected)
    older = run.result
    del older["configuration"], older["method"]
    np.testing.assert_array_equal(
        load_changed(older, settings={"aggregation": "addition"}).predict_proba(IMAGES), expected
    )


def test_a_run_that_saw_other_pixels_is_warned_about(run_train):
    run = run_train(options=["INPUT.INTERPOLATION", "bilinear"])
    with pytest.warns(UserWarning, match="trained with INPUT.INTERPOLATION bilinear, but"):
        PromptClassifier.load(run.folder, **QUIET)


# ----------------------------------------------------------------------------------------------- single checkpoints


def saved_alone(tmp_path: Path, state: dict) -> Path:
    torch.save({"state_dict": state, "epoch": 5}, tmp_path / "prompts.pth")
    return tmp_path / "prompts.pth"


def test_sizes_are_read_off_a_checkpoint_that_records_nothing(tmp_path):
    original = PromptClassifier(**TINY, settings={"length": 3, "depth": 2}).build(NAMES)
    path = saved_alone(tmp_path, original.model_.learner.state_dict())
    loaded = PromptClassifier.load(path, NAMES, method="BMIP", backbone="tiny", **QUIET)
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), original.predict_proba(IMAGES))


@pytest.mark.parametrize("share", [True, False])
def test_a_checkpoint_of_bmips_authors_computes_the_released_method(share, tmp_path, small_clip):
    learner = make_learner(small_clip, variant="released", depth=3, share_text=share, share_vision=share)
    learner.load_state_dict({key: value.half().float() for key, value in learner.state_dict().items()})
    torch.save(small_clip.state_dict(), tmp_path / "clip.pt")
    path = saved_alone(tmp_path, released_layout(learner, small_clip))
    loaded = PromptClassifier.load(path, NAMES, method="BMIP", backbone=str(tmp_path / "clip.pt"), **QUIET)
    with torch.no_grad():
        slow = cosine_logits(small_clip, *naive_features(small_clip, learner, pixels(IMAGES), NAMES))
    np.testing.assert_allclose(loaded.predict_proba(IMAGES), slow.softmax(dim=1), rtol=1e-3, atol=1e-5)


def test_a_checkpoint_of_mmas_authors_tells_its_layers(tmp_path):
    state = mma(load_clip("tiny"))
    path = saved_alone(tmp_path, state)
    loaded = PromptClassifier.load(path, NAMES, method="MMA", backbone="tiny", **QUIET)
    with torch.no_grad():
        slow = expected_mma(loaded.model_.clip_model, pixels(IMAGES), NAMES, state)
    np.testing.assert_allclose(loaded.predict_proba(IMAGES), slow.softmax(dim=1), rtol=1e-3, atol=1e-5)


def test_a_checkpoint_of_coops_authors_serves_a_resnet(tmp_path):
    model = make_clip(vision_layers=(1, 1, 1, 1), vision_width=32, embed_dim=512, image_resolution=64)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    path = saved_alone(tmp_path, coop(model))
    loaded = PromptClassifier.load(path, NAMES, method="CoOp", backbone=str(tmp_path / "clip.pt"), **QUIET)
    assert torch.equal(loaded.model_.learner.text_prompts["0"], coop(model)["ctx"].float())
    assert set(loaded.predict(IMAGES)) <= set(NAMES)


def test_what_cannot_be_loaded_is_named_with_the_remedy(tmp_path):
    def refused(message: str, path: Path, *arguments, **parameters) -> None:
        with pytest.raises(InputError, match=message):
            PromptClassifier.load(path, *arguments, **parameters, **QUIET)

    original = PromptClassifier("MaPLe", **TINY).build(NAMES)
    path = saved_alone(tmp_path, original.model_.learner.state_dict())
    tiny = dict(method="MaPLe", backbone="tiny")
    refused("There is no checkpoint or folder '/no/such'", "/no/such")
    refused("prompts.pth' does not record a method that is known here", path, NAMES)
    refused("prompts.pth' does not record its classes", path, **tiny)
    refused("method is 'Mapel'.*Do you mean MaPLe", path, NAMES, method="Mapel")
    given = dict(method="CoCoOp", backbone="tiny")
    refused("prompts.pth' cannot be loaded. .* 3 layers .* Set method, settings and", path, NAMES, **given)
    refused("holds no checkpoint; give a folder with prompts.safetensors", tmp_path, NAMES, **tiny)
    other = make_clip(transformer_width=192, transformer_heads=3)
    torch.save(other.state_dict(), tmp_path / "clip.pt")
    refused("text_prompts has .* wide, expected", path, NAMES, method="MaPLe", backbone=str(tmp_path / "clip.pt"))
    for content in ({}, {"w": torch.ones(2)}):
        torch.save(content, tmp_path / "other.pth")
        refused("other.pth' holds no prompts of MaPLe", tmp_path / "other.pth", NAMES, **tiny)
    for place in ("a", "b"):
        (tmp_path / "two" / place).mkdir(parents=True)
        shutil.copy(path, tmp_path / "two" / place / "model.pth.tar-5")
    refused("has checkpoints in 2 folders; give one of", tmp_path / "two", NAMES, **tiny)
