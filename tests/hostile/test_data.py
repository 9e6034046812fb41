"""Split files, caches and lists of images from strangers are used or refused by name, fast and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path

import pytest
from dataset_trees import write_classes, write_image, write_lines, write_tree
from test_datasets_caches import datum, write_cache  # noqa: F401  (a fixture)
from test_datasets_registered import build

from hostile.payloads import memory_bombs
from trainers.prompting.errors import InputError

ROWS = [[f"River/{number}.jpg", 0, "River"] for number in range(6)] + [
    [f"Forest/{number}.jpg", 1, "Forest"] for number in range(6)
]


@pytest.fixture
def eurosat(tmp_path) -> Path:
    """EuroSAT with two classes and a split file."""
    folder = tmp_path / "eurosat"
    for path, _, _ in ROWS:
        write_image(folder / "2750" / path)
    write_split(folder, split())
    return folder


def split() -> dict[str, list]:
    """Two training images of each class, one for validation, three for tests."""
    parts = {"train": (0, 1), "val": (2,), "test": (3, 4, 5)}
    return {part: [list(ROWS[start + n]) for start in (0, 6) for n in found] for part, found in parts.items()}


def write_split(folder: Path, content: object) -> Path:
    path = folder / "split_zhou_EuroSAT.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_split_is_sound_as_it_is(eurosat):
    assert build("EuroSAT", eurosat.parent).classnames == ["River", "Forest"]


@pytest.mark.parametrize(
    "text, words",
    [
        (10**6 * "[", "nested"),
        ('{"train": ' + 10**5 * "[" + 10**5 * "]" + "}", "nested"),
        ('{"train": [[' + 10**5 * '{"a":' + "1" + 10**5 * "}" + ', 0, "x"]]}', "nested"),
        ('{"train": [["a.jpg", ' + 10**4 * "9" + ', "x"]]}', "no valid JSON|label"),
    ],
    ids=["10^6 lists", "balanced lists", "dicts", "a number of 10^4 digits"],
)
def test_a_split_file_that_asks_for_more_than_python_has_is_named(eurosat, text, words):
    write_split(eurosat, text)
    with pytest.raises(InputError, match=rf"split_zhou_EuroSAT\.json.*({words})"):
        build("EuroSAT", eurosat.parent)


@pytest.mark.parametrize(
    "label", [10**9, 10**30, -1, 1.5, 1.0, True, "1", None, [[1]], float("nan"), float("inf")], ids=repr
)
def test_a_label_that_is_no_number_of_a_class_is_named(eurosat, label):
    content = split()
    for rows in content.values():
        for row in rows:
            row[1] = label if row[1] == 1 else row[1]
    write_split(eurosat, content)
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json.*label"):
        build("EuroSAT", eurosat.parent)


@pytest.mark.parametrize(
    "name", ["", "  ", "two\nlines", "\x1b[31mred", "\x00", "\ud800", 5, None, ["Forest"]], ids=ascii
)
def test_a_class_name_that_is_no_words_is_named(eurosat, name):
    content = split()
    for rows in content.values():
        for row in rows:
            row[2] = name if row[1] == 1 else row[2]
    write_split(eurosat, content)
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json.*class name"):
        build("EuroSAT", eurosat.parent)


PATHS = ["../../secret.jpg", "River/../../../secret.jpg", "{root}/secret.jpg", "", "..", "River/../0.jpg", 5, "\ud800"]


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_an_image_path_that_leaves_the_folder_of_the_images_is_named(eurosat, part, path):
    write_image(eurosat.parent / "secret.jpg")
    content = split()
    # Not the first of its split, which is always looked for.
    content[part][1][0] = path.format(root=eurosat.parent) if isinstance(path, str) else path
    write_split(eurosat, content)
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json.*(is not below|image path)"):
        build("EuroSAT", eurosat.parent)


def test_a_path_that_a_published_list_names_outside_is_refused(tmp_path):
    path = write_tree(tmp_path, "FGVCAircraft") / "images_variant_test.txt"
    write_lines(path, ["../../secret 707-320", *path.read_text().splitlines()[1:]])
    with pytest.raises(InputError, match="fgvc_aircraft lists .*secret.jpg, which is not below"):
        build("FGVCAircraft", tmp_path)


@pytest.mark.parametrize("link", ["2750/River/1.jpg", "2750/River"])
def test_a_link_out_of_the_data_set_is_refused_where_a_split_file_lists_it(eurosat, link):
    target = eurosat.parent / "elsewhere"
    os.rename(eurosat / link, target)
    (eurosat / link).symlink_to(target)
    with pytest.raises(InputError, match=rf"split_zhou_EuroSAT\.json.*{link}.*link"):
        build("EuroSAT", eurosat.parent)


@pytest.mark.parametrize("link", [".", "2750"])
def test_the_data_sets_folder_and_folders_directly_in_it_may_be_links(eurosat, link):
    """CoOp's guide tells users to link data that they have elsewhere."""
    target = eurosat.parent / "elsewhere"
    os.rename(eurosat / link, target)
    (eurosat / link).symlink_to(target)
    assert build("EuroSAT", eurosat.parent).num_classes == 2


