"""Each data set is read from the files it is published with; what is broken is named by file, line and remedy."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import SIZES, WNIDS, write_classes, write_image, write_lines, write_tree
from scipy.io import loadmat, savemat
from test_datasets_registered import build, facts

from trainers.prompting.errors import InputError

# By label.
NAMES = {
    "ImageNet": ["tench", "goldfish", "great white shark", "kit fox", "mixing bowl"],
    "Caltech101": ["face", "leopard", "ant", "ceiling_fan"],
    "OxfordPets": ["abyssinian", "american_bulldog", "beagle", "maine_coon", "pug"],
    "StanfordCars": ["2000 AM Hummer SUV", "2012 Acura RL", "2012 Ram C/V Cargo Van", "2007 BMW X5", "2012 FIAT 500"],
    "OxfordFlowers": ["pink primrose", "hard-leaved pocket orchid", "sweet pea", "moon orchid", "rose"],
    "Food101": ["apple_pie", "baklava", "beef_tartare", "tacos", "waffles"],
    "FGVCAircraft": ["707-320", "727-200", "F/A-18", "Model B200", "Tu-154"],
    "SUN397": ["abbey", "airplane_cabin", "indoor apse", "bar", "outdoor church"],
    "DescribableTextures": ["banded", "braided", "dotted", "woven", "zigzagged"],
    "EuroSAT": ["Annual Crop Land", "Forest", "Highway or Road", "River", "Sea or Lake"],
    "UCF101": ["Apply_Eye_Makeup", "Archery", "Handstand_Pushups", "Yo_Yo", "Tai_Chi"],
    "ImageNetSketch": ["goldfish", "great white shark", "kit fox"],
    "ImageNetA": ["goldfish", "great white shark", "kit fox"],
    "ImageNetR": ["goldfish", "great white shark", "kit fox"],
}
TEST_ONLY = ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"]
# By the size of a class: its images of train, val and test.
CUT_50_20_30 = {44: (22, 9, 13), 9: (4, 2, 3), 23: (12, 5, 6), 60: (30, 12, 18), 12: (6, 2, 4)}
CUT_80_20 = {44: (35, 9, 3), 9: (7, 2, 3), 23: (18, 5, 3), 60: (48, 12, 3), 12: (10, 2, 3)}


@pytest.mark.parametrize("name", NAMES)
def test_published_files_are_read_with_coops_names_and_left_as_they_were(name, tmp_path):
    write_tree(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    dataset = build(name, tmp_path, NUM_SHOTS=1)
    assert dataset.classnames == NAMES[name]
    for items in (dataset.train_x, dataset.val or [], dataset.test):
        for item in items:
            assert Path(item.impath).is_file() and item.classname == NAMES[name][item.label]
    assert sorted(tmp_path.rglob("*")) == before


def sizes(items) -> dict[int, int]:
    return dict(sorted(Counter(item.label for item in items).items()))


@pytest.mark.parametrize(
    "names, cut",
    [
        (("Food101", "DescribableTextures", "EuroSAT", "Caltech101", "OxfordFlowers"), CUT_50_20_30),
        (("OxfordPets", "StanfordCars", "SUN397", "UCF101"), CUT_80_20),
    ],
    ids=["class folders", "published training images"],
)
def test_classes_are_cut_as_in_coop(names, cut, tmp_path):
    for name in names:
        write_tree(tmp_path, name)
        dataset = build(name, tmp_path)
        counts = [sizes(items) for items in (dataset.train_x, dataset.val, dataset.test)]
        kept = SIZES[1:] if name == "Caltech101" else SIZES
        assert list(zip(*(count.values() for count in counts))) == [cut[size] for size in kept], name


@pytest.mark.parametrize("seed", [1, 2, -1])
def test_a_derived_split_is_drawn_class_by_class_from_one_seed_whatever_the_runs(tmp_path, seed):
    """The cut written out: labels in order of appearance, one shuffle each, the first fifth held out."""
    folder = write_tree(tmp_path, "OxfordPets")
    lines = [line.split(" ") for line in (folder / "annotations" / "trainval.txt").read_text().splitlines()]
    rng, train, val = random.Random(1), [], []
    for label in dict.fromkeys(int(line[1]) for line in lines):
        images = [line[0] for line in lines if int(line[1]) == label]
        rng.shuffle(images)
        held = round(len(images) * 0.2)
        val += images[:held]
        train += images[held:]
    dataset = build("OxfordPets", tmp_path, SEED=seed)
    for items, expected in ((dataset.train_x, train), (dataset.val, val)):
        assert [Path(item.impath).stem for item in items] == expected


def test_aircraft_splits_are_the_official_ones_whatever_the_seed(tmp_path):
    write_tree(tmp_path, "FGVCAircraft")
    one, two = (build("FGVCAircraft", tmp_path, SEED=seed) for seed in (1, 2))
    assert facts(one.train_x) == facts(two.train_x) and sizes(one.test) == dict(enumerate(SIZES))


def test_imagenets_validation_images_are_test_images_and_never_sampled(tmp_path):
    write_tree(tmp_path, "ImageNet")
    dataset = build("ImageNet", tmp_path, NUM_SHOTS=2, SUBSAMPLE_CLASSES="new")
    assert dataset.classnames == ["kit fox", "mixing bowl"]
    assert facts(dataset.val) == facts(dataset.test) and sizes(dataset.test) == {0: 4, 1: 4}
    assert sizes(dataset.train_x) == {0: 2, 1: 2}


@pytest.mark.parametrize("name", TEST_ONLY)
def test_variants_of_imagenet_are_tested_on_as_a_whole(name, tmp_path):
    write_tree(tmp_path, name)
    whole, asked = build(name, tmp_path), build(name, tmp_path, NUM_SHOTS=1, SUBSAMPLE_CLASSES="base")
    assert facts(asked.test) == facts(whole.test) and whole.val is None
    assert whole.num_classes == (1000 if name == "ImageNetV2" else 3)


def test_training_on_test_images_is_refused(run_train, tmp_path):
    write_tree(tmp_path / "data", "ImageNetA")
    outcome = run_train(options=("DATASET.NAME", "ImageNetA", "DATASET.ROOT", str(tmp_path / "data")))
    assert outcome.status == 2 and "ImageNetA" in outcome.errors and "--eval-only" in outcome.errors


@pytest.mark.parametrize(
    "name, file, line, text",
    [
        ("OxfordPets", "annotations/trainval.txt", 3, "beagle_0 3 1"),
        ("OxfordPets", "annotations/test.txt", 2, "pug_1 five 1 1"),
        ("FGVCAircraft", "images_variant_val.txt", 4, "1000003"),
        ("FGVCAircraft", "images_variant_test.txt", 1, "2000000 Concorde"),
        ("SUN397", "Training_01.txt", 5, "/x/unknown/sun_0.jpg"),
        ("UCF101", "ucfTrainTestlist/trainlist01.txt", 2, "v_Archery_000.avi 2"),
        ("UCF101", "ucfTrainTestlist/classInd.txt", 2, "Archery"),
        ("ImageNet", "classnames.txt", 1, "n03775546"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(name, file, line, text, tmp_path):
    folder = write_tree(tmp_path, name)
    lines = (folder / file).read_text().splitlines()
    lines[line - 1] = text
    write_lines(folder / file, lines)
    with pytest.raises(InputError) as error:
        build(name, tmp_path)
    assert all(part in str(error.value) for part in (str(folder / file), f"line {line}", text, "docs/DATASETS.md"))


@pytest.mark.parametrize(
    "name, file",
    [
        ("OxfordPets", "annotations/test.txt"),
        ("StanfordCars", "cars_test_annos_withlabels.mat"),
        ("OxfordFlowers", "imagelabels.mat"),
        ("OxfordFlowers", "cat_to_name.json"),
        ("ImageNetA", "classnames.txt"),
    ],
)
@pytest.mark.parametrize("fault", ["missing", "empty", "nonsense"])
def test_a_missing_or_spoilt_file_is_named(name, file, fault, tmp_path):
    folder = write_tree(tmp_path, name)
    path = folder / file
    path.unlink()
    if fault != "missing":
        path.write_bytes(b"" if fault == "empty" else b"\xff\xfe nonsense")
    with pytest.raises(InputError) as error:
        build(name, tmp_path)
    assert str(path) in str(error.value) and "download" in str(error.value).lower()


def without(folder: Path, *entries: str) -> None:
    """Take class folders, or all images in them, away."""
    for entry in entries:
        if entry.endswith("*"):
            for path in folder.glob(entry):
                path.unlink()
        else:
            shutil.rmtree(folder / entry)


FOUR_FLOWERS = json.dumps({"1": "a", "2": "b", "3": "c", "4": "d"})
V2 = "imagenetv2-matched-frequency-format-val"
BOTH = [f"images/{part}/{WNIDS[0]}" for part in ("train", "val")]


@pytest.mark.parametrize(
    "name, spoil, words",
    [
        ("ImageNet", lambda f: without(f, BOTH[1]), rf"images/val and classnames.txt .* differ in {WNIDS[0]}"),
        ("ImageNet", lambda f: without(f, *BOTH), rf"images/train and classnames.txt .* differ in {WNIDS[0]}"),
        ("ImageNetV2", lambda f: without(f, f"{V2}/998"), "differ in 998"),
        (
            "ImageNetV2",
            lambda f: without(f, f"{V2}/998/*"),
            "998 has no images; put those of this class into it, or move it elsewhere",
        ),
        ("ImageNetR", lambda f: write_lines(f / "classnames.txt", [f"{WNIDS[1]} x"]), f"{WNIDS[2]}, {WNIDS[3]}"),
        ("OxfordFlowers", lambda f: (f / "cat_to_name.json").write_text(FOUR_FLOWERS), "no name for class 5"),
        ("OxfordFlowers", lambda f: (f / "cat_to_name.json").write_text('["1"]'), "no name for class 1"),
        ("OxfordFlowers", lambda f: (f / "cat_to_name.json").write_text('{"1": 7}'), "no name for class 1"),
    ],
    ids=["in one part", "in both", "no folder", "no images", "no line", "no name", "names in a list", "a number"],
)
def test_a_class_that_is_not_whole_is_named_and_shifts_no_label(name, spoil, words, tmp_path):
    spoil(write_tree(tmp_path, name))
    with pytest.raises(InputError, match=words):
        build(name, tmp_path)


@pytest.mark.parametrize("label", [6, 0, -1, 2.5, 10**9])
@pytest.mark.parametrize("file", ["devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"])
def test_a_car_of_a_class_beyond_the_names_is_named(tmp_path, file, label):
    path = write_tree(tmp_path, "StanfordCars") / file
    rows = loadmat(str(path))["annotations"]
    rows[0, 3]["class"] = label
    savemat(path, {"annotations": rows})
    with pytest.raises(InputError, match=rf"{path}: annotation 4 .*from 1 to 5.*cars_meta\.mat"):
        build("StanfordCars", tmp_path)


def test_car_annotations_without_their_fields_are_named(tmp_path):
    path = write_tree(tmp_path, "StanfordCars") / "cars_test_annos_withlabels.mat"
    savemat(path, {"annotations": np.zeros((1, 3))})
    with pytest.raises(InputError, match=f"{path}: annotation 1"):
        build("StanfordCars", tmp_path)


def test_names_beyond_ascii_are_read_and_blank_lines_are_not(tmp_path):
    folder = write_tree(tmp_path, "FGVCAircraft")
    for file in ("variants.txt", *(f"images_variant_{part}.txt" for part in ("train", "val", "test"))):
        path = folder / file
        path.write_text(path.read_text().replace("Tu-154", "Ту-154") + "\n", encoding="utf-8")
    assert build("FGVCAircraft", tmp_path).classnames[-1] == "Ту-154"


def test_any_folder_of_class_folders_is_a_data_set_without_hidden_entries_and_stray_files(tmp_path):
    write_classes(tmp_path, "oak", "beech tree", ".cache")
    write_image(tmp_path / "oak" / ".thumbnail.png")
    (tmp_path / "readme.txt").touch()
    dataset = build("ImageFolder", tmp_path)
    assert dataset.classnames == ["beech tree", "oak"]
    assert [len(items) for items in (dataset.train_x, dataset.val, dataset.test)] == [10, 4, 6]


def test_class_folders_are_cut_in_order_of_sorted_files(tmp_path):
    write_classes(tmp_path, "beech", "oak")
    dataset = build("ImageFolder", tmp_path, SEED=4)
    rng = random.Random(1)
    for label in range(2):
        files = [f"{number:02d}.png" for number in range(10)]
        rng.shuffle(files)
        assert [Path(item.impath).name for item in dataset.train_x if item.label == label] == files[:5]


def test_a_folder_without_class_folders_is_named(tmp_path):
    with pytest.raises(InputError, match="no class folders"):
        build("ImageFolder", tmp_path)


@pytest.mark.parametrize("others", [("val",), ("test",), ("val", "test")], ids=" and ".join)
def test_folders_of_parts_are_the_splits(others, tmp_path):
    for number, part in enumerate(("train", *others), start=3):
        write_classes(tmp_path / part, "oak", "beech", images=number)
    dataset = build("ImageFolder", tmp_path, NUM_SHOTS=2)
    assert len(dataset.train_x) == 4
    assert {Path(item.impath).parents[1].name for item in dataset.test} == {others[-1]}
    assert {Path(item.impath).parents[1].name for item in dataset.val} == {others[0]}


def test_parts_with_different_classes_are_named(tmp_path):
    write_classes(tmp_path / "train", "oak", "beech")
    write_classes(tmp_path / "test", "oak", "birch")
    with pytest.raises(InputError, match="test and train must have the same classes, but differ in beech, birch"):
        build("ImageFolder", tmp_path)


def test_a_train_folder_alone_is_no_data_set(tmp_path):
    write_classes(tmp_path / "train", "oak", "beech")
    with pytest.raises(InputError, match="neither val nor test"):
        build("ImageFolder", tmp_path)


def spoil(paths) -> None:
    for path in map(Path, paths):
        path.write_bytes(path.read_bytes()[:40])


def test_broken_images_are_left_out_and_named_when_asked(tmp_path, capsys):
    write_classes(tmp_path, "oak", "beech")
    whole = build("ImageFolder", tmp_path)
    broken = {whole.train_x[0].impath, whole.test[0].impath}
    spoil(broken)
    kept = build("ImageFolder", tmp_path, SKIP_BROKEN=True)
    for before, after in ((whole.train_x, kept.train_x), (whole.val, kept.val), (whole.test, kept.test)):
        assert facts(after) == [fact for fact in facts(before) if fact[0] not in broken]
    shown = capsys.readouterr().out
    assert "Left out 2 images" in shown and all(path in shown for path in broken)
    assert facts(build("ImageFolder", tmp_path).train_x) == facts(whole.train_x)


def test_a_class_whose_training_images_are_all_broken_is_named(tmp_path):
    write_classes(tmp_path, "oak", "beech")
    spoil(item.impath for item in build("ImageFolder", tmp_path).train_x if item.classname == "oak")
    with pytest.raises(InputError, match="no training image of oak"):
        build("ImageFolder", tmp_path, SKIP_BROKEN=True)


def test_classes_with_fewer_images_than_shots_are_counted(tmp_path, capsys):
    write_tree(tmp_path, "FGVCAircraft")
    dataset = build("FGVCAircraft", tmp_path, NUM_SHOTS=16)
    assert sizes(dataset.train_x) == {0: 16, 1: 9, 2: 16, 3: 16, 4: 12}
    assert "Note: 2 classes have fewer than 16 training images" in capsys.readouterr().out
