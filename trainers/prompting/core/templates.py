"""The sentences of `templates.yaml`, with `{}` for a class name."""

from __future__ import annotations

from pathlib import Path

import yaml

_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
DEFAULT, BY_DATASET = _TABLES["default"], _TABLES["by_dataset"]
SELECTED, SIXTY = (tuple(_TABLES[name]) for name in ("selected", "sixty"))
EIGHTY = (*SIXTY, *_TABLES["others"])


def template_of(dataset: str) -> str:
    """The sentence of a data set's classes, by its registered name."""
    return BY_DATASET.get(dataset, DEFAULT)
