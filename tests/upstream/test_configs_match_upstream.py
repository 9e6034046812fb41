"""Every file that CoOp, MaPLe and PromptSRC publish for our methods has ours of its name, to the same effect.

Needs checkouts of KaiyangZhou/CoOp, muzairkhattak/multimodal-prompt-learning and muzairkhattak/PromptSRC, named by the
environment variables COOP_ROOT, MAPLE_ROOT and PROMPTSRC_ROOT.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_configs import CONFIGS, load

# Where a method's files are published first; later repositories carry copies, of which PromptSRC's of MaPLe's
# base-to-new file has other epochs.
PUBLISHED = {
    "COOP_ROOT": ("CoOp", "CoCoOp"),
    "MAPLE_ROOT": ("CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe"),
    "PROMPTSRC_ROOT": ("CoOp", "CoCoOp", "IVLP"),
}
FILES = [
    path
    for variable, methods in PUBLISHED.items()
    if os.environ.get(variable)
    for method in methods
    for path in sorted(Path(os.environ[variable]).glob(f"configs/trainers/{method}/*.yaml"))
]


@pytest.mark.parametrize("variable, methods", PUBLISHED.items(), ids=str)
def test_the_checkout_has_files_of_every_method(variable, methods):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    here = [path for path in FILES if path.is_relative_to(os.environ[variable])]
    assert {path.parent.name for path in here} == set(methods)


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join([path.parts[-5], *path.parts[-2:]]))
def test_ours_has_the_effect_of_theirs(path):
    method = path.parent.name
    # All keys, so that ours sets none that theirs leaves at its default.
    assert load(method, CONFIGS / "trainers" / method / path.name) == load(method, path)
