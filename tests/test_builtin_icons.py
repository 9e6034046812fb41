"""`Icons` and its shifted sets, written with fewer pictures per class than the real ones to stay fast."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.builtin import icons
from datasets.builtin.drawing import PICTURE
from datasets.builtin.icon_fonts import EVALUATED, NAMING, PRETRAINING, Family
from datasets.table import ROWS, Row
from trainers.prompting.errors import InputError

VARIANTS = [row for row in ROWS if row.name.startswith("Icons")]
FAMILIES = {**EVALUATED, **PRETRAINING}


def needs(*families: Family) -> pytest.MarkDecorator:
    missing = sorted({family.package for family in families if not importlib.util.find_spec(family.package)})
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def drawn_by(row: Row) -> Family:
    return {**EVALUATED, **NAMING}[row.write.keywords["family"]]


needs_fonts = needs(EVALUATED["Phosphor"])  # whose package draws most sets, and names the classes

CLASSES = """
align left, align right, archive, arrow circle down, arrow circle left, arrow circle right, arrow circle up,
arrow down, arrow down left, arrow down right, arrow left, arrow right, arrow u down left, arrow u down right,
arrow u up left, arrow u up right, arrow up, arrow up left, arrow up right, arrows left right, battery charging,
battery empty, battery full, bell, bell slash, bluetooth, book, book bookmark, book open, bookmark, briefcase, bus,
calendar, calendar blank, calendar check, calendar plus, camera, car, cards, caret down, caret left, caret right,
caret up, chart line, check, check circle, check square, circle, circle half, clipboard, clipboard text, clock,
cloud, cloud arrow down, cloud arrow up, cloud check, cloud sun, code, cookie, credit card, database, dice one,
download, eye, eye closed, eye slash, fast forward, file, file arrow down, file arrow up, file minus, file plus,
file search, file text, fire, flag, flask, folder, folder minus, folder open, folder plus, hand, heart, house, image,
key, keyboard, layout, lightbulb, link, list, lock, lock open, microphone, microphone slash, minus, minus circle,
monitor, music note, note, pause, pause circle, pen, pencil, pencil circle, percent, person, phone, phone slash, play,
play circle, plus, plus circle, plus minus, power, printer, question, receipt, robot, share, shield, shield check,
shield plus, sign in, square, star, star half, stop, stop circle, sun, table, tag, thermometer, timer, train,
triangle, truck, upload, user, user circle, user minus, user plus, wrench
"""
# Number of classes, and a digest of the first class's first picture.
SETS = {
    "Icons": (143, "68aa70fbff7336c4"),
    "IconsRemix": (66, "8334a636ca4f03f5"),
    "IconsMaterial": (55, "91c25a0f2d61da21"),
    "IconsFluent": (71, "9413fe3b718353fb"),
    "IconsFontAwesome": (112, "838d1b4399fd49c0"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """Each set's folder by its registered name."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icons, "PER_CLASS", {"train": 2, "val": 1, "test": 1})
        for row in (row for row in VARIANTS if importlib.util.find_spec(drawn_by(row).package)):
            folders[row.name] = tmp_path_factory.mktemp(row.folder)
            row.write(folders[row.name], "split.json")
    return folders


def names(folder: Path) -> list[str]:
    """Class names by label."""
    rows = json.loads((folder / "split.json").read_text())["train"]
    return list(dict(sorted({label: name for _, label, name in rows}.items())).values())


def pixels(path: Path) -> str:
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("RGB", (PICTURE, PICTURE))
        return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()[:16]


@needs_fonts
def test_the_rule_picks_these_classes():
    assert icons.classes() == CLASSES.replace(",\n", ", ").strip().split(", ")


@needs_fonts
def test_halves_share_words():
    half = (len(icons.classes()) + 1) // 2
    base, new = icons.classes()[:half], icons.classes()[half:]
    words = {word for name in base for word in name.split()}
    assert sum(any(word in words for word in name.split()) for name in new) >= len(new) / 4


@needs_fonts
@pytest.mark.parametrize("name", [pytest.param(row.name, marks=needs(drawn_by(row))) for row in VARIANTS])
def test_classes_and_pictures_are_those_of_this_version_of_the_fonts(written, name):
    folder, found = written[name], names(written[name])
    first = f"{found[0].replace(' ', '_')}/000.png"
    assert (len(found), pixels(folder / "images" / first)) == SETS[name]


@needs_fonts
def test_shifted_sets_have_classes_of_icons_in_the_same_order(written):
    known = names(written["Icons"])
    for folder in written.values():
        found = names(folder)
        assert found == [name for name in known if name in found]
        splits = json.loads((folder / "split.json").read_text())
        assert {split: len(rows) / len(found) for split, rows in splits.items()} == {"train": 2, "val": 1, "test": 1}


@needs_fonts
def test_no_picture_occurs_twice(written):
    digests = [pixels(path) for folder in written.values() for path in (folder / "images").rglob("*.png")]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("family", "name", "concept"),
    [
        ("Phosphor", "calendar-check-bold", "calendar check"),
        ("Remix", "user-2-line", "user"),
        ("Remix", "number-1", "number 1"),
        ("Material", "check_circle_outline", "check circle"),
        ("Fluent", "ic-fluent-arrow-circle-down-20-filled", "arrow circle down"),
        ("MaterialDesign", "bell-outline", "bell"),
        ("MaterialDesign", "chart-line", "chart line"),
        ("FontAwesome", "arrow-alt-circle-down", "arrow alt circle down"),
        ("FontAwesome", "trash-alt", "trash"),
        ("Codicons", "circle-large-filled", "circle"),
        ("Elusive", "lock-alt", "lock"),
        ("Lucide", "icon-trash-2", "trash"),
        ("Bootstrap", "bell-slash-fill", "bell slash"),
        ("Ionicons", "ion-ios-bell-outline", "bell"),
        ("Eva", "eva-edit-2-outline", "edit"),
    ],
)
def test_a_concept_is_a_name_without_its_cut(family, name, concept):
    assert FAMILIES[family].concept(name) == concept


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^qtawesome is not installed.*pip install --no-deps qtawesome==1\.4\.2$"):
        VARIANTS[0].write(tmp_path, "split.json")
    assert not list(tmp_path.iterdir())


@needs_fonts
@pytest.mark.parametrize("change", [{"digest": "0" * 16}, {"files": (("phosphor-9.ttf", "phosphor-9.json"),)}])
def test_another_version_of_the_fonts_is_refused_before_anything_is_written(change, monkeypatch, tmp_path):
    monkeypatch.setitem(icons.EVALUATED, "Phosphor", replace(EVALUATED["Phosphor"], **change))
    with pytest.raises(InputError, match=r"are not those of qtawesome 1\.4\.2; run: pip install --no-deps qtawesome"):
        VARIANTS[0].write(tmp_path, "split.json")
    assert not list(tmp_path.iterdir())
