"""Learners and objectives of one's own are files that `--import` names; those of CONTRIBUTING.md work as printed."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from helpers.documents import blocks_of

from experiments import compare, evaluate_checkpoint, launch, pictures, reproduce
from experiments.tables import command
from trainers.prompting import recipes
from trainers.prompting.api import predict
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.declaration import Method, Recipes, Settings, setting
from trainers.prompting.errors import InputError
from trainers.prompting.methods import METHODS, OBJECTIVES, import_own
from trainers.prompting.objectives.objective import Objective, register_objective

ROOT = Path(__file__).parents[1]
FILES = {Path(block.file).name: block.code for block in blocks_of("docs/CONTRIBUTING.md") if block.file}
QUICK = ["OPTIM.MAX_EPOCH", "1"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The flags to import each of the document's files; what they declare is forgotten afterwards."""
    folder, before = tmp_path_factory.mktemp("own"), [*sys.path]
    for name, code in FILES.items():
        (folder / name).write_text(code)
    yield {Path(name).stem: ["--import", str(folder / name)] for name in FILES}
    sys.path[:] = before
    recipes.OWN_OBJECTIVES.discard("margin")
    OBJECTIVES.pop("margin", None)
    for name in ("OneWord", "MarginBMIP"):
        METHODS.pop(name, None)


@pytest.fixture
def quick(data_root):
    return ["--data", data_root, "--shots", "1"]


def shown_rows(text: str) -> dict[str, list[str]]:
    """The rows of the first printed table that has them, by their names."""
    cells = [re.split(r" [ *]+", line) for line in text.splitlines()]
    return {first: rest for first, *rest in reversed(cells) if rest}


def test_an_objective_of_ones_own_trains_bmips_prompts(own, run_train, tmp_path):
    plain = run_train(folder=tmp_path / "plain")
    options = ["TRAINER.OBJECTIVE", "margin"]
    same = run_train(*own["margin"], folder=tmp_path / "same", options=[*options, "TRAINER.MARGIN", "0"])
    other = run_train(*own["margin"], folder=tmp_path / "other", options=options)
    assert plain.losses() == same.losses() and len(plain.losses()) > 2
    assert plain.losses() != other.losses() and other.result["configuration"]["TRAINER"]["MARGIN"] == 0.2


