"""The benchmark runs the authors' own BMIP model, out of their repository, beside ours."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from helpers.upstream import root

from experiments.tools import benchmark


@pytest.mark.parametrize("work, precision", [("train", "fp32"), ("test", "fp16")])
def test_the_authors_model_launches_more_than_ours(work, precision, monkeypatch):
    monkeypatch.setenv(benchmark.CHECKOUT, str(root("BMIP")))
    task = benchmark.Task(work, "released", 5, 2, "ViT-B/16")
    found = []
    for model in (benchmark.OURS, benchmark.AUTHORS):
        # A process that has loaded the authors' packages serves nothing else.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(benchmark.count_launches, task, benchmark.Entry(model, precision)).result())
    ours, theirs = (counted["launches"] for counted in found)
    assert 0 < ours < theirs
