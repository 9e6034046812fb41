"""A learner, a trainer or an objective of one's own is a file that `--import` names; PLUGIN.md's work as printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from trainers.prompting.methods import METHODS, OBJECTIVES

DOCUMENT = Path(__file__).parents[1] / "docs" / "PLUGIN.md"


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory):
    """The document's files, on the path; what they declare is forgotten afterwards."""
    text = DOCUMENT.read_text()
    section = text[text.index("## A learner or objective of your own") :]
    folder = tmp_path_factory.mktemp("own")
    names = re.findall(r"`(\w+\.py)`[^`]*```python", section)
    for name, code in zip(names, re.findall(r"```python\n(.*?)```", section, re.S)):
        (folder / name).write_text(code)
    sys.path.insert(0, str(folder))
    yield {Path(name).stem for name in names}
    sys.path.remove(str(folder))
    OBJECTIVES.pop("margin", None)
    METHODS.pop("OneWord", None)


def test_the_document_shows_both(own_modules):
    assert own_modules == {"margin", "one_word"}


def test_an_objective_of_ones_own_trains_bmips_prompts(own_modules, run_train, tmp_path):
    import_it = "--import", "margin"
    plain = run_train(folder=tmp_path / "plain")
    same = run_train(
        *import_it, folder=tmp_path / "same", options=["TRAINER.OBJECTIVE", "margin", "TRAINER.MARGIN", "0"]
    )
    other = run_train(*import_it, folder=tmp_path / "other", options=["TRAINER.OBJECTIVE", "margin"])
    assert plain.losses() == same.losses() and len(plain.losses()) > 2
    assert plain.losses() != other.losses() and other.result["configuration"]["TRAINER"]["MARGIN"] == 0.2


@pytest.mark.parametrize("objective", ["cross_entropy", "self_regulation", "consistency", "margin"])
def test_prompts_of_ones_own_train_by_every_objective(own_modules, run_train, tmp_path, objective):
    options = ["TRAINER.OBJECTIVE", objective, "TRAINER.PROMPTSRC.GPA_MEAN", "2"]
    config = ["--config-file", "configs/trainers/BMIP/tiny.yaml"]
    flags = "--import", "one_word", "--import", "margin", *config
    run = run_train(*flags, trainer="OneWord", folder=tmp_path / objective, options=options)
    assert run.status == 0, run.errors
    weights = torch.load(run.folder / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    assert weights["text_prompts.0"].shape[0] == 1 and run.result["accuracy"] > 0


def test_a_module_that_is_not_there_is_named_with_the_remedy(run_train):
    run = run_train("--import", "no_such_module")
    assert run.status == 2 and "no_such_module" in run.errors and "PYTHONPATH" in run.errors
