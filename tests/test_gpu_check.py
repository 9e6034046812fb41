"""`scripts/gpu_check.sh`, tried without a GPU: it tests, measures, prints and writes, and says what did not fit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from experiments.tools import benchmark, gpu_check
from scripts.tools.gpu_check import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def few_rows(monkeypatch) -> None:
    """Two rows of a CLIP small enough for a test, and no tests."""
    task = benchmark.Task("train", "paper", 3, 2, "tiny")
    rows = [benchmark.Entry(benchmark.OURS, graph=True), benchmark.Entry(benchmark.OURS)]
    plain = [benchmark.Entry(benchmark.PLAIN)]
    monkeypatch.setattr(benchmark, "gpu_cases", lambda backbone: [(task, rows), (task._replace(work="images"), plain)])
    monkeypatch.setattr(gpu_check, "test", lambda device, seconds: (0, f"CUDA tests: none in {seconds:.0f} s"))


def test_rows_are_measured_and_written_with_the_tests_outcome(few_rows, tmp_path, capsys):
    file = tmp_path / "new" / "check.json"
    assert main(["--device", "cpu", "--minutes", "5", "--repeats", "1", "--out", str(file)]) == 0
    content = json.loads(file.read_text())
    assert content["tests"] == "CUDA tests: none in 120 s"
    assert [record["model"] for record in content["records"]] == ["ours", "plain CLIP"]
    assert all(record["seconds"] > 0 for record in content["records"])
    printed = capsys.readouterr().out
    assert benchmark.shown(content) in printed and str(file) in printed


def test_rows_for_which_no_time_is_left_are_named(few_rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "LAST_ROW", 10**6)
    assert main(["--device", "cpu", "--out", str(tmp_path / "check.json")]) == 0
    assert capsys.readouterr().out.count(benchmark.NO_TIME) == 2


def fails(*_: object) -> None:
    raise RuntimeError("a kernel is missing")


def test_a_row_that_fails_has_a_remark_and_the_status(few_rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "_build", fails)
    assert main(["--device", "cpu", "--repeats", "1", "--out", str(tmp_path / "check.json")]) == 1
    printed = capsys.readouterr()
    assert printed.out.count("| failed") == printed.err.count("a kernel is missing") == 2


def test_a_test_that_fails_is_the_status(few_rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "test", lambda device, seconds: (1, "CUDA tests: 1 failed"))
    monkeypatch.setattr(benchmark, "gpu_cases", lambda backbone: [])
    assert main(["--device", "cpu", "--out", str(tmp_path / "check.json")]) == 1


def test_tests_that_take_too_long_are_stopped(capsys):
    status, line = gpu_check.test("cpu", 0.5)
    assert status == 1 and "stopped after 0 s" in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--wheels", "/nowhere"], "--wheels is /nowhere"),
        (["--minutes", "0"], "--minutes is 0"),
        (["--authors", "."], "--authors is ."),
        *([] if torch.cuda.is_available() else [([], "no CUDA device; --device cpu")]),
    ],
)
def test_wrong_options_end_in_a_message(arguments, message):
    command = ["bash", "scripts/gpu_check.sh", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and message in run.stderr and "Traceback" not in run.stderr
