"""Records of strangers: a bad one is left out by name, and what they say is text wherever it is shown."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_tables import pair, write

from experiments import report
from experiments.store import collect
from experiments.tables import command

NEWLINE, ANSI, FORMULA = "cat\n\\input{/etc/passwd}", "\x1b[2J\x1b]0;owned\x07", '=HYPERLINK("x","y")'
SCRIPT = "\" onload=x '<script>alert(1)</script><img src=x onerror=alert(1)>"
IMAGE = "<img src=x onerror=alert(1)>"
NAMES = {"newline": NEWLINE, "ansi": ANSI, "bidi": "\u202egnp.exe", "bell": "\x07", "return": "a\rb"}


class Tags(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self):
        super().__init__()
        self.found, self.attributes, self.links = set(), set(), set()

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links |= {value for name, value in attributes if name == "href"}


def tables(folder: Path, capsys, style: str = "text") -> tuple[str, str]:
    assert command.main([str(folder), "--format", style]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def damaged(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


BAD = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "infinite": '{"accuracy": 1e999}',
    "a long number": '{"accuracy": ' + "9" * 10_000 + "}",
    "no JSON": "\x00\x01",
    "a list": "[1, 2]",
}
CHANGES = {
    "a path as recipe": {"recipe": "../../../x"},
    "an absolute recipe": {"recipe": "/tmp/x"},
    "a path as trainer": {"trainer": "../BMIP"},
    "a path as data set": {"dataset": "../../digits"},
    "a hidden recipe": {"recipe": ".x"},
    "half a character": {"method": "\ud800"},
    "an accuracy of 250": {"accuracy": 250.0},
    "a negative accuracy": {"accuracy": -1.0},
    "an open world of 250": {"open_world": dict.fromkeys(("base", "new", "HM", "accuracy", "openworld_auc"), 250.0)},
    "a name of 10,000 letters": {"method": "x" * 10_000},
    "a list as configuration": {"configuration": {"DATASET": [], "TRAINER": {}}},
    "deep configuration": {"configuration": {"TRAINER": json.loads('{"a":' * 400 + "1" + "}" * 400)}},
    "text as share": {"configuration": {"TRAINER": {}, "DATASET": {"USE_RATIO": True}}, "classes": "new"},
}


@pytest.mark.parametrize("name", [*BAD, *CHANGES])
def test_a_bad_record_is_left_out_by_name_and_the_others_are_shown(tmp_path, capsys, name):
    write(tmp_path, "good")
    if name in BAD:
        damaged(tmp_path / "bad" / "result.json", BAD[name])
    else:
        write(tmp_path, "bad", **{"seed": 2, **CHANGES[name]})
    found = collect(tmp_path)
    assert [record.path.parent.name for record in found.records] == ["good"]
    assert any("bad/result.json" in note for note in found.notes), found.notes
    printed, noted = tables(tmp_path, capsys)
    assert "50.00" in printed and "bad/result.json" in noted and "Traceback" not in noted


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "csv"])
@pytest.mark.parametrize("name", NAMES)
def test_no_control_character_of_a_record_reaches_a_table_or_the_terminal(tmp_path, capsys, name, style):
    pair(tmp_path, 80.0, 60.0, backbone=NAMES[name])
    for text in tables(tmp_path, capsys, style):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert not any(line.startswith("\\input") for line in text.splitlines())


def test_a_line_end_does_not_leave_a_comment_of_latex(tmp_path, capsys):
    write(tmp_path, "a", classes="new", trained_on={"dataset": "Digits", "classes": "base", "shots": 4, "seed": 1})
    write(tmp_path / "x\n\\input{evil}", "b", split="validation\n\\input{evil}")
    damaged(tmp_path / "y\n\\input{evil}" / "result.json", "{")
    printed, noted = tables(tmp_path, capsys, "latex")
    assert "\\input" in printed + noted
    assert not [line for line in (printed + noted).splitlines() if line.startswith("\\input")]


def test_csv_holds_no_formula(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0, method=FORMULA)
    printed, _ = tables(tmp_path, capsys, "csv")
    cells = [cell for row in csv.reader(io.StringIO(printed)) for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [
        cell for cell in cells if cell[:1] in ("=", "+", "@", "\t") or cell[:1] == "-" and not cell[1:2].isdigit()
    ]


def test_markdown_stays_a_table(tmp_path, capsys):
    pair(tmp_path, 80.0, 60.0, backbone="a | b <img src=x onerror=alert(1)>")
    printed, _ = tables(tmp_path, capsys, "markdown")
    assert "\\|" in printed and "<img" not in printed


def test_the_report_shows_names_that_look_like_mathematics_and_runs_with_many_options(tmp_path):
    classes = [
        {"name": name, "images": 2, "correct": 1} for name in ("$\\frac{", "$x^$", "<script>alert(1)</script>", ANSI)
    ]
    world = dict.fromkeys(("base", "new", "HM", "accuracy", "openworld_auc"), 50.0)
    options = {f"OPTIM_{number}": {"KEY_OF_MANY_LETTERS": "value"} for number in range(10)}
    common = {"classes": "all", "open_world": world, "per_class": classes, "backbone": SCRIPT, "dataset": IMAGE}
    common |= {"environment": dict.fromkeys(("code", "torch", "dassl", "device"), SCRIPT), "recipe": IMAGE}
    tmp_path = tmp_path / IMAGE
    tmp_path.mkdir()
    write(tmp_path, "other", split=IMAGE)
    gates = [
        {"tower": tower, "layer": 0, "mean": 0.5, "std": 0.1, "min": 0.2, "max": 0.8} for tower in ("text", "vision")
    ]
    configuration = {"TRAINER": {"BMIP": {}, IMAGE: IMAGE}, **options}
    write(tmp_path, "ours", trainer="BMIP", method="BMIP", gates=gates, configuration=configuration, **common)
    write(tmp_path, "plain", trainer="ZeroshotCLIP", method="ZeroshotCLIP", trained_on=None, **common)
    damaged(tmp_path / "<script>" / "result.json", "{")
    assert report.print_report(tmp_path, tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count(html.escape(SCRIPT)) >= 3 and "\x1b" not in page and "<svg " in page
    assert len(list((tmp_path / "page").iterdir())) >= 4
    tags = Tags()
    tags.feed(page)
    assert "table" in tags.found and not tags.found & {"script", "iframe", "object", "img", "foreignobject"}
    assert not [name for name in tags.attributes if name.startswith("on") or name == "src"]
    assert all(re.fullmatch(r"#(table\d+|summary|tables|figures|origin|figure\d+-\w+)", link) for link in tags.links)
