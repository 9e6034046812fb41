"""The examples of docs/API.md run as they stand, in their order, on the data and the run that it speaks of."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path

import pytest

from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.declaration import CROSS_ENTROPY
from trainers.prompting.methods import METHODS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import predict  # noqa: E402

DOCUMENT = (ROOT / "docs" / "API.md").read_text()
RUN = "output/base2new/train_base/digits/shots_16/BMIP/tiny/seed1"
COMMAND = "python scripts/predict.py "


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(run_train, data_root, tmp_path, monkeypatch):
    """A folder with the built-in digits, and a short run of train.py where the launcher puts it."""
    assert run_train(folder=tmp_path / RUN, options=["OPTIM.MAX_EPOCH", "20"]).status == 0
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits").symlink_to(Path(data_root) / "digits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("error::UserWarning")
def test_every_example_runs(workplace, capsys):
    python, commands = blocks("python"), [line for block in blocks("bash") for line in block.splitlines()]
    assert len(python) >= 7 and len(commands) >= 4
    for number, example in enumerate(python):
        exec(compile(example, f"docs/API.md, example {number + 1}", "exec"), {})
        assert number == 0 or capsys.readouterr().out, example
    for command in commands:
        assert command.startswith(COMMAND), command
        assert predict.main(shlex.split(command[len(COMMAND) :])) == 0, command
        printed = capsys.readouterr().out
        assert printed or "--output" in command
    with open("output/found.csv") as file:
        assert len(list(csv.DictReader(file))) % 2 == 0


def test_every_parameter_and_method_is_described():
    described = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*", DOCUMENT, flags=re.MULTILINE))))
    assert set(PromptClassifier().get_params()) <= described
    assert {name for name in METHODS if METHODS[name].objective == CROSS_ENTROPY} <= set(re.findall(r"\w+", DOCUMENT))
