"""The tables that conclude a launch: accuracies in per cent of its runs, from their records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from trainers.prompting.core.harmonic import harmonic_mean

from ..runs import Run
from .text import lay_out, mean_and_spread


def accuracies(runs: list[Run]) -> str:
    """By method; open-world: base and new images told apart among all classes, where that was tested."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        found.setdefault(run.method, {})[run.classes] = run.result()["accuracy"]
    rows = []
    for method, by_classes in found.items():
        base, new, *everything = (by_classes[name] for name in ("base", "new", "all") if name in by_classes)
        rows.append([method, *(f"{number:.2f}" for number in (base, new, harmonic_mean(base, new), *everything))])
    return lay_out(["method", "base", "new", "HM", "open-world"][: len(rows[0])], rows, right=True)


def one_column(header: str, method: str, numbers: Mapping[object, float], **texts: str) -> str:
    rows = [(name, f"{number:.2f}") for name, number in numbers.items()]
    return lay_out([header, method], [*rows, *texts.items()])


def open_world(runs: list[Run]) -> str:
    """The metrics of the test on all classes."""
    return one_column("", runs[-1].method, runs[-1].result()["open_world"])


def seeds(runs: list[Run]) -> str:
    """Of runs that differ in their seed, with mean and deviation: a population's, as in CoOp's parse_test_res.py."""
    found = {run.seed: run.result()["accuracy"] for run in runs}
    return one_column("seed", runs[0].method, found, mean=mean_and_spread([*found.values()], sign="+-"))


def ratios(runs: list[Run]) -> str:
    """By the share of base classes among those of a test."""
    found = {f"{run.options[-1]} %": run.result()["accuracy"] for run in runs if not run.trains}
    return one_column("base classes", runs[0].method, found)


def data_sets(runs: list[Run]) -> str:
    """Of runs on several data sets, and their mean."""
    found = {run.dataset: run.result()["accuracy"] for run in runs}
    return one_column("data set", runs[0].method, found, mean=f"{statistics.fmean(found.values()):.2f}")