def test_an_objective_of_ones_own_is_a_variant_with_folder_and_row(own, checkout, quick, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    both = ["digits", "1", "VPT VPT:margin", "--no-report", *quick, *own["margin"], *QUICK]
    assert compare.main(both) == 0
    rows = shown_rows(capfd.readouterr().out)
    assert {"VPT", "VPT, margin"} < rows.keys()
    folders = {path.parent.parent.name for path in checkout.glob("output/base2new/test_all/**/VPT/**/result.json")}
    assert folders == {"tiny", "tiny_margin"}
    # Other settings of it.
    tagged = [
        "digits",
        "1",
        "VPT:margin",
        "--no-report",
        *quick,
        *own["margin"],
        "--tag",
        "much",
        *QUICK,
        "TRAINER.MARGIN",
        "5",
    ]
    assert compare.main(tagged) == 0
    assert "VPT, margin, much" in shown_rows(capfd.readouterr().out)
    assert command.main([str(checkout / "output"), "--table", "open-world", *own["margin"]]) == 0
    settings = "OPTIM.MAX_EPOCH 1"
    names = {f"VPT, {settings}", f"VPT, margin, {settings}", f"VPT, margin, much, {settings}, TRAINER.MARGIN 5.0"}
    shown = capfd.readouterr().out
    assert names < shown_rows(shown).keys()
    printed = [line for line in shown.splitlines() if line.startswith("    python ")]
    assert printed and all(" ".join(own["margin"]) in line for line in printed)
    # One run of these is launched as such.
    assert launch.main(["open_world", "VPT:margin", "digits", "1", "--dry-run", *quick, *own["margin"], *QUICK]) == 0
    train, test = capfd.readouterr().out.splitlines()
    assert "--config-file configs/trainers/VPT/tiny_margin.yaml" in train and "/VPT/tiny_margin/seed1" in test


def test_a_file_may_be_named_from_home(own, monkeypatch, capsys):
    file = Path(own["margin"][1])
    monkeypatch.setenv("HOME", str(file.parent))
    words = ["open_world", "BMIP:margin", "digits", "1", "--dry-run"]
    assert launch.main([*words, "--import", f"~/{file.name}"]) == 0
    assert f"--import {file}" in capsys.readouterr().out
    assert launch.main(["open_world", "BMIP:margn", "digits", "1"]) == 2
    assert "An objective of yours needs --import" in capsys.readouterr().err


def test_the_runs_of_ones_own_are_planned_for_the_papers_tables(own, checkout, capsys):
    planned = ["open-world", "--datasets", "digits", "--seeds", "1", "--dry-run", "--methods", "BMIP:margin OneWord"]
    assert reproduce.main([*planned, *own["margin"], *own["one_word"], "--tag", "m", "TRAINER.MARGIN", "0.5"]) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert len(commands) == 4
    for words in commands:
        assert [words[place + 1] for place, word in enumerate(words) if word == "--import"] == [
            own[name][1] for name in ("margin", "one_word")
        ]
        assert words[words.index("TRAINER.MARGIN") + 1] == "0.5" and words[words.index("TRAINER.TAG") + 1] == "m"
    assert reproduce.main([*planned, *own["margin"], *own["one_word"], "TRAINER.MARGIN", "0.5"]) == 2
    assert "--tag NAME" in capsys.readouterr().err


OF_ONE = [name for name, objective in OBJECTIVES.items() if objective.only_for]


@pytest.mark.parametrize("objective", [*(name for name in OBJECTIVES if name not in OF_ONE), "margin"])
def test_prompts_of_ones_own_train_by_every_objective(own, run_train, tmp_path, objective):
    options = ["TRAINER.OBJECTIVE", objective, "TRAINER.PROMPTSRC.GPA_MEAN", "2"]
    config = ["--config-file", "configs/trainers/CoOp/tiny.yaml"]
    flags = *own["one_word"], *own["margin"], *config
    run = run_train(*flags, trainer="OneWord", folder=tmp_path / objective, options=options)
    assert run.status == 0, run.errors
    weights = torch.load(run.folder / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    assert weights["text_prompts.0"].shape[0] == 1 and run.result["accuracy"] > 0


def test_a_method_of_ones_own_needs_no_recipe_in_the_repository(own, checkout, quick, data_root, capfd):
    assert launch.main(["open_world", "OneWord", "digits", "1", *quick, *own["one_word"], *QUICK]) == 0
    (tested,) = checkout.glob("output/base2new/test_all/digits/shots_1/OneWord/tiny/seed1/result.json")
    before, shown = tested.stat().st_mtime_ns, capfd.readouterr().out
    accuracy = re.search(r"accuracy +([\d.]+)$", shown, re.M)[1]
    assert (
        compare.main(
            ["digits", "1", "OneWord OneWord:margin", "--no-report", *quick, *own["one_word"], *own["margin"], *QUICK]
        )
        == 0
    )
    rows = shown_rows(capfd.readouterr().out)
    assert accuracy in rows["OneWord"] and "OneWord, margin" in rows and tested.stat().st_mtime_ns == before
    assert command.main([str(checkout / "output"), "--table", "open-world", *own["one_word"]]) == 0
    assert re.search(rf"^OneWord, OPTIM.MAX_EPOCH 1 .*{accuracy}", capfd.readouterr().out, re.M)
    # Its trained prompts serve like those of the project's methods.
    run = checkout / "output/base2new/train_base/digits/shots_1/OneWord/tiny/seed1"
    image = str(Path(data_root) / "digits/images/two/0002.png")
    assert predict.main(["--checkpoint", str(run), *own["one_word"], image]) == 0
    evaluated = ["digits", "--trainer", "OneWord", "--model-dir", str(run), "--root", data_root, *own["one_word"]]
    recipe = ["--config-file", "configs/trainers/CoOp/tiny.yaml", "--output-dir", str(checkout / "evaluated")]
    assert evaluate_checkpoint.main([*evaluated, *recipe]) == 0
    assert pictures.main([str(run), "--output", str(checkout / "pictures"), *own["one_word"]]) == 0
    assert [*(checkout / "pictures").glob("*.png")]


def test_prompts_by_an_objective_can_have_a_name_of_their_own(own, checkout, quick, capfd):
    methods = "BMIP:margin MarginBMIP"
    assert (
        compare.main(["digits", "1", methods, "--no-report", *quick, *own["margin"], *own["margin_bmip"], *QUICK]) == 0
    )
    rows = shown_rows(capfd.readouterr().out)
    assert rows["MarginBMIP"][:4] == rows["BMIP, margin"][:4]
    assert list(checkout.glob("output/base2new/train_base/digits/shots_1/MarginBMIP/tiny/seed1/result.json"))


def test_prompts_of_ones_own_fit_as_a_classifier(own, data_root):
    import_own(own["one_word"][1])
    images = [f"{data_root}/digits/images/{name}/000{number}.png" for name, number in (("one", 1), ("two", 2))]
    classifier = PromptClassifier("OneWord", backbone="tiny", epochs=1, progress=False).fit(images, ["one", "two"])
    assert classifier.predict(images).shape == (2,)


def test_a_run_of_ones_own_method_asks_for_its_module(own, run_train, tmp_path, capsys, monkeypatch):
    options = ["TRAINER.OBJECTIVE", "margin"]
    run = run_train(*own["margin"], folder=tmp_path / "run", options=options)
    flags = *own["one_word"], "--config-file", "configs/trainers/CoOp/tiny.yaml"
    own_run = run_train(*flags, trainer="OneWord", folder=tmp_path / "own")
    monkeypatch.delitem(OBJECTIVES, "margin")
    for name in ("OneWord", "MarginBMIP"):
        monkeypatch.delitem(METHODS, name, raising=False)
    for folder, main in ((run.folder, pictures.main), (own_run.folder, predict.main)):
        words = [str(folder)] if main is pictures.main else ["--checkpoint", str(folder), "image.png"]
        assert main(words) == 2
        assert "--import" in capsys.readouterr().err


def refused(*parts: str, **attributes) -> None:
    with pytest.raises(InputError) as error:
        register_objective(type("Mine", (Objective,), {"__module__": "mine", **attributes}))
    assert not [part for part in ("Mine", *parts) if part not in str(error.value)], error.value


def test_an_objective_that_cannot_be_named_is_refused():
    refused("''", "letters")
    refused("'two words'", "letters", name="two words")
    refused("'addition'", "configs/variants/addition.yaml", name="addition")
    refused("'digits'", "configs/datasets/digits.yaml", name="digits")


def test_a_setting_of_an_objective_needs_a_complete_key():
    class MineSettings(Settings):
        pass

    config = dataclasses.make_dataclass(
        "MineSettings", [("margin", float, setting(0.2, "MARGIN", "margin"))], bases=(Settings,), frozen=True
    )
    refused("MineSettings.margin", "'MARGIN'", "TRAINER.MARGIN", "root=True", name="mine", Config=config)


def test_a_loss_without_its_logits_is_explained(own, run_train, tmp_path, monkeypatch):
    import_own(own["margin"][1])
    margin = OBJECTIVES["margin"]
    loss = margin.loss
    monkeypatch.setattr(margin, "loss", lambda *arguments: loss(*arguments).total)
    run = run_train(*own["margin"], options=["TRAINER.OBJECTIVE", "margin"])
    assert run.status == 2 and "'margin'" in run.errors and "return Loss(total, logits)" in run.errors


def test_a_method_of_ones_own_without_recipes_needs_a_file(own, monkeypatch, capsys):
    import_own(own["one_word"][1])
    without = dataclasses.replace(METHODS["OneWord"], recipes=Recipes("tiny"))
    monkeypatch.setitem(METHODS, "OneWord", without)
    assert launch.main(["open_world", "OneWord", "digits"]) == 2
    remedy = "name a YAML file of yours, as OneWord:FILE.yaml"
    assert f"configs/trainers/OneWord/tiny.yaml; {remedy}" in capsys.readouterr().err


def test_a_method_takes_recipes_of_methods_only():
    with pytest.raises(InputError, match="Mine has recipes='CoOpp', which is no method; name one of"):
        Method("Mine", node="MINE", config=Settings, learner=None, recipes="CoOpp")


def test_a_module_that_is_not_there_is_named_with_the_remedy(run_train, tmp_path, capsys):
    (tmp_path / "json.py").write_text("")
    for module, remedy in (
        ("no_such_module", "PYTHONPATH"),
        (str(tmp_path / "missing.py"), "no such file"),
        (str(tmp_path / "json.py"), "rename the file"),
    ):
        run = run_train("--import", module)
        assert run.status == 2 and module in run.errors and remedy in run.errors
        assert launch.main(["open_world", "BMIP", "digits", "--import", module]) == 2
        assert module in capsys.readouterr().err
