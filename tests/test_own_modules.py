"""Learners and objectives of one's own are files that `--import` names; those of CONTRIBUTING.md work as printed."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from experiments import compare, launch, reproduce
from experiments.tables import command
from trainers.prompting.methods import METHODS, OBJECTIVES

DOCUMENT = Path(__file__).parents[1] / "docs" / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory):
    """The document's files, on the path; what they declare is forgotten afterwards."""
    text = DOCUMENT.read_text()
    section = text[text.index("## From outside the repository") :]
    folder = tmp_path_factory.mktemp("own")
    names = re.findall(r"`(\w+\.py)`[^`]*```python", section)
    for name, code in zip(names, re.findall(r"```python\n(.*?)```", section, re.S)):
        (folder / name).write_text(code)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    OBJECTIVES.pop("margin", None)
    METHODS.pop("OneWord", None)


def test_an_objective_of_ones_own_trains_bmips_prompts(own_modules, run_train, tmp_path):
    import_it = "--import", "margin"
    plain = run_train(folder=tmp_path / "plain")
    same = run_train(
        *import_it, folder=tmp_path / "same", options=["TRAINER.OBJECTIVE", "margin", "TRAINER.MARGIN", "0"]
    )
    other = run_train(*import_it, folder=tmp_path / "other", options=["TRAINER.OBJECTIVE", "margin"])
    assert plain.losses() == same.losses() and len(plain.losses()) > 2
    assert plain.losses() != other.losses() and other.result["configuration"]["TRAINER"]["MARGIN"] == 0.2


@pytest.mark.parametrize("objective", [*OBJECTIVES, "margin"])
def test_prompts_of_ones_own_train_by_every_objective(own_modules, run_train, tmp_path, objective):
    options = ["TRAINER.OBJECTIVE", objective, "TRAINER.PROMPTSRC.GPA_MEAN", "2"]
    config = ["--config-file", "configs/trainers/BMIP/tiny.yaml"]
    flags = "--import", "one_word", "--import", "margin", *config
    run = run_train(*flags, trainer="OneWord", folder=tmp_path / objective, options=options)
    assert run.status == 0, run.errors
    weights = torch.load(run.folder / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    assert weights["text_prompts.0"].shape[0] == 1 and run.result["accuracy"] > 0


def test_a_trainer_of_ones_own_is_launched_compared_planned_and_tabulated(
    own_modules, checkout, data_root, monkeypatch, capfd
):
    monkeypatch.setenv("PYTHONPATH", str(Path(find_spec("one_word").origin).parent))
    recipe, import_it = "configs/trainers/BMIP/tiny.yaml", ["--import", "one_word", "--import", "margin"]
    quick = ["--data", data_root, "--shots", "1", *import_it, "OPTIM.MAX_EPOCH", "1", "TRAINER.OBJECTIVE", "margin"]
    assert launch.main(["open_world", "OneWord", "digits", "1", "--cfg", recipe, *quick]) == 0
    (tested,) = checkout.glob("output/base2new/test_all/digits/shots_1/OneWord/tiny/seed1/result.json")
    before, shown = tested.stat().st_mtime_ns, capfd.readouterr().out
    accuracy = re.search(r"accuracy +([\d.]+)$", shown, re.M)[1]
    assert compare.main(["digits", "1", f"OneWord:{recipe}", *quick]) == 0
    (row,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("OneWord, tiny")]
    assert accuracy in row and tested.stat().st_mtime_ns == before
    assert command.main([str(checkout / "output"), "--table", "open-world", *import_it]) == 0
    assert re.search(rf"^OneWord .*{accuracy}", capfd.readouterr().out, re.M)
    planned = ["open-world", "--datasets", "digits", "--methods", f"OneWord:{recipe}", "--seeds", "1", "--dry-run"]
    assert reproduce.main([*planned, *import_it]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3 and all("--import one_word --import margin" in line for line in lines[:2])


def test_a_trainer_of_ones_own_without_a_recipe_needs_a_file(own_modules, capsys):
    assert launch.main(["open_world", "OneWord", "digits", "--import", "one_word"]) == 2
    assert (
        "configs/trainers/OneWord/tiny.yaml; name a YAML file of yours, as OneWord:FILE.yaml"
        in capsys.readouterr().err
    )


def test_a_module_that_is_not_there_is_named_with_the_remedy(run_train, capsys):
    run = run_train("--import", "no_such_module")
    assert run.status == 2 and "no_such_module" in run.errors and "PYTHONPATH" in run.errors
    assert launch.main(["open_world", "BMIP", "digits", "--import", "no_such_module"]) == 2
    assert "no_such_module" in capsys.readouterr().err
