"""MMRL: which feature of an image classifies, in training, and in tests of the training's classes and of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.learners import TOLERANCE, make, new_learner
from helpers.runs import assert_refused

import train
from experiments.methods import recipe_for
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError

SETTINGS = dict(length=3, width=9, layers=(2, 3))
ROOT = Path(__file__).parents[1]


def model_of(clip_model, classnames, **settings) -> PromptedCLIP:
    return PromptedCLIP(clip_model, make(clip_model, "MMRL", **{**SETTINGS, **settings}), classnames)


@torch.no_grad()
def logits(model: PromptedCLIP, images: torch.Tensor) -> list[torch.Tensor]:
    """As the model classifies, by the first feature alone, and by both."""
    several, class_features = model.all_features(images)
    first, second = (model.logits(one, class_features) for one in several)
    share = model.learner.config.share
    assert (first - second).abs().max() > 0.1
    return [model(images), first, share * first + (1 - share) * second]


SOME = [True, False, True, True, False]


@pytest.mark.parametrize(
    "fuses, learned, both",
    [
        *(("learned", None, [True] * 5), ("learned", SOME, SOME), ("learned", [False] * 5, [False] * 5)),
        *(("always", SOME, [True] * 5), ("never", SOME, [False] * 5), ("never", None, [False] * 5)),
    ],
)
def test_both_features_classify_where_the_setting_says_so(small_clip, images, classnames, fuses, learned, both):
    model = model_of(small_clip, classnames, fuses=fuses).eval()
    model.learned = None if learned is None else torch.tensor(learned)
    found, by_first, by_both = logits(model, images)
    torch.testing.assert_close(found, torch.where(torch.tensor(both), by_both, by_first), **TOLERANCE)


def test_other_classes_are_taken_for_those_of_the_training_until_the_model_is_told(small_clip, images, classnames):
    model = model_of(small_clip, classnames).eval()
    model.learned = torch.tensor(SOME)
    model.set_classes(classnames[:2])
    found, _, by_both = logits(model, images)
    torch.testing.assert_close(found, by_both, **TOLERANCE)


def test_training_takes_both_features_whatever_a_test_takes(small_clip, images, classnames):
    found, _, by_both = logits(model_of(small_clip, classnames, fuses="never").train(), images)
    torch.testing.assert_close(found, by_both, **TOLERANCE)


@pytest.mark.parametrize(
    "layers, message",
    [
        ((), "to one or more layers in order"),
        ((3, 2), "to one or more layers in order"),
        ((2, 2), "to one or more layers in order"),
        ((1, 2), "each item a whole number, 2 or more"),
        ((2, 4), "towers of this backbone have 3 layers"),
    ],
)
def test_layers_that_tokens_cannot_enter_are_refused(small_clip, layers, message):
    with pytest.raises(InputError, match=message):
        new_learner(small_clip, "MMRL", layers=layers)


def test_the_maps_of_a_tower_start_as_copies_of_one(small_clip):
    torch.manual_seed(0)
    learner = new_learner(small_clip, "MMRL", **SETTINGS)
    for maps in (learner.text_maps, learner.vision_maps):
        assert torch.equal(maps[0].weight, maps[1].weight) and torch.equal(maps[0].bias, maps[1].bias)


def test_a_summary_says_that_images_have_two_features(capsys):
    flags = ["--dataset-config-file", str(ROOT / "configs/datasets/digits.yaml"), "--backbone", "ViT-B/16"]
    for trainer in ("MMRL", "MMRLpp"):
        assert train.main(["--trainer", trainer, *flags, "--summary"]) == 0
        assert "an image has two features: classes of the training are tested by both" in capsys.readouterr().out
    assert train.main(["--trainer", "BMIP", *flags, "--summary"]) == 0
    assert "features" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "family, dataset, recipe",
    [
        *(("base2new", "eurosat", "vit_b16_eurosat"), ("base2new", "imagenet", "vit_b16_imagenet")),
        *(("few_shot", "eurosat", "vit_b16_few_shot_eurosat"), ("few_shot", "imagenet", "vit_b16_imagenet")),
        *(("few_shot", "image_folder", "vit_b16_few_shot"), ("cross_dataset", "imagenet", "vit_b16_cross_datasets")),
    ],
)
def test_a_data_set_has_a_recipe_of_its_own(family, dataset, recipe):
    assert recipe_for("MMRL", family, dataset, 16) == recipe


# ------------------------------------------------------------------------------------------------ whole runs

KEEP = ["TEST.SAVE_LOGITS", "True"]
STRONG = ["OPTIM.LR", "0.05", "OPTIM.WARMUP_EPOCH", "0"]
SKETCHES = ("--dataset-config-file", "configs/datasets/symbols_sketch.yaml")
SYMBOLS = ("--dataset-config-file", "configs/datasets/symbols.yaml")


def kept(run) -> np.ndarray:
    assert run.status == 0, run.errors
    return np.load(run.folder / "logits.npz")["logits"]


def by_setting(run_train, folder: Path, model: Path, classes: str, *flags: str) -> dict[str, np.ndarray]:
    """Logits of a test of a model on some classes by setting."""
    found = {}
    for fuses in ("learned", "always", "never"):
        options = [*KEEP, "DATASET.SUBSAMPLE_CLASSES", classes, "TRAINER.MMRL.FUSES", fuses]
        given = (*flags, "--eval-only", "--model-dir", str(model))
        run = run_train(*given, trainer="MMRL", folder=folder / f"{classes} {fuses}", options=options)
        found[fuses] = kept(run)
        assert (run.result["open_world"] is not None) is (classes == "all" and not flags)
    assert not np.allclose(found["always"], found["never"])
    return found


def test_classes_of_the_training_are_tested_by_both_features_and_others_by_the_first(run_train, tmp_path):
    trained = run_train(trainer="MMRL", options=[*STRONG, *KEEP])
    base, new, both = (by_setting(run_train, tmp_path, trained.folder, classes) for classes in ("base", "new", "all"))
    np.testing.assert_array_equal(base["learned"], base["always"])
    np.testing.assert_array_equal(base["learned"], kept(trained))
    np.testing.assert_array_equal(new["learned"], new["never"])
    assert_by_class(both)


def assert_by_class(found: dict[str, np.ndarray]) -> None:
    """Of ten classes the first five are those of the training."""
    np.testing.assert_array_equal(found["learned"][:, :5], found["always"][:, :5])
    np.testing.assert_array_equal(found["learned"][:, 5:], found["never"][:, 5:])


def test_other_images_of_the_same_classes_are_tested_by_the_first_feature(run_train, tmp_path):
    options = [*STRONG, *KEEP, "DATASET.SUBSAMPLE_CLASSES", "all"]
    trained = run_train(*SYMBOLS, trainer="MMRL", options=options)
    same = by_setting(run_train, tmp_path / "same", trained.folder, "all", *SYMBOLS)
    np.testing.assert_array_equal(same["learned"], same["always"])
    other = by_setting(run_train, tmp_path / "other", trained.folder, "all", *SKETCHES)
    np.testing.assert_array_equal(other["learned"], other["never"])


def test_without_a_record_of_the_training_base_classes_are_those_of_the_training(run_train, tmp_path):
    trained = run_train(trainer="MMRL", options=[*STRONG, *KEEP])
    for name in ("settings.yaml", "result.json"):
        (trained.folder / name).unlink()
    base, new, both = (by_setting(run_train, tmp_path, trained.folder, classes) for classes in ("base", "new", "all"))
    np.testing.assert_array_equal(base["learned"], base["always"])
    np.testing.assert_array_equal(new["learned"], new["never"])
    assert_by_class(both)


def test_a_test_of_all_classes_tells_the_accuracies_of_those_of_base_and_of_new_classes(run_train, tmp_path):
    trained = run_train(trainer="MMRLpp", options=STRONG)
    accuracy = {}
    for classes in ("base", "new", "all"):
        options = ["DATASET.SUBSAMPLE_CLASSES", classes]
        flags = ("--eval-only", "--model-dir", str(trained.folder))
        run = run_train(*flags, trainer="MMRLpp", folder=tmp_path / classes, options=options)
        accuracy[classes] = run.result["accuracy"]
    assert accuracy["base"] == trained.result["accuracy"]
    found = run.result["open_world"]
    assert (found["base"], found["new"]) == pytest.approx((accuracy["base"], accuracy["new"]))


def test_a_wrong_setting_is_refused_with_its_key(run_train):
    run = run_train(trainer="MMRL", options=["TRAINER.MMRL.FUSES", "base"])
    assert_refused(run, ["TRAINER.MMRL.FUSES is 'base'", "learned, always, never"])
