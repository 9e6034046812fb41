"""The tables that conclude a launch: accuracies in per cent of its runs, from their records."""

from __future__ import annotations

import statistics

from trainers.prompting.core.metrics import harmonic_mean

from ..runs import Run
from .text import lay_out, mean_and_spread


def accuracy(run: Run) -> float:
    return run.result()["accuracy"]


def accuracies(runs: list[Run]) -> str:
    """By method; open-world: base and new images told apart among all classes, where that was tested."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        found.setdefault(run.method, {})[run.classes] = accuracy(run)
    rows = []
    for method, by_classes in found.items():
        numbers = [by_classes["base"], by_classes["new"], harmonic_mean(by_classes["base"], by_classes["new"])]
        numbers += [by_classes["all"]] if "all" in by_classes else []
        rows.append([method, *(f"{number:.2f}" for number in numbers)])
    return lay_out(["method", "base", "new", "HM", *(["open-world"] if "all" in by_classes else [])], rows, right=True)


def open_world(runs: list[Run]) -> str:
    """The metrics of the test on all classes."""
    metrics = runs[-1].result()["open_world"]
    return lay_out(["", runs[-1].method], [(name, f"{value:.2f}") for name, value in metrics.items()])


def seeds(runs: list[Run]) -> str:
    """Of runs that differ in their seed, with mean and deviation: a population's, as in CoOp's parse_test_res.py."""
    found = {run.seed: accuracy(run) for run in runs}
    rows = [*((seed, f"{number:.2f}") for seed, number in found.items())]
    return lay_out(["seed", runs[0].method], [*rows, ("mean", mean_and_spread([*found.values()], sign="+-"))])


def ratios(runs: list[Run]) -> str:
    """By the share of base classes among those of a test."""
    rows = [(f"{run.options[-1]} %", f"{accuracy(run):.2f}") for run in runs if not run.trains]
    return lay_out(["base classes", runs[0].method], rows)


def data_sets(runs: list[Run]) -> str:
    """Of runs on several data sets, and their mean."""
    found = {run.dataset: accuracy(run) for run in runs}
    rows = [*((name, f"{number:.2f}") for name, number in found.items())]
    return lay_out(["data set", runs[0].method], [*rows, ("mean", f"{statistics.fmean(found.values()):.2f}")])
