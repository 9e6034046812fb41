"""The estimator trains what the trainers train, and answers for what it is given."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.declaration import CROSS_ENTROPY
from trainers.prompting.errors import InputError
from trainers.prompting.learners.bmip import BMIPConfig
from trainers.prompting.learners.maple import MaPLeConfig
from trainers.prompting.methods import METHODS

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TINY = dict(backbone="tiny", device="cpu", precision="fp32", progress=False)
SHORT = dict(epochs=2, settings={"depth": 1})


def digits(per_class: int, classes: int = 3, skip: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Arrays `[8, 8]` of handwritten digits, few of them by the same writer, and their names."""
    found = load_digits()
    images, labels = [], []
    for label in range(classes):
        for image in found.images[found.target == label][skip::10][:per_class]:
            images.append(np.uint8(image * 255 / 16))
            labels.append(NAMES[label])
    return images, labels


@pytest.fixture(scope="module")
def fitted() -> PromptClassifier:
    return PromptClassifier(**TINY, **SHORT).fit(*digits(4))


def data_of(run):
    """The data set of a run of train.py."""
    from yacs.config import CfgNode

    from datasets.registry import DATASET_REGISTRY

    configuration = CfgNode(run.result["configuration"])
    return DATASET_REGISTRY.get(configuration.DATASET.NAME)(configuration)


TRAINED = [name for name, method in METHODS.items() if method.objective == CROSS_ENTROPY and method.learns]


@pytest.mark.parametrize("method", TRAINED)
def test_a_fit_gives_the_weights_of_the_trainer_to_the_bit(method, run_train):
    recipes, batches_of_one = METHODS[method].recipes, method == "CoCoOp"
    recipe = f"configs/trainers/{recipes.folder}/{recipes.tiny}.yaml"
    options = ["DATALOADER.TRAIN_X.BATCH_SIZE", "3"] if batches_of_one else []
    run = run_train("--config-file", recipe, trainer=METHODS[method].trainer, options=options)
    assert run.status == 0
    checkpoint = next(run.folder.glob("*/model.pth.tar-2"))
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    data = data_of(run)
    images, labels = zip(*((item.impath, item.classname) for item in data.train_x))
    batch_size = 3 if batches_of_one else None
    classifier = PromptClassifier(method, **TINY, epochs=2, batch_size=batch_size, random_state=1)
    classifier.fit(images, labels, classes=data.classnames)
    ours = classifier.model_.learner.state_dict()
    assert ours.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(ours[name], value), name


