"""The data sets of the protocols, by the names of their files in configs/datasets, as `datasets/table.py` has them."""

from __future__ import annotations

import functools

import yaml

from datasets.table import ROWS

from . import ROOT

FOLDER = "configs/datasets"


@functools.cache
def _config_names() -> dict[str, str]:
    paths = sorted((ROOT / FOLDER).glob("*.yaml"))
    return {(yaml.safe_load(path.read_text()).get("DATASET") or {}).get("NAME", ""): path.stem for path in paths}


def config_name(dataset: str) -> str | None:
    """The file in configs/datasets of a registered name, without its ending; None if there is none."""
    return _config_names().get(dataset)


def _domains(source: str) -> tuple[str, ...]:
    return tuple(config_name(row.name) for row in ROWS if row.domain_of == source)


BUILTIN = tuple(config_name(row.name) for row in ROWS if row.write)
# The data sets that models are tested on for domain generalization, by the one that they learned.
DOMAINS = {config_name(row.name): domains for row in ROWS if (domains := _domains(row.name))}
SOURCE_OF = {domain: source for source, domains in DOMAINS.items() for domain in domains}
# The data sets of the published tables: open world, base-to-new, and targets of models of ImageNet.
FIFTEEN = tuple(config_name(row.name) for row in ROWS if row.published)
ELEVEN = tuple(name for name in FIFTEEN if name not in SOURCE_OF)
TARGETS = tuple(name for name in ELEVEN if name not in DOMAINS)


def default_source(dataset: str) -> str:
    """The data set that models learn which are tested on another one, built-in or not."""
    return next(name for name in DOMAINS if (name in BUILTIN) == (dataset in BUILTIN))
