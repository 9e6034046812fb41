"""Sentences about classes come from the file that is asked for, or that is shipped; what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.runs import assert_refused

from datasets.builtin.glyphs import DIGITS, SYMBOLS
from trainers.prompting.core.class_tokens import tokenize_classes
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.errors import InputError
from trainers.prompting.objectives.descriptions import DESCRIPTIONS, describe, read_descriptions

NAMES = ["annual crop land", "sea_or_lake", "forest"]
SENTENCES = {
    "annual crop land": ["fields."],
    "sea or lake": ["water.", "waves."],
    "forest": ["trees."],
    "city": ["x."],
}


@pytest.fixture
def write(tmp_path):
    def to(content, name: str = "file.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to


def test_sentences_come_in_the_order_of_the_classes_whatever_the_underscores(write):
    expected = [["fields."], ["water.", "waves."], ["trees."]]
    assert read_descriptions(write(SENTENCES), NAMES) == expected
    other = {name.replace(" ", "_"): sentences for name, sentences in reversed(SENTENCES.items())}
    assert read_descriptions(write(other), [name.replace("_", " ") for name in NAMES]) == expected


def test_text_is_read_as_utf_8_whatever_the_system_prefers(write):
    assert read_descriptions(write('{"forest": ["arbres, très hauts."]}'), ["forest"]) == [["arbres, très hauts."]]


BAD_FILES = {
    "partial": ({"forest": ["trees."]}, ["no sentences for 2 of 3 classes", "annual crop land, sea_or_lake"]),
    "an empty list": ({**SENTENCES, "forest": []}, ["no sentences for 1 of 3 classes", "forest"]),
    "one sentence, no list": ({**SENTENCES, "forest": "trees."}, ["'forest' is not a list of sentences"]),
    "a blank sentence": ({**SENTENCES, "forest": ["trees.", " "]}, ["'forest' is not a list of sentences"]),
    "a list": ([["trees."]], ["no JSON object from class names to lists"]),
    "not JSON": ("forest: trees", ["not JSON"]),
    "a class twice": ('{"forest": ["a."], "forest": ["b."]}', ["'forest' more than once", "keep one"]),
    "a class in two spellings": (
        {**SENTENCES, "sea_or_lake": ["a."]},
        ["'sea_or_lake' more than once", "underscores count as spaces"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_what_is_wrong(write, case):
    content, words = BAD_FILES[case]
    path = write(content)
    with pytest.raises(InputError) as error:
        read_descriptions(path, ["forest"] if case == "a class twice" else NAMES)
    for word in (str(path), *words, "or name another file in TRAINER.CoPrompt.DESCRIPTIONS"):
        assert word in str(error.value)


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes('{"forest": ["très"]}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.json.*not JSON in UTF-8.*TRAINER\.CoPrompt\.DESCRIPTIONS"):
        read_descriptions(path, ["forest"])


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path):
    path = tmp_path / "marked.json"
    path.write_text('{"forest": ["trees."]}', encoding="utf-8-sig")
    assert read_descriptions(path, ["forest"]) == [["trees."]]


def test_a_class_that_no_model_learns_here_may_stand_in_a_file_twice(write):
    path = write('{"forest": ["trees."], "city": ["a."], "city": ["b."]}')
    assert read_descriptions(path, ["forest"]) == [["trees."]]


def test_of_many_classes_without_sentences_five_are_named_and_the_others_counted(write):
    names = [f"class {number}" for number in range(12)]
    with pytest.raises(InputError) as error:
        read_descriptions(write({"class 0": ["x."]}), names)
    message = str(error.value)
    assert "11 of 12 classes" in message and "class 1, class 2, class 3, class 4, class 5 and 6 more" in message
    assert "TRAINER.CoPrompt.DESCRIPTIONS" in message


# ------------------------------------------------------------------------------------------------ which file


@pytest.mark.parametrize("name", ["eurosat_prompt.json", "EuroSAT.json"])
def test_a_folder_has_the_file_of_a_data_set_by_its_published_name_or_its_own(write, capsys, name):
    path = write(SENTENCES, f"folder/{name}")
    assert describe("EuroSAT", str(path.parent), NAMES)[1] == ["water.", "waves."]
    assert f"Descriptions: {path}" in capsys.readouterr().out


def test_the_published_name_comes_first(write):
    write({**SENTENCES, "forest": ["published."]}, "folder/eurosat_prompt.json")
    path = write({**SENTENCES, "forest": ["own."]}, "folder/EuroSAT.json")
    assert describe("EuroSAT", str(path.parent), NAMES)[2] == ["published."]


def test_a_single_file_serves_any_data_set(write):
    assert describe("Food101", str(write(SENTENCES)), NAMES)[0] == ["fields."]


@pytest.mark.parametrize("place", ["nowhere", "nowhere.json", "."])
def test_a_place_without_a_file_is_an_error_that_names_what_was_looked_for(tmp_path, place):
    with pytest.raises(InputError) as error:
        describe("EuroSAT", str(tmp_path / place), NAMES)
    message = str(error.value)
    assert "TRAINER.CoPrompt.DESCRIPTIONS" in message and str(tmp_path) in message and "leave it empty" in message
    assert place.endswith(".json") or ("eurosat_prompt.json" in message and "EuroSAT.json" in message)


@pytest.mark.parametrize(
    "dataset, sentence",
    [("EuroSAT", "a centered satellite photo of sea or lake."), ("Mine", "a photo of a sea or lake.")],
)
def test_without_a_file_a_class_is_described_by_its_one_sentence_and_that_is_said(capsys, dataset, sentence):
    assert describe(dataset, "", NAMES)[1] == [sentence]
    output = capsys.readouterr().out
    assert f"no descriptions of {dataset}" in output and "alone" in output


# ------------------------------------------------------------------------------------------------ the shipped files

SHIPPED = {"Digits": DIGITS, "Symbols": SYMBOLS}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_descriptions_are_of_exactly_the_classes_and_fit_the_context(name):
    classnames = list(SHIPPED[name])
    content = json.loads((DESCRIPTIONS / f"{name}.json").read_text(encoding="utf-8"))
    assert sorted(content) == sorted(classname.replace("_", " ") for classname in classnames)
    context = load_clip("tiny").context_length
    for classname, sentences in zip(classnames, describe(name, "", classnames)):
        assert len(sentences) >= 2 and len(set(sentences)) == len(sentences)
        assert all(classname.replace("_", " ") in sentence for sentence in sentences)
        tokenize_classes(sentences, ("{}",), context)


def test_there_are_no_other_shipped_descriptions():
    assert {path.stem for path in DESCRIPTIONS.iterdir()} == set(SHIPPED)


# ------------------------------------------------------------------------------------------------ in a run


def options(path: Path) -> list[str]:
    return ["TRAINER.CoPrompt.DESCRIPTIONS", str(path), "TEST.NO_TEST", "True"]


BASE = ["zero", "one", "two", "three", "four"]


def test_a_run_uses_the_file_that_is_named_though_classes_have_different_numbers(run_train, tmp_path, write):
    path = write({name: [f"{name} {word}." for word in "abc"[: 1 + i % 3]] for i, name in enumerate(BASE)})
    shipped = run_train(trainer="CoPrompt", folder=tmp_path / "shipped", options=["TEST.NO_TEST", "True"])
    own = run_train(trainer="CoPrompt", folder=tmp_path / "own", options=options(path))
    assert own.status == 0 and f"Descriptions: {path}" in own.output
    assert "Encoding 9 descriptions of 5 classes" in own.output and own.losses() != shipped.losses()


@pytest.mark.parametrize(
    "content, words",
    [
        ({"zero": ["x."]}, ["4 of 5 classes", "one, two, three, four", "TRAINER.CoPrompt.DESCRIPTIONS"]),
        (
            {name: ["x.", "word " * 80] if name == "two" else ["x."] for name in BASE},
            ["A description of 'two' does not fit", "77 tokens", "shorten", "TRAINER.CoPrompt.DESCRIPTIONS"],
        ),
    ],
    ids=["partial", "too long"],
)
def test_a_run_with_a_bad_file_ends_in_one_line_before_the_first_step(run_train, write, content, words):
    run = run_train(trainer="CoPrompt", options=options(write(content)))
    assert_refused(run, words)
    assert "epoch [" not in run.output and len(run.errors) < 1000


@pytest.mark.parametrize("flags", [[], ["--no-train"]], ids=["train", "no train"])
@pytest.mark.parametrize("content", [None, "forest: trees"], ids=["no file", "not JSON"])
def test_a_file_that_cannot_be_read_is_refused_before_data_is_read(run_train, no_data, tmp_path, flags, content):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content)
    run = run_train(*flags, trainer="CoPrompt", options=options(path))
    assert_refused(run, ["mine.json", "TRAINER.CoPrompt.DESCRIPTIONS"])
    assert not (run.folder / "settings.yaml").exists()


def test_evaluation_needs_no_descriptions(run_train, tmp_path, write):
    path = write({name: ["x."] for name in BASE})
    run = run_train(trainer="CoPrompt", options=options(path))
    path.unlink()
    evaluate = ("--eval-only", "--model-dir", str(run.folder))
    again = run_train(*evaluate, trainer="CoPrompt", folder=tmp_path / "eval", options=options(path))
    assert again.status == 0, again.errors
