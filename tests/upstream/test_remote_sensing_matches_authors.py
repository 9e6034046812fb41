"""Data sets of remote sensing have the names, folders, split files and class names of BMIP's authors.

Needs a checkout of LAMDASZ-ML/BMIP, named by the environment variable BMIP_ROOT. Its loaders are there in compiled
form alone; the texts in them are looked for, and nothing is run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from test_remote_sensing import AUTHORS, FILES, NAMES, REMOTE

ROOT = Path(os.environ.get("BMIP_ROOT", ""))
pytestmark = pytest.mark.skipif(not os.environ.get("BMIP_ROOT"), reason="BMIP_ROOT names no checkout of BMIP")


@pytest.mark.parametrize("name", [name for name in FILES if name != "NaSCTG2"])
def test_the_yaml_file_has_the_authors_name_and_content(name):
    theirs = yaml.safe_load((ROOT / "configs" / "datasets" / f"{FILES[name]}.yaml").read_text())
    assert theirs == {"DATASET": {"NAME": name}}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_loader_has_folders_split_file_and_class_names(name):
    (compiled,) = (ROOT / "datasets" / "__pycache__").glob(f"{FILES[name]}.*.pyc")
    content, row = compiled.read_bytes(), REMOTE[name]
    changed = [text for folder, text in NAMES[name].items() if folder != text]
    expected = [row.folder, row.images, row.split_file, *changed]
    # Some of their names have capitals, which CLIP does not tell.
    assert not [text for text in expected if text.lower().encode() not in content.lower()]