def test_links_within_the_data_set_are_followed(eurosat):
    os.rename(eurosat / "2750/River/1.jpg", eurosat / "1.jpg")
    (eurosat / "2750/River/1.jpg").symlink_to(eurosat / "1.jpg")
    assert build("EuroSAT", eurosat.parent).num_classes == 2


def test_a_test_image_that_is_also_a_training_image_is_named(eurosat):
    content = split()
    content["test"].append(content["train"][1])
    write_split(eurosat, content)
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json.*1 test images are also.*River/1\.jpg"):
        build("EuroSAT", eurosat.parent)
    content["test"][-1] = ["River/./1.jpg", 0, "River"]
    write_split(eurosat, content)
    with pytest.raises(InputError, match="1 test images are also"):
        build("EuroSAT", eurosat.parent)


@pytest.mark.parametrize("name", ["River", "river", "River_", " River"])
def test_two_classes_of_one_name_are_named(eurosat, name):
    content = split()
    for rows in content.values():
        for row in rows:
            row[2] = name if row[1] == 1 else row[2]
    write_split(eurosat, content)
    with pytest.raises(InputError, match=r"split_zhou_EuroSAT\.json.*labels 0 and 1.*River.*one name"):
        build("EuroSAT", eurosat.parent)


def test_class_folders_that_clip_reads_as_one_name_are_named(tmp_path):
    write_classes(tmp_path, "sea lion", "sea_lion")
    with pytest.raises(InputError, match="sea lion.*sea_lion.*one name") as error:
        build("ImageFolder", tmp_path)
    assert "split_zhou" not in str(error.value)  # of users' images there is none to download


@pytest.mark.parametrize("name", ["ImageNet", "ImageNetSketch"])
def test_imagenets_two_classes_of_one_name_are_published_so_and_stay(tmp_path, name):
    """CLIP's names of ImageNet have "missile" and "sunglasses" twice."""
    path = write_tree(tmp_path, name) / "classnames.txt"
    path.write_text(path.read_text().replace("kit fox", "goldfish"))
    assert build(name, tmp_path).classnames.count("goldfish") == 2


BOMBS = {
    **memory_bombs(),
    "a tuple in tuples as a key": b"})" + (b"2" + pickle.TUPLE2) * 60 + pickle.NONE + pickle.SETITEM + b".",
    "an integer of 2^31 bytes": pickle.PROTO + b"\x02" + pickle.LONG4 + b"\xff\xff\xff\x7f" + b"1.",
    "marks": pickle.MARK * 10**6 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_cache_that_asks_for_gigabytes_or_hours_is_named(eurosat, name):
    write_cache(eurosat, BOMBS[name])
    why = "numbers an object" if "memo" in name else ""
    with pytest.raises(InputError, match=rf"shot_2-seed_1\.pkl.*{why}.*move it elsewhere"):
        build("EuroSAT", eurosat.parent, NUM_SHOTS=2)


def nested(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("field", ["path", "label", "name"])
@pytest.mark.parametrize(
    "value", [nested(200), {"a": 1}, 1.5, True, 1.0, None, "../../secret.jpg"], ids=lambda value: str(value)[:20]
)
def test_a_record_of_a_cache_with_a_value_of_another_kind_is_named(eurosat, datum, field, value):  # noqa: F811
    path, label, name = str(eurosat / "2750" / "Forest/0.jpg"), 1, "Forest"
    fields = {"path": path, "label": label, "name": name, field: value}
    write_cache(eurosat, {"train": [datum(*fields.values())], "val": []})
    with pytest.raises(InputError, match=r"shot_2-seed_1\.pkl.*move it elsewhere"):
        build("EuroSAT", eurosat.parent, NUM_SHOTS=2)


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, doubled, or left out."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(damaged))
        change = rng.choice(("flip", "insert", "cut", "digit"))
        if change == "flip":
            damaged[place] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del damaged[place : place + rng.randint(1, 30)]
        else:
            damaged[place:place] = rng.choice((b"[", b"9" * 9, b'"', b"-", b".5", b"\\ud800", b"../"))
    return bytes(damaged)


def test_a_hundred_damaged_split_files_are_used_or_refused_by_name(eurosat):
    path, rng, refused = write_split(eurosat, split()), random.Random(1), 0
    sound = path.read_bytes()
    for _ in range(100):
        path.write_bytes(spoilt(sound, rng))
        try:
            build("EuroSAT", eurosat.parent)
        except InputError as error:
            refused += 1
            assert "eurosat" in str(error)
    assert 50 < refused < 100


def test_a_hundred_damaged_caches_are_used_or_refused_by_name(eurosat, datum):  # noqa: F811
    items = build("EuroSAT", eurosat.parent).train_x
    records = [datum(item.impath, item.label, item.classname) for item in items]
    path, rng, refused = write_cache(eurosat, {"train": records, "val": []}), random.Random(1), 0
    sound = path.read_bytes()
    for _ in range(100):
        path.write_bytes(spoilt(sound, rng))
        try:
            build("EuroSAT", eurosat.parent, NUM_SHOTS=2)
        except InputError as error:
            refused += 1
            assert path.name in str(error)
    assert refused > 50
