"""docs/API.md describes every parameter and method; test_documented_commands.py runs its examples."""

from __future__ import annotations

import re
from pathlib import Path

from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.declaration import CROSS_ENTROPY
from trainers.prompting.methods import METHODS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "API.md").read_text()


def test_every_parameter_and_method_is_described():
    described = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*", DOCUMENT, flags=re.MULTILINE))))
    assert set(PromptClassifier().get_params()) <= described
    assert {name for name in METHODS if METHODS[name].objective == CROSS_ENTROPY} <= set(re.findall(r"\w+", DOCUMENT))
