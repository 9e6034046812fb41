"""The state of all runs of a folder of results can be read from it, and what they will take."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from minidassl.own.jobs import claims, plans
from minidassl.own.jobs.claims import claim
from minidassl.own.jobs.schedule import Job

import pytest

from experiments import status
from experiments.estimates import Estimates
from experiments.protocols import plan
from experiments.runs import Request


def record(folder: Path, **facts: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"accuracy": 50.0, "trained": True, **facts}
    (folder / "result.json").write_text(json.dumps(content))


@pytest.fixture
def output(tmp_path):
    """Results of a plan of five runs of a minute, of which one is done, one failed, and three wait."""
    jobs = [Job(f"run {number}", tmp_path / str(number), None, 60.0) for number in range(5)]
    plans.write(tmp_path, jobs)
    record(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / ".output").write_text("Traceback")
    return tmp_path


def shown(capsys, output: Path) -> str:
    assert status.main([str(output)]) == 0
    return capsys.readouterr().out


def test_done_running_waiting_and_failed_runs_are_counted_and_what_runs_is_named(output, capsys):
    with claim(output / "2", "GPU 3"), claim(output / "3", "GPU 1"):
        text = shown(capsys, output)
    assert "1 done, 2 running, 1 waiting, 1 failed; about 2 minutes left with as many at once as now" in text
    assert re.search(rf"run 2 +GPU 3 +\S+ +{os.getpid()} ", text)
    assert "not running now: run 1" in text and str(output / "1" / ".output") in text
    assert f"5 runs, by process {os.getpid()} on " in text


def test_a_run_of_a_dead_process_does_not_run(output, capsys):
    with claim(output / "2"):
        path = output / "2" / ".claim-1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "started": 1.0}))
        assert "0 running" in shown(capsys, output)


def test_a_run_of_another_host_that_gives_no_sign_is_marked(output, capsys):
    with claim(output / "2"):
        path = output / "2" / ".claim-1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "elsewhere", "host": "node7"}))
        assert "no sign" not in shown(capsys, output)
        before = time.time() - claims.SILENT - 600
        os.utime(path, (before, before))
        assert re.search(r"node7.*no sign for \d+ minutes, or the hosts' clocks differ", shown(capsys, output))


def test_a_finished_run_whose_claim_nobody_renews_is_done(output, capsys):
    with claim(output / "0"):
        path = output / "0" / ".claim-1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "elsewhere"}))
        assert "0 done, 1 running" in shown(capsys, output)
        before = time.time() - claims.SILENT - 600
        os.utime(path, (before, before))
        assert "1 done, 0 running" in shown(capsys, output)


def test_the_same_command_replaces_its_plan(output, monkeypatch, capsys):
    plans.write(output, [Job("run 0", output / "0", None)])
    assert "1 done, 0 running, 0 waiting" in shown(capsys, output)
    monkeypatch.setattr("sys.argv", ["another", "command\x1b[2J"])
    plans.write(output, [Job("run 9", output / "9", None)])
    text = shown(capsys, output)
    assert "1 done, 0 running, 1 waiting" in text and "\x1b" not in text


def test_a_folder_without_a_plan_and_plans_that_are_none_are_answered(tmp_path, capsys):
    folder = tmp_path / plans.FOLDER
    folder.mkdir()
    for number, text in enumerate(["", "[]", '{"jobs": 3}', '{"jobs": [["a"]]}']):
        (folder / f"{number}.json").write_text(text)
    assert status.main([str(tmp_path)]) == 2
    assert f"{tmp_path} has no plan of a command" in capsys.readouterr().err


def test_estimates_are_the_medians_of_records_of_this_device_else_published_times(tmp_path):
    train, test = plan(Request("open_world", "BMIP", "eurosat", 1))
    facts = dict(method="BMIP", recipe=train.recipe, dataset="EuroSAT", shots=16, peak_memory_bytes=2**33)
    on = {"environment": {"device": "H100"}}
    trained = dict(facts, classes="base", train_seconds=100.0, test_seconds=20.0, **on)
    record(tmp_path / "a", **trained)
    record(tmp_path / "b", **{**trained, "train_seconds": 300.0})
    record(tmp_path / "c", **{**trained, "train_seconds": 140.0})
    record(tmp_path / "d", **dict(facts, classes="all", trained=False, train_seconds=None, test_seconds=7.0, **on))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "result.json").write_text("{")
    known = Estimates(tmp_path, "H100")
    assert (known.seconds(train), known.seconds(test)) == (160.0, 7.0)
    (other,) = [run for run in plan(Request("open_world", "MaPLe", "eurosat", 1)) if run.trains]
    assert known.seconds(other) == 160.0
    assert known.bytes_needed(small=False, on_gpu=False) == 2**33
    elsewhere = Estimates(tmp_path, "A100")
    assert elsewhere.seconds(train) == 3600 * 4 / 30 and elsewhere.measured(train) is None


def test_the_cost_says_how_much_of_it_is_measured(tmp_path):
    train, test = plan(Request("open_world", "BMIP", "eurosat", 1))
    record(
        tmp_path / "a",
        **dict(method="BMIP", recipe=train.recipe, dataset="EuroSAT", shots=16, peak_memory_bytes=1, classes="base"),
        **dict(train_seconds=460.0, test_seconds=20.0, environment={"device": "H100"}),
    )
    known = Estimates(tmp_path, "H100")
    (other,) = [run for run in plan(Request("open_world", "BMIP", "dtd", 1)) if run.trains]
    assert known.cost([train]) == ", about 8 GPU minutes of training (100% by records of this device)"
    assert known.cost([train, other]).endswith("(50% by records of this device, else by MaPLe's reported times)")
