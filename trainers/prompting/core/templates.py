"""The sentences of `templates.yaml`, with `{}` for a class name."""

from __future__ import annotations

from pathlib import Path

import yaml

_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
DEFAULT, BY_DATASET, NAME_LAST = (_TABLES[name] for name in ("default", "by_dataset", "name_last"))
SELECTED, SIXTY = (tuple(_TABLES[name]) for name in ("selected", "sixty"))
EIGHTY = (*SIXTY, *_TABLES["others"])


def template_of(dataset: str) -> str:
    """The sentence of a data set's classes, by its registered name."""
    return BY_DATASET.get(dataset, DEFAULT)


def template_with_name_last(dataset: str) -> str:
    """A sentence of a data set's classes that ends in " {}.", by its registered name."""
    return NAME_LAST.get(dataset) or template_of(dataset)