def test_a_fit_tells_more_digits_apart_than_zero_shot_clip():
    images, labels = digits(17, classes=5, skip=5)
    zero_shot = PromptClassifier("ZeroshotCLIP", **TINY).build(NAMES[:5])
    trained = PromptClassifier(**TINY, epochs=6).fit(*digits(16, classes=5))
    assert trained.score(images, labels) > zero_shot.score(images, labels) + 0.03
    losses = [epoch["loss"] for epoch in trained.history_]
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_prompts_and_another_one_others(fitted):
    again, other = (PromptClassifier(**TINY, **SHORT, random_state=seed).fit(*digits(4)) for seed in (1, 2))
    states = [each.model_.learner.state_dict()["text_prompts.0"] for each in (fitted, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_random_numbers_of_the_caller_are_left_alone():
    images, labels = digits(4)

    def numbers(work) -> list:
        torch.manual_seed(5)
        np.random.seed(5)
        work()
        return [torch.rand(3).tolist(), np.random.rand(3).tolist()]

    def work() -> None:
        classifier = PromptClassifier(**TINY, epochs=1, settings={"depth": 1}, prediction_batch_size=5)
        classifier.fit(images, labels).predict(images)
        clone(classifier).set_params(random_state=None).build(["a", "b"])

    assert numbers(work) == numbers(lambda: None)


def test_all_kinds_of_images_are_the_same_image(fitted, tmp_path):
    array = digits(1)[0][0]
    rgb = np.stack([array] * 3, axis=2)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    Image.fromarray(array).save(tmp_path / "image.png")
    kinds = [array, rgb, Image.fromarray(array), tensor, tensor / 255, tmp_path / "image.png"]
    probabilities = [fitted.predict_proba([kind])[0] for kind in [*kinds, str(tmp_path / "image.png")]]
    for found in probabilities[1:]:
        np.testing.assert_array_equal(found, probabilities[0])


def test_any_sequence_of_images_will_do(fitted):
    images, labels = digits(2)
    expected = fitted.predict_proba(images)
    tensors = torch.from_numpy(np.stack([np.stack([image] * 3) for image in images]))
    for given in (tuple(images), np.stack(images), tensors, Column(images)):
        np.testing.assert_array_equal(fitted.predict_proba(given), expected)
    assert fitted.score(Column(images), labels) == fitted.score(images, labels)


class Column:
    """A sequence that is not indexed by position, as a filtered column of a data frame."""

    def __init__(self, items: list):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self):
        return iter(self.items)


def test_a_classifier_that_has_predicted_can_be_copied(fitted):
    images, _ = digits(2)
    expected = fitted.predict_proba(images)
    np.testing.assert_array_equal(copy.deepcopy(fitted).predict_proba(images), expected)


def test_predictions_are_names_and_probabilities_of_the_classes(fitted):
    images, labels = digits(2, skip=5)
    probabilities = fitted.predict_proba(images)
    assert list(fitted.classes_) == sorted(NAMES[:3])
    assert probabilities.shape == (6, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert list(fitted.predict(images)) == [fitted.classes_[row.argmax()] for row in probabilities]
    assert fitted.score(images, labels) == np.mean(fitted.predict(images) == np.array(labels))
    assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 3)


def test_prompts_serve_other_classes_and_other_orders(fitted):
    images, _ = digits(2)
    before = fitted.predict_proba(images)
    turned = copy.deepcopy(fitted).set_classes(fitted.classes_[::-1])
    np.testing.assert_allclose(turned.predict_proba(images)[:, ::-1], before, rtol=1e-4, atol=1e-6)
    assert set(turned.set_classes(["seven", "eight"]).predict(images)) <= {"seven", "eight"}


def test_scikit_learn_clones_validates_and_searches():
    images, labels = digits(6, classes=2)
    classifier = PromptClassifier(**TINY, epochs=1, settings={"depth": 1})
    assert clone(classifier).get_params() == classifier.get_params()
    scores = cross_val_score(classifier, images, labels, cv=2, error_score="raise")
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
    grid = {"settings": [{"depth": 1}, {"depth": 2}], "learning_rate": [0.01]}
    found = GridSearchCV(classifier, grid, cv=2, error_score="raise").fit(images, labels)
    assert found.best_params_["settings"]["depth"] in (1, 2)
    assert len(found.predict(images)) == len(images)


def test_settings_come_by_name_or_as_their_dataclass():
    by_name = PromptClassifier(**TINY, settings={"aggregation": "none", "depth": 2}).build(["a", "b"])
    given = BMIPConfig(aggregation="none", depth=2)
    assert by_name.config_ == PromptClassifier(**TINY, settings=given).build(["a", "b"]).config_ == given
    with pytest.raises(InputError, match=r"settings is MaPLeConfig\(.*\); give a dict of settings, or a BMIPConfig"):
        PromptClassifier(**TINY, settings=MaPLeConfig()).build(["a", "b"])


def test_a_classifier_that_was_not_fitted_says_so():
    with pytest.raises(NotFittedError, match="has no prompts yet; call fit or build first, or make it by load"):
        PromptClassifier(**TINY).predict(digits(1)[0])


WRONG_DATA = {
    "unequal lengths": (lambda images, labels: (images, labels[1:]), "There are 6 images and 5 labels"),
    "no images": (lambda images, labels: ([], []), "There are no images"),
    "one class": (lambda images, labels: (images[:2], labels[:2]), "one class, 'zero'; a classifier needs two"),
    "numbers": (lambda images, labels: (images, [0, 0, 1, 1, 2, 2]), "Label 0 is 0, a int; give the name"),
    "text": (lambda images, labels: (images, "zeroes"), "labels is a str; give a list"),
    "an image": (lambda images, labels: (Image.new("RGB", (8, 8)), ["a"]), "images is a Image; give a list"),
    "a path": (lambda images, labels: ("a.jpg", ["a"]), "images is a str; give a list"),
    "an array": (lambda images, labels: (np.zeros((8, 8, 3), np.uint8), ["a"]), "images is a ndarray; give a list"),
    "a tensor": (lambda images, labels: (torch.zeros(3, 8, 8), ["a"]), "images is a Tensor; give a list"),
    "no pixels in an array": (lambda images, labels: ([np.zeros((0, 0, 3), np.uint8)] * 6, labels), "has no pixels"),
    "no pixels": (lambda images, labels: ([Image.new("RGB", (0, 5))] * 6, labels), r"has no pixels: it is \[0, 5\]"),
    "32 bits": (
        lambda images, labels: ([Image.new("F", (8, 8))] * 6, labels),
        "mode F.*; convert it to 8",
    ),
    "normalised": (lambda images, labels: ([torch.full((3, 8, 8), -2.0)] * 6, labels), "from -2 to -2; give floats"),
    "shape": (lambda images, labels: ([torch.zeros(8, 8)] * 6, labels), r"Image \d is a Tensor; give"),
    "dtype": (lambda images, labels: ([np.zeros((8, 8))] * 6, labels), r"an array \[8, 8\] of float64; give"),
    "kind": (lambda images, labels: ([None] * 6, labels), r"Image \d is a NoneType; give"),
    "missing": (lambda images, labels: (["gone.jpg", *images[1:]], labels), "There is no image 'gone.jpg'"),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_wrong_data_is_refused_with_what_to_give(case):
    change, message = WRONG_DATA[case]
    with pytest.raises(InputError, match=message):
        PromptClassifier(**TINY).fit(*change(*digits(2)))


def test_a_file_that_is_no_usable_image_is_named_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.prompting.api.classifier.load_clip", None)
    (tmp_path / "notes.jpg").write_bytes(b"no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("F", (8, 8)).save(tmp_path / "deep.tif")
    images, labels = digits(2)
    for name, reason in (
        ("notes.jpg", "cannot be read: no image"),
        ("empty.jpg", "cannot be read: no image"),
        ("deep.tif", "cannot be read: it has 32 bits .*; convert it to 8"),
    ):
        with pytest.raises(InputError, match=rf"^The image '{tmp_path}/{name}' {reason}"):
            PromptClassifier("BMIP", "tiny").fit([tmp_path / name, *images[1:]], labels)


def test_a_truncated_file_is_named(fitted, tmp_path):
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=f"{path}' cannot be read: "):
        fitted.predict([path])


WRONG_PARAMETERS = {
    "method": (dict(method="bimp"), "method is 'bimp'. Do you mean BMIP.*METHODS.md lists all"),
    "setting": (dict(settings={"depht": 3}), "settings has 'depht', which BMIP does not have.*Do you mean depth"),
    "deep": (dict(settings={"depth": 5}), r"settings\['depth'\] is 5, but the towers .* have 4 layers"),
    "words": (dict(settings={"context": "a"}), r"settings\['context'\] is 'a'.*\(settings\['length'\]\)"),
    "backbone": (dict(backbone="ViT-B/17"), "backbone is 'ViT-B/17', which is neither a file, nor tiny,"),
    "device": (dict(device="gpu"), "device is 'gpu', which torch does not find here; set it to cpu, cuda"),
    "number of a GPU": (dict(device=99), "device is 99, which torch does not find here"),
    "optimizer": (dict(optimizer="sdg"), "optimizer is 'sdg'; set it to one of sgd, adam"),
    "rate": (dict(learning_rate=-1.0), "learning_rate is -1.0; set it to a finite number, 0.0 or more"),
    "epochs": (dict(epochs=1.5), "epochs is 1.5; set it to a whole number, 0 or more"),
    "batch": (dict(batch_size=0), "batch_size is 0; set it to a whole number, 1 or more"),
    "crop": (dict(crop_scale=(0.5, 2.0)), r"crop_scale is \(0.5, 2.0\); set it to two parts"),
    "decay below 0": (dict(weight_decay=-1), "weight_decay is -1; set it to a finite number, 0.0 or more"),
    "flip in words": (dict(flip="no"), "flip is 'no'; set it to True or False"),
    "settings in a list": (dict(settings=[1]), r"settings is \[1\]; give a dict of settings, or a BMIPConfig"),
    "seed": (dict(random_state=-1), "random_state is -1; set it to 0 or more, or None"),
}


@pytest.mark.parametrize("case", WRONG_PARAMETERS)
def test_a_wrong_parameter_is_named_with_what_is_allowed(case):
    parameters, message = WRONG_PARAMETERS[case]
    with pytest.raises(InputError, match=message):
        PromptClassifier(**{**TINY, **parameters}).fit(*digits(2))


@pytest.mark.parametrize("case", [case for case in WRONG_PARAMETERS if case not in ("deep", "words")])
def test_parameters_are_checked_before_any_image_is_opened(case):
    parameters, message = WRONG_PARAMETERS[case]
    images, labels = digits(2)
    with pytest.raises(InputError, match=message):
        PromptClassifier(**{**TINY, **parameters}).fit(["gone.jpg", *images[1:]], labels)


WRONG_SCORES = {
    "fewer labels": (lambda labels: (labels[1:],), "There are 6 images and 5 labels; give a label for each"),
    "numbers": (lambda labels: ([0, 0, 1, 1, 2, 2],), "Label 0 is 0, a int; give the name of the class in words"),
    "text": (lambda labels: ("zeroes",), "labels is a str; give a list"),
    "nothing": (lambda labels: (None,), "labels is a NoneType; give a list"),
    "weights of others": (
        lambda labels: (labels, [1, 2]),
        r"sample_weight is \[1, 2\]; give a number for each of the 6",
    ),
    "weights in words": (lambda labels: (labels, ["a"] * 6), "sample_weight is .*; give a number for each of the 6"),
    "weights of nothing": (lambda labels: (labels, [0] * 6), "sample_weight is .*; give .*sum is above 0"),
}


@pytest.mark.parametrize("case", WRONG_SCORES)
def test_a_score_of_wrong_labels_is_refused_with_what_to_give(fitted, case):
    change, message = WRONG_SCORES[case]
    images, labels = digits(2)
    with pytest.raises(InputError, match=message):
        fitted.score(images, *change(labels))
    with pytest.raises(InputError, match="There are no images"):
        fitted.score([], [])


def test_a_score_is_scikit_learns(fitted):
    images, labels = digits(2)
    labels[0], weights = "a word of no class", [5, 1, 1, 1, 1, 1]
    right = fitted.predict(images) == np.array(labels)
    assert fitted.score(np.stack(images), np.array(labels)) == right.mean()
    assert fitted.score(images, labels, sample_weight=weights) == np.average(right, weights=weights)


def test_labels_that_are_no_classes_are_named(fitted):
    images, labels = digits(1)
    with pytest.raises(InputError, match="labels has 'two', not among the 2 classes"):
        PromptClassifier(**TINY).fit(images, labels, classes=["zero", "one"])
    with pytest.raises(InputError, match="classes has 'a' more than once"):
        fitted.set_classes(["a", "b", "a"])
    with pytest.raises(InputError, match="classes is {.*}; give a list of class names"):
        fitted.set_classes({"a", "b"})


def test_a_loss_that_is_not_finite_ends_the_fit():
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        PromptClassifier("MaPLe", **TINY, learning_rate=1e30, epochs=3).fit(*digits(4))


def test_zero_shot_sentences_are_averaged():
    templates = ["a {}.", "the number {}."]
    both = PromptClassifier("ZeroshotCLIP", **TINY, settings={"templates": templates}).build(NAMES)
    alone = PromptClassifier("ZeroshotCLIP", **TINY, settings={"templates": templates[:1]}).build(NAMES)
    images, _ = digits(2)
    assert not np.allclose(both.predict_proba(images), alone.predict_proba(images))
    with pytest.raises(InputError, match="no place for the class"):
        PromptClassifier("ZeroshotCLIP", **TINY, settings={"templates": ["a photo"]}).build(NAMES)
