"""The comparison: what is done is not done again, what fails is named, and the table holds the runs' own numbers."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from minidassl.own.jobs import progress

import psutil
import pytest
import torch

from experiments import compare, runner, runs
from experiments.tables import comparison
from experiments.tables.text import fitted
from tests.helpers.runs import Finished
from trainers.prompting.core.harmonic import harmonic_mean
from trainers.records import read_result

REPOSITORY = Path(__file__).parents[1]

QUICK = ["OPTIM.MAX_EPOCH", "1"]


def run(data_root: str, *arguments: str, methods: str = "ZeroshotCLIP VPT", report: bool = False) -> int:
    flags = ["--data", data_root, "--shots", "1", *["--no-report"] * (not report)]
    return compare.main(["digits", "1", methods, *flags, *arguments, *QUICK])


def test_the_table_holds_the_runs_own_numbers_and_nothing_is_done_twice(checkout, data_root, capsys):
    assert run(data_root) == 0
    first = capsys.readouterr().out
    results = {path: path.stat().st_mtime for path in checkout.glob("output/**/result.json")}
    (tested,) = [path for path in results if "test_all" in str(path) and "VPT" in str(path)]
    found = read_result(tested.parent)
    plain = read_result(next(path for path in results if "ZeroshotCLIP" in str(path)).parent)
    line, differences = [line.replace("*", "").split() for line in first.splitlines() if line.startswith("VPT  ")]
    pairs = [(found["open_world"][name], plain["open_world"][name]) for name in ("base", "new", "HM", "accuracy")]
    assert line[1:6] == [*(f"{ours:.2f}" for ours, _ in pairs), "6,144"]
    assert differences[1:] == [f"{ours - theirs:+.2f}" for ours, theirs in pairs]
    assert len(results) == 3  # zero-shot CLIP is tested only
    assert run(data_root) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime for path in checkout.glob("output/**/result.json")} == results


def test_a_run_that_fails_is_named_and_the_others_go_on(checkout, data_root, capsys):
    assert run(data_root, "TRAINER.VPT.PROMPT_DEPTH_VISION", "5") == 1  # of four, which only the CLIP tells
    captured = capsys.readouterr()
    assert "missing" in captured.out and "ZeroshotCLIP  " in captured.out
    assert (
        "train_base/digits/shots_1/VPT/tiny/seed1 failed" in captured.err
        and "TRAINER.VPT.PROMPT_DEPTH_VISION is 5" in captured.err
    )


def test_a_result_of_other_settings_is_not_shown_for_these(checkout, data_root, capsys):
    assert run(data_root, methods="VPT") == 0
    assert run(data_root, "OPTIM.LR", "0.5", methods="VPT") == 2
    assert re.search("OPTIM.LR was .* and is now 0.5", capsys.readouterr().err)


def test_a_model_that_was_trained_again_is_tested_again(checkout, data_root, capsys):
    assert run(data_root, methods="VPT") == 0
    (trained,) = checkout.glob("output/base2new/train_base/**/result.json")
    (tested,) = checkout.glob("output/base2new/test_all/**/result.json")
    before = tested.stat().st_mtime_ns
    record = json.loads(trained.read_text())
    trained.write_text(json.dumps({**record, "weights_hash": "another"}))
    assert run(data_root, methods="VPT") == 0
    assert tested.stat().st_mtime_ns > before


def _can_use_cuda(file: str) -> None:
    Path(file).write_text(str(not torch.cuda._is_in_bad_fork()))


def test_the_process_of_a_run_can_use_cuda(tmp_path):
    # PyTorch refuses CUDA in a process that was forked after it was asked for devices, be there some or not.
    process = runner.process_context().Process(target=_can_use_cuda, args=(str(tmp_path / "answer"),))
    process.start()
    process.join()
    assert (tmp_path / "answer").read_text() == "True"


@pytest.fixture
def lines_of(checkout, monkeypatch):
    """Makes lines of base and new accuracies by method and seed, as records have them."""
    accuracies: dict[str, dict[int, tuple[float, float]]] = {}

    def result(folder):
        name = next(name for name in accuracies if f"/{name}/" in str(folder))
        base, new = accuracies[name][int(str(folder)[-1])]
        open_world = {"base": base, "new": new, "HM": harmonic_mean(base, new), "accuracy": 1.0}
        return {"open_world": open_world, "parameters": 7, "train_seconds": 1.0, "peak_memory_bytes": 2**30}

    def make(**numbers: dict[int, tuple[float, float]]) -> list[comparison.Line]:
        accuracies.update(numbers)
        plans = {
            name: [compare.plan(runs.Request("open_world", name, "digits", seed)) for seed in by_seed]
            for name, by_seed in numbers.items()
        }
        return [comparison.Line.of(name, several) for name, several in plans.items()]

    monkeypatch.setattr(comparison, "read_result", result)
    return make


def conclude(lines: list[comparison.Line], width: int = 80) -> str:
    return comparison.conclusion(lines, "ZeroshotCLIP", width)


def test_the_harmonic_mean_is_that_of_the_averages(lines_of):
    (line,) = lines_of(BMIP={1: (90.0, 30.0), 2: (50.0, 50.0)})
    assert line.cells()[1:5] == ["70.00 ± 20.00", "40.00 ± 10.00", "50.91 ± 2.50", "1.00 ± 0.00"]


def test_zero_shot_clip_comes_first_and_the_best_of_each_column_is_marked(lines_of):
    lines = lines_of(BMIP={1: (60.0, 45.0)}, ZeroshotCLIP={1: (50.0, 50.0)}, VPT={1: (60.0, 40.0)})
    table, differences, *_ = conclude(lines).split("\n\n")
    header, rule, plain, second_rule, bmip, vpt, legend = table.splitlines()
    assert rule == second_rule and set(rule) == {"-", " "} and legend.startswith("* best")
    assert plain.split()[:5] == ["ZeroshotCLIP", "50.00", "*50.00", "50.00", "*1.00"]
    assert bmip.split()[:5] == ["BMIP", "*60.00", "45.00", "*51.43", "*1.00"]
    assert vpt.split()[:3] == ["VPT", "*60.00", "40.00"]
    heading, _, _, first, second = differences.splitlines()
    assert heading.startswith("difference from zero-shot CLIP")
    assert first.split() == ["BMIP", "+10.00", "-5.00", "+1.43", "+0.00"] and second.split()[0] == "VPT"
    assert max(map(len, conclude(lines).splitlines())) <= 80


def test_a_single_method_has_neither_marks_nor_differences(lines_of):
    text = conclude(lines_of(BMIP={1: (60.0, 45.0)}))
    assert len(text.splitlines()) == 3 and "*" not in text and "difference" not in text


def test_a_comparison_in_narrow_terminals_keeps_the_rule_under_zero_shot_clip(lines_of):
    seeds = {1: (90.0, 30.0), 2: (50.0, 50.0)}
    text = conclude(lines_of(ZeroshotCLIP=seeds, CoPrompt_BMIP=seeds), 60)
    assert max(map(len, text.splitlines())) <= 60
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("ZeroshotCLIP"))
    assert lines[first + 1] == lines[first - 1]


def test_a_method_below_zero_shot_clip_has_a_line_that_says_what_it_learned(lines_of):
    halves = {"ZeroshotCLIP": (50.0, 50.0), "BMIP": (60.0, 40.0), "MaPLe": (55.0, 50.0), "VPT": (40.0, 40.0)}
    lines = lines_of(**{name: {1: numbers} for name, numbers in halves.items()})
    bmip, vpt = comparison.losses(lines[0], lines[1:])
    assert (
        bmip.startswith("BMIP is below") and "+10.0 points on base and -10.0 on new" in bmip and "not for new" in bmip
    )
    assert vpt.startswith("VPT is below") and vpt.endswith("nothing was gained.")
    assert bmip in " ".join(conclude(lines).split("\n"))
    lines = lines_of(**{name: {1: numbers} for name, numbers in {**halves, "MaPLe": (60.0, 40.0)}.items()})
    both, _ = comparison.losses(lines[0], lines[1:])
    assert (
        both
        == "BMIP and MaPLe are below zero-shot CLIP in HM: they learned their base classes, but not for new names."
    )
    assert [*comparison.losses(None, lines)] == []


def test_the_comparison_ends_with_what_it_shows_and_a_page_of_its_methods(checkout, data_root, capsys):
    assert run(data_root, "--tag", "other", methods="IVLP") == 0
    assert not (checkout / "output" / "report.html").exists()
    capsys.readouterr()
    assert run(data_root, report=True) == 0
    output = capsys.readouterr().out
    page = checkout / "output" / "report.html"
    text = " ".join(output.split())
    assert "HM: harmonic mean" in text and "reproduce no published number" in text and "docs/DATASETS.md" in text
    assert str(page) in output.splitlines()[-1] and "Loading CLIP" not in output
    assert max(map(len, output.splitlines()[:-2])) <= 80
    shown = page.read_text()
    assert "VPT" in shown and "IVLP" not in shown


def test_a_page_that_cannot_be_written_is_named_before_the_first_run(checkout, data_root, capsys):
    (checkout / "output" / "report.html").mkdir(parents=True)
    assert run(data_root, report=True) == 2
    assert "report.html" in capsys.readouterr().err
    assert not list(checkout.glob("output/**/result.json"))


def test_the_report_looks_into_bmip_and_the_best_others(lines_of):
    accuracies = {"ZeroshotCLIP": 90.0, "CoOp": 50.0, "VPT": 60.0, "MaPLe": 70.0, "BMIP": 40.0}
    lines = lines_of(**{name: {1: (number, number)} for name, number in accuracies.items()})
    plain = replace(lines[0], parameters=0)
    assert compare.worth_a_look([plain, *lines[1:]]) == ["BMIP", "MaPLe", "VPT"]


def test_a_table_that_is_wider_than_the_terminal_is_printed_in_parts():
    row = ["LanguagePrompting", *["84.32 ± 3.14"] * 4, "25,344", "14", "0.61"]
    lines = fitted(["method", *comparison.COLUMNS], [row], 80, right=True).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[1:] for line in lines if line.startswith("method")] == [
        ["base", "new", "HM", "open-world"],
        ["parameters", "train", "s", "peak", "GiB"],
    ]


def test_a_run_ends_with_a_comparison_that_is_killed(tmp_path, data_root):
    # A copy, because scripts write below the folder in which they really are.
    copy = tmp_path / "copy"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(".*", "output", "docs", "tests"))
    script = [sys.executable, str(copy / "scripts/compare.py"), "digits", "1", "VPT", "--data", data_root]
    script += ["OPTIM.MAX_EPOCH", "200"]
    folder = copy / "output/base2new/train_base/digits/shots_16/VPT/tiny/seed1/prompt_learner"

    def newest() -> int:
        return max((int(path.name.rpartition("-")[2]) for path in folder.glob("model.pth.tar-*[0-9]")), default=0)

    def wait_for(condition) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    parent = subprocess.Popen(script, cwd=copy, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: newest() >= 2)
    finally:
        parent.kill()
        parent.wait()
    time.sleep(1)
    reached = newest()
    time.sleep(2)
    assert newest() == reached < 200  # nobody trains any more


@pytest.fixture
def bars(monkeypatch) -> list[list]:
    """Total and number at the end of each progress bar."""
    found = []

    class Bar(progress.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"disable": False, "file": io.StringIO()})

        def close(self):
            if not self.disable:  # again when it is deleted
                found.append([self.total, self.n])
            self.disable = True

    monkeypatch.setattr(progress, "tqdm", Bar)
    return found


def test_the_progress_is_that_of_the_missing_runs(checkout, data_root, monkeypatch, bars):
    monkeypatch.setattr(runner, "start_work", lambda *_: Finished())
    assert run(data_root) == 0
    assert bars == [[3, 3]]
    monkeypatch.setattr(runner, "is_done", lambda run, *_: run.trains)
    assert run(data_root) == 0
    assert bars == [[3, 3], [2, 2]]
    monkeypatch.setattr(runner, "is_done", lambda *_: True)
    assert run(data_root) == 0
    assert len(bars) == 2


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def test_an_interrupt_while_libraries_load_is_told_in_one_line(checkout, data_root):
    code = "import sys; from pathlib import Path; from experiments import compare, runs; runs.ROOT = Path.cwd(); "
    code += "sys.exit(compare.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "digits", "1", "VPT", "--data", data_root, "OPTIM.MAX_EPOCH", "200"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, start_new_session=True, **pipes) as parent:
        try:
            while not any("forkserver" in command_line(child) for child in psutil.Process(parent.pid).children()):
                assert parent.poll() is None
                time.sleep(0.05)
            time.sleep(0.5)
            os.killpg(parent.pid, signal.SIGINT)
            _, errors = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert parent.returncode == 130
    assert errors.strip() == "Interrupted; the same command goes on from what is done."
