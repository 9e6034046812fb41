"""The reproduction plans every run of every table, none twice, and ends in the tables."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import train
from experiments import compare, reproduce, runs
from experiments.data import BUILTIN
from experiments.methods import METHODS
from experiments.store import Selection
from trainers.prompting.recipes import is_readable

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty_root(tmp_path, monkeypatch):
    """Nothing is done yet, and nothing is written into the repository."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DATA", raising=False)


def listed(capsys, *arguments: str) -> tuple[list, str]:
    """Parsed commands of a dry run, and its last line."""
    assert reproduce.main([*arguments, "--dry-run"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return [train.parse_args(line.split()[2:]) for line in lines], last


@pytest.mark.parametrize("table", ["all", "embedded"])
def test_no_run_is_planned_twice_and_all_files_are_there(capsys, table):
    runs, last = listed(capsys, table)
    assert max(Counter(run.output_dir for run in runs).values()) == 1
    for run in runs:
        assert is_readable(run.config_file) and Path(run.dataset_config_file).is_file()
        assert not run.model_dir or run.model_dir in {other.output_dir for other in runs}
    assert last.startswith(f"{len(runs)} of {len(runs)} runs are missing")
    if table == "embedded":
        assert {Path(run.dataset_config_file).stem for run in runs} <= set(BUILTIN)
        assert re.search(r"about (\d\d CPU minutes|2 CPU hours) on one core$", last) and "GPU" not in last


def test_the_open_world_table_has_every_method_seed_and_benchmark_the_variants_with_imagenets_model(capsys):
    runs, last = listed(capsys, "open-world")
    trained = {(run.trainer, run.config_file, run.dataset_config_file, run.seed) for run in runs if not run.eval_only}
    learning = [name for name, method in METHODS.items() if method.learns]
    assert len(trained) == len(learning) * 11 * 3
    tested = [run for run in runs if run.eval_only]
    assert len(tested) == len(METHODS) * 15 * 3 and all(run.opts[-1] == "all" for run in tested)
    variants = [run for run in tested if "imagenetv2" in run.dataset_config_file and run.trainer == "BMIP"]
    assert {run.model_dir.split("/")[3] for run in variants} == {"imagenet"} and len(variants) == 3
    assert float(re.search(r"about (\d+) GPU", last)[1]) == pytest.approx(len(learning) * 3 * (1 + 10 * 4 / 30), abs=1)


def test_one_model_is_trained_once_and_tested_on_all_targets():
    (merged,) = reproduce.planned_chains(["cross-dataset", "domains"], False, ["imagenet"], ["MaPLe"], [1])
    source, *targets = merged
    assert source.trains and len(targets) == 10 + 4
    assert {run.model_dir for run in targets} == {source.output} and not any(run.trains for run in targets)


def test_the_runs_end_in_the_tables_and_failures_are_named(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(reproduce, "run_chains", lambda chains, missing, data, options, jobs: ["out of luck"])
    monkeypatch.setattr(reproduce, "print_tables", lambda _, names, selection: shown.append((names, selection)))
    assert reproduce.main(["ablation", "--datasets", "digits", "--seeds", "1,2"]) == 1
    assert "out of luck" in capsys.readouterr().err
    assert shown == [(["ablation", "paired"], Selection(datasets=("digits",), seeds=(1, 2)))]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--datasets", "digits", "--seeds", "1"], "3 of 3 runs are missing, about 14 CPU seconds on one core"),
        (["--datasets", "eurosat", "--seeds", "1"], "about 8 GPU minutes of training (by MaPLe's reported times)"),
        (["--datasets", "eurosat digits"], "about 24 GPU minutes of training (by MaPLe's reported times) and 42 CPU"),
    ],
)
def test_the_cost_of_missing_runs_is_that_of_their_device_in_a_fitting_unit(capsys, arguments, words):
    assert words in listed(capsys, "base2new", "--methods", "BMIP", *arguments)[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["digits", "1", "MaPle"], "MaPle.*MaPLe"),
        (["digits", "one"], "one.*whole numbers"),
        (["eurosat"], "eurosat needs a data folder"),
        (["digitz", "--data", "."], "digitz"),
        (["open-world", "--methods", "MaPle"], "MaPle.*MaPLe"),
        (["open-world", "--seeds", "one"], "one.*whole numbers"),
        (["open-world", "--datasets", "eurosat"], "eurosat needs a data folder"),
        (["open-world", "--datasets", "eurozat", "--data", "."], "eurozat"),
        (["cross-dataset", "--datasets", "eurosat"], "eurosat.*imagenet, symbols"),
        (["domains", "--datasets", "digits"], "digits.*imagenet, symbols"),
        (["ablation", "--methods", "BMIP:aditoin"], "BMIP:aditoin.*Do you mean addition.*configs/variants"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(capsys, arguments, message):
    command = reproduce if arguments[0] in reproduce.PLANS else compare
    assert command.main(arguments) == 2
    assert re.search(message, capsys.readouterr().err)


def test_only_what_is_missing_is_listed_and_a_damaged_record_is_missing(tmp_path, capsys):
    arguments = ["length", "--methods", "BMIP:length1", "--datasets", "digits", "--seeds", "1"]
    (trained, _), last = listed(capsys, *arguments)
    assert last.startswith("2 of 2")
    record = tmp_path / trained.output_dir / "result.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"trainer": "BM')
    assert len(listed(capsys, *arguments)[0]) == 2
    assert not record.exists() and record.with_name("result.json.damaged").read_text() == '{"trainer": "BM'


def test_a_dry_run_notes_that_published_data_needs_a_folder(capsys):
    for datasets, note in (("eurosat", "note: eurosat needs a data folder: set DATA="), ("digits", "")):
        assert reproduce.main(["base2new", "--methods", "BMIP", "--datasets", datasets, "--dry-run"]) == 0
        errors = capsys.readouterr().err
        assert errors.startswith(note) and errors.count("\n") == bool(note)
