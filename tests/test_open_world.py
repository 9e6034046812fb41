"""One pass over all classes tells base and new images apart: definitions, and agreement with closed-set tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.runs import saved
from sklearn.metrics import roc_auc_score

from trainers.prompting.core.metrics import OpenWorld, auroc, expected_calibration_error, openworld_auc

SYMBOLS, SKETCHES = (
    ("--dataset-config-file", f"configs/datasets/{name}.yaml") for name in ("symbols", "symbols_sketch")
)


def test_hand_worked_numbers():
    #                  base    |  new
    logits = [
        [3.0, 1.0, 2.0, 0.0],  # label 0: right among base and among all
        [1.0, 2.0, 3.0, 0.0],  # label 1: right among base, but a new class is higher
        [2.0, 1.0, 0.0, 0.5],  # label 1: wrong
        [0.0, 0.0, 5.0, 1.0],  # label 2: right
        [9.0, 0.0, 2.0, 4.0],  # label 3: right among new, but a base class is higher
    ]
    found = OpenWorld(torch.tensor([True, True, False, False]))
    # In two batches, in which each kind of image is missing once.
    found.add(torch.tensor(logits[:3]), torch.tensor([0, 1, 1]))
    found.add(torch.tensor(logits[3:]), torch.tensor([2, 3]))
    results = found.results()
    assert results["base"] == pytest.approx(200 / 3) and results["new"] == 100
    assert results["HM"] == pytest.approx(2 * 200 / 3 * 100 / (200 / 3 + 100))
    assert results["accuracy"] == pytest.approx(40)
    assert results["base_among_all"] == pytest.approx(100 / 3) and results["new_among_all"] == 50
    # Of six pairs those of the first two base images with the first new one: its base probability is the lowest.
    assert results["openworld_auc"] == pytest.approx(100 * 2 / 6)


def test_openworld_auc_equals_the_authors_way_through_an_ordinary_auc():
    generator = torch.Generator().manual_seed(0)
    base, new = torch.rand(40, generator=generator), torch.rand(30, generator=generator)
    base[:5] = new[:5]  # ties
    base_correct, new_correct = torch.rand(40, generator=generator) > 0.3, torch.rand(30, generator=generator) > 0.4
    # A wrong base image goes below all new ones, a wrong new image above all base ones.
    scores = torch.cat([torch.where(base_correct, base, -1.0), torch.where(new_correct, new, 2.0)])
    expected = 100 * roc_auc_score([1] * 40 + [0] * 30, scores)
    assert openworld_auc(base, base_correct, new, new_correct) == pytest.approx(expected)


def test_a_perfect_score_and_perfect_classifiers_give_all():
    everything = torch.ones(3, dtype=torch.bool)
    assert openworld_auc(torch.tensor([3.0, 4.0, 5.0]), everything, torch.tensor([0.0, 1.0, 2.0]), everything) == 100
    assert openworld_auc(torch.zeros(3), everything, torch.zeros(3), everything) == 50


def test_auroc_is_the_area_of_an_ordinary_library():
    generator = torch.Generator().manual_seed(0)
    base, new = torch.rand(40, generator=generator) + 0.1, torch.rand(30, generator=generator)
    base[:5] = new[:5]  # ties
    expected = 100 * roc_auc_score([1] * 40 + [0] * 30, torch.cat([base, new]))
    assert auroc(base, new) == pytest.approx(expected)
    everything = torch.ones(40, dtype=torch.bool), torch.ones(30, dtype=torch.bool)
    assert openworld_auc(base, everything[0], new, everything[1]) == pytest.approx(expected)


def naive_calibration_error(confidences: list[float], correct: list[bool], bins: int) -> float:
    """Image by image and bin by bin."""
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, one in enumerate(confidences) if low < one <= high or (number == 0 and one == 0)]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return 100 * error


def test_the_calibration_error_is_the_mean_gap_of_accuracy_and_confidence_over_bins():
    generator = torch.Generator().manual_seed(0)
    confidences = torch.rand(500, generator=generator, dtype=torch.float64)
    confidences[:4] = torch.tensor([0.0, 1.0, 0.5, 0.25])  # 0.5 and 0.25 are edges of 4 bins
    correct = torch.rand(500, generator=generator) < confidences**2
    for bins in (1, 4, 15):
        expected = naive_calibration_error(confidences.tolist(), correct.tolist(), bins)
        assert expected > 1 and expected_calibration_error(confidences, correct, bins) == pytest.approx(expected)
    assert expected_calibration_error(confidences, correct) == pytest.approx(expected)  # 15 unless told otherwise


def test_who_is_right_as_often_as_sure_is_calibrated():
    correct = torch.tensor([True, True, True, False])
    assert expected_calibration_error(torch.full((4,), 0.75), correct) == pytest.approx(0)
    assert expected_calibration_error(torch.ones(4), correct) == pytest.approx(25)


def test_each_figure_is_of_its_own_images_and_classes():
    generator = torch.Generator().manual_seed(0)
    is_base = torch.tensor([True, False, True, False, True])
    logits, labels = 3 * torch.randn(200, 5, generator=generator), torch.randint(5, (200,), generator=generator)
    found = OpenWorld(is_base)
    for rows in torch.arange(200).split(64):
        found.add(logits[rows], labels[rows])
    results, image_is_base = found.results(), is_base[labels]
    probabilities = logits.double().softmax(dim=1).tolist()
    for name, score in (("auroc", lambda row: max(row[0], row[2], row[4])), ("auroc_msp", max)):
        expected = 100 * roc_auc_score(image_is_base, [score(row) for row in probabilities])
        assert results[name] == pytest.approx(expected)
    assert results["openworld_auc"] < results["auroc"] != pytest.approx(results["auroc_msp"])
    sides = {"ece_base": [0, 2, 4], "ece_new": [1, 3], "ece_all": [0, 1, 2, 3, 4]}
    for name, classes in sides.items():
        confidences, correct = [], []
        for row, label in zip(logits.tolist(), labels.tolist()):
            if label in classes:
                total = sum(math.exp(row[one]) for one in classes)
                best = max(classes, key=row.__getitem__)
                confidences.append(math.exp(row[best]) / total)
                correct.append(best == label)
        assert results[name] == pytest.approx(naive_calibration_error(confidences, correct, 15)), name


def test_without_new_images_there_is_no_result():
    found = OpenWorld(torch.tensor([True, True, False, False]))
    assert found.results() is None
    found.add(torch.rand(3, 4), torch.tensor([0, 1, 0]))
    assert found.results() is None


def test_base_and_new_equal_the_closed_set_tests(run_train, tmp_path):
    run = run_train()
    results = {}
    for classes in ("base", "new", "all"):
        flags, options = ("--eval-only", "--model-dir", str(run.folder)), ["DATASET.SUBSAMPLE_CLASSES", classes]
        evaluation = run_train(*flags, folder=tmp_path / classes, options=options)
        results[classes] = evaluation.result
    whole = results["all"]["open_world"]
    assert whole["base"] == pytest.approx(results["base"]["accuracy"])
    assert whole["new"] == pytest.approx(results["new"]["accuracy"])
    assert whole["accuracy"] == pytest.approx(results["all"]["accuracy"])
    assert "open-world base: " in evaluation.output
    assert results["base"]["open_world"] is None and run.result["open_world"] is None


def test_a_run_records_what_it_cost(run_train):
    result = run_train().result
    assert 0 < result["train_seconds"] < 100 and result["peak_memory_bytes"] > 2**26
    assert result["parameters"] == sum(p.numel() for p in saved(run_train(), 2)["state_dict"].values())


def test_on_a_variant_of_the_data_set_the_learned_classes_are_told_by_their_names(run_train, tmp_path):
    options = ["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1"]
    run = run_train(*SYMBOLS, folder=tmp_path / "model", options=options)
    assert run.status == 0, run.errors
    flags = *SKETCHES, "--eval-only", "--model-dir", str(run.folder)
    options = ["DATASET.SUBSAMPLE_CLASSES", "all", "TEST.SAVE_LOGITS", "True"]
    evaluation = run_train(*flags, folder=tmp_path / "variant", options=options)
    learned = {entry["name"] for entry in run.result["per_class"]}
    names = [entry["name"] for entry in evaluation.result["per_class"]]
    is_base = np.array([name in learned for name in names])
    assert len(learned) == is_base.sum() == 38 and len(names) == 75
    saved = np.load(evaluation.folder / "logits.npz")
    logits, labels = saved["logits"], saved["labels"]
    expected = {}
    for name, side in (("base", is_base), ("new", ~is_base)):
        chosen = side[labels]
        predicted = np.where(side, logits[chosen], -np.inf).argmax(axis=1)
        expected[name] = 100 * (predicted == labels[chosen]).mean()
    found = evaluation.result["open_world"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(evaluation.result["accuracy"])
    assert "learned classes" in evaluation.output


@pytest.mark.parametrize("learned, tested", [("all", ()), ("base", SKETCHES)], ids=["all classes", "other classes"])
def test_there_is_no_open_world_for_models_of_all_classes_or_of_others(run_train, tmp_path, learned, tested):
    options = ["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "DATASET.SUBSAMPLE_CLASSES"]
    run = run_train(folder=tmp_path / "model", options=[*options, learned])
    assert run.result["open_world"] is None and run.result["accuracy"] is not None
    flags = *tested, "--eval-only", "--model-dir", str(run.folder)
    evaluation = run_train(*flags, folder=tmp_path / "evaluation", options=[*options, "all"])
    assert evaluation.status == 0 and evaluation.result["open_world"] is None
