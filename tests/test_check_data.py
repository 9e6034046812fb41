"""The check of the data finds sound data usable, and names every fault with its file and what repairs it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from dataset_trees import FOLDERS, write_classes, write_tree
from PIL import Image
from test_datasets_registered import build, facts

from datasets.check import main
from datasets.table import ROWS


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    for name in FOLDERS:
        write_tree(root, name)
    return root


def copied(sound: Path, root: Path, name: str) -> Path:
    return shutil.copytree(sound / FOLDERS[name], root / FOLDERS[name])


def replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def lose_images(folder: Path) -> None:
    rows = [[f"River/gone_{number}.jpg", number % 2, ("River", "Lake")[number % 2]] for number in range(7)]
    split = {"train": rows[:2], "val": rows[2:], "test": rows[2:]}
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))


# Data set, what is done to it, and what the report must say.
FAULTS = {
    "Caltech101": (lambda f: shutil.rmtree(f / "101_ObjectCategories"), ["101_ObjectCategories", "not there"]),
    "OxfordPets": (lambda f: replace(f / "annotations/test.txt", " 1 1", " 1"), ["test.txt, line 1", "species"]),
    "FGVCAircraft": (lambda f: (f / "images/0000003.jpg").unlink(), ["1 image that is not there", "0000003.jpg"]),
    "EuroSAT": (lose_images, ["7 images that are not there", "gone_4.jpg and 2 more"]),
}


def test_sound_data_is_usable(sound, capsys):
    assert main(["--root", str(sound), "--deep"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(" usable ") == 15 == sum(row.published is not None for row in ROWS) and "fault" not in shown
    # A small tree is not the published data set, which is said, and no fault.
    published = "10 classes, 13500 training, 5400 validation and 8100 test images are published"
    assert "EuroSAT, remark: not the published sizes: 5 classes, " in shown and published in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("EuroSAT ")]
    assert row.endswith(" not as published")


def test_sizes_as_published_are_said_to_be_so_and_unpublished_ones_are_not(sound, tmp_path, monkeypatch, capsys):
    write_classes(tmp_path, "oak", "beech")
    rows = {row.name: row for row in ROWS}
    small = dataclasses.replace(rows["EuroSAT"], published=(5, 74, 30, 44))
    monkeypatch.setattr("datasets.check.ROWS", (small, rows["ImageFolder"]))
    assert main(["EuroSAT", "--root", str(sound)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].split("  ")[-1] == "as published" and "remark" not in shown
    assert main(["ImageFolder", "--root", str(tmp_path)]) == 0
    assert "published" not in capsys.readouterr().out


def test_every_fault_is_named_and_the_others_stay_usable(sound, tmp_path, capsys):
    for name, (spoil, _) in FAULTS.items():
        spoil(copied(sound, tmp_path, name))
    copied(sound, tmp_path, "SUN397")
    assert main([*FAULTS, "SUN397", "--root", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    for name, (_, words) in FAULTS.items():
        fault = next(line for line in shown.splitlines() if line.startswith(f"{name}, fault"))
        assert all(word in fault for word in words), fault
    assert shown.count(", fault:") == len(FAULTS) and shown.count(" usable ") == 1


def test_images_that_do_not_decode_are_named_only_when_looked_into(sound, tmp_path, capsys):
    folder = copied(sound, tmp_path, "DescribableTextures")
    broken = folder / "images" / "dotted" / "dotted_0002.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    assert main(["DescribableTextures", "--root", str(tmp_path)]) == 0
    assert main(["DescribableTextures", "--root", str(tmp_path), "--deep"]) == 1
    assert f"1 image cannot be read: {broken} (" in capsys.readouterr().out


def truncate(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])


# What is done to an image, and what the report must and must not say: an archive unpacked again repairs none of these.
BROKEN = {
    "cut off": (truncate, ["cut off or damaged: copy or download it again"]),
    "empty": (lambda path: path.write_bytes(b""), ["the file is empty); copy or download it again"]),
    "a page": (lambda path: path.write_text("<html>404</html>"), ["no image in a format", "replace it by the image"]),
    "32 bits": (lambda path: Image.new("F", (8, 8)).save(path, "TIFF"), ["32 bits per pixel", "convert it to 8"]),
    "large": (
        lambda path: Image.new("1", (10_000, 10_000)).save(path),
        ["more than 89478485 pixels); make it smaller"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_remedy_of_an_image_fits_its_fault(case, tmp_path, capsys):
    spoil, words = BROKEN[case]
    write_classes(tmp_path, "oak", "beech")
    spoil(tmp_path / "oak" / "03.png")
    assert main(["ImageFolder", "--root", str(tmp_path), "--deep"]) == 1
    (fault,) = [line for line in capsys.readouterr().out.splitlines() if "fault" in line]
    assert str(tmp_path / "oak" / "03.png") in fault and all(word in fault for word in words), fault
    assert "unpack" not in fault


def test_an_image_that_may_not_be_read_is_no_damaged_one(tmp_path, capsys, monkeypatch):
    write_classes(tmp_path, "oak", "beech")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Image, "open", refuse)
    assert main(["ImageFolder", "--root", str(tmp_path), "--deep"]) == 1
    shown = capsys.readouterr().out
    assert "20 images cannot be read" in shown and "(Permission denied)" in shown
    assert "and 15 more; check the permissions of the file" in shown


def test_only_what_is_asked_for_counts_built_in_data_included(sound, data_root, capsys):
    assert main(["EuroSAT", "--root", str(sound)]) == 0
    assert main(["Digits", "--root", data_root, "--deep"]) == 0
    assert "Digits" in (shown := capsys.readouterr().out) and "Food101" not in shown
    assert main(["EuroSAT", "Food101", "--root", data_root]) == 1


def test_a_name_that_two_classes_share_is_a_fault_and_on_imagenet_a_remark(sound, tmp_path, capsys):
    replace(copied(sound, tmp_path, "OxfordFlowers") / "cat_to_name.json", "sweet pea", "rose")
    assert main(["OxfordFlowers", "--root", str(tmp_path)]) == 1
    assert "labels 2 and 4 are 'rose' and 'rose'" in capsys.readouterr().out
    replace(copied(sound, tmp_path, "ImageNet") / "classnames.txt", "tench", "goldfish")
    assert main(["ImageNet", "--root", str(tmp_path)]) == 0
    assert "1 name belongs to more than one class: goldfish" in capsys.readouterr().out


def test_files_that_are_no_images_are_counted_and_named_and_no_part_of_the_data(sound, tmp_path, capsys):
    folder = copied(sound, tmp_path, "EuroSAT")
    for name in ("River/Thumbs.db", "River/\x1b[31mnotes.txt", "Forest/.DS_Store", "Forest/deeper/x.jpg"):
        (folder / "2750" / name).parent.mkdir(exist_ok=True)
        (folder / "2750" / name).write_bytes(b"no image")
    assert main(["EuroSAT", "--root", str(sound)]) == 0
    table, _, _ = capsys.readouterr().out.partition("\n\n")
    assert main(["EuroSAT", "--root", str(tmp_path), "--deep"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(table)
    assert (
        "4 entries of" in shown and "Forest/.DS_Store, Forest/deeper, River/?[31mnotes.txt, River/Thumbs.db" in shown
    )


def test_one_class_is_a_fault_and_three_have_no_new_ones_worth_a_test(tmp_path, capsys):
    for names, status, told in ((("cat",), 1, "it has one class"), (("cat", "dog", "cow"), 0, "four in all")):
        write_classes(tmp_path / str(status), *names)
        assert main(["image_folder", "--root", str(tmp_path / str(status))]) == status
        assert told in capsys.readouterr().out


def test_a_class_folder_without_images_is_named(sound, tmp_path, capsys):
    folder = copied(sound, tmp_path, "EuroSAT") / "2750" / "Empty"
    folder.mkdir()
    (folder / "Thumbs.db").touch()
    assert main(["EuroSAT", "--root", str(tmp_path)]) == 1
    assert f"{folder} has no images" in capsys.readouterr().out


def test_a_written_split_is_what_runs_read_wherever_the_folder_is_and_is_never_overwritten(tmp_path, capsys):
    write_classes(tmp_path / "here", "oak", "beech tree")
    derived = build("ImageFolder", tmp_path / "here", SEED=3, NUM_SHOTS=2)
    assert main(["ImageFolder", "--root", str(tmp_path / "here"), "--write-split"]) == 0
    assert f"remark: wrote {tmp_path / 'here' / 'split_zhou_ImageFolder.json'}" in capsys.readouterr().out
    (tmp_path / "here").rename(tmp_path / "there")
    path = tmp_path / "there" / "split_zhou_ImageFolder.json"
    assert {row[0].split("/")[0] for row in json.loads(path.read_text())["test"]} == {"oak", "beech tree"}
    write_classes(tmp_path / "there", "oak", images=12)  # two more, which no split has
    read = build("ImageFolder", tmp_path / "there", SEED=3, NUM_SHOTS=2)
    for part in ("train_x", "val", "test"):
        moved = [(path.replace("/here/", "/there/"), *rest) for path, *rest in facts(getattr(derived, part))]
        assert facts(getattr(read, part)) == moved
    before = path.read_bytes()
    assert main(["ImageFolder", "--root", str(tmp_path / "there"), "--write-split"]) == 1
    assert "is not overwritten" in capsys.readouterr().out and path.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="file names are no bytes here")
def test_a_written_split_has_file_names_of_any_bytes(tmp_path, capsys):
    write_classes(tmp_path, "oak", "beech")
    for path in list(tmp_path.rglob("*.png")):
        path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"\xe9.png"))
    derived = build("ImageFolder", tmp_path)
    assert main(["ImageFolder", "--root", str(tmp_path), "--write-split"]) == 0
    assert facts(build("ImageFolder", tmp_path).test) == facts(derived.test)


@pytest.mark.parametrize(
    "name, spoil, words",
    [
        ("FGVCAircraft", lambda folder: None, "FGVCAircraft has no split file"),
        ("EuroSAT", lambda folder: (folder / "split_zhou_EuroSAT.json").symlink_to("nowhere"), "there already"),
    ],
)
def test_a_split_that_would_not_be_read_or_replace_something_is_not_written(
    sound, tmp_path, name, spoil, words, capsys
):
    folder = copied(sound, tmp_path, name)
    spoil(folder)
    before = sorted(folder.rglob("*"))
    assert main([name, "--root", str(tmp_path), "--write-split"]) == 1
    shown = capsys.readouterr().out
    assert f"{name}, not written: " in shown and words in shown and " usable " in shown
    assert sorted(folder.rglob("*")) == before


def test_a_split_of_unusable_data_is_not_written(sound, tmp_path, capsys):
    folder = copied(sound, tmp_path, "OxfordPets")
    (folder / "images" / "pug_0.jpg").unlink()
    assert main(["OxfordPets", "--root", str(tmp_path), "--write-split"]) == 1
    assert "1 image that is not there" in capsys.readouterr().out
    assert not list(folder.glob("split*"))


def test_a_split_that_cannot_be_written_leaves_nothing(sound, tmp_path, monkeypatch, capsys):
    folder = copied(sound, tmp_path, "EuroSAT")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(["EuroSAT", "--root", str(tmp_path), "--write-split"]) == 1
    assert (
        f"EuroSAT, not written: {folder / 'split_zhou_EuroSAT.json'}: No space left on device. Free space"
        in capsys.readouterr().out
    )
    assert not list(folder.glob("split*"))


def test_splits_are_written_of_named_data_sets_alone(sound, capsys):
    with pytest.raises(SystemExit):
        main(["--root", str(sound), "--write-split"])
    assert "needs the names" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_root_that_may_not_be_read_is_a_fault(tmp_path, capsys):
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat").chmod(0)
    assert main(["EuroSAT", "--root", str(tmp_path)]) == 1
    (tmp_path / "eurosat").chmod(0o700)
    assert "ermission" in capsys.readouterr().out


def test_an_unknown_name_is_answered_by_the_nearest_one(capsys):
    with pytest.raises(SystemExit):
        main(["EuroSatt"])
    assert "'EuroSatt' in configs/datasets. Do you mean eurosat?" in capsys.readouterr().err


@pytest.mark.parametrize("root", ["", "/nowhere/at all"])
def test_a_root_that_is_not_there_is_told_in_one_line(root, capsys):
    assert main(["--root", root]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "--root" in captured.err and (root or "$DATA") in captured.err


def test_the_table_alone_is_written_where_no_terminal_is_and_names_ignore_case(sound, capsys):
    assert main(["EUROSAT", "oxfordpets", "--root", str(sound), "--deep"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "EuroSAT " in captured.out and "OxfordPets " in captured.out
