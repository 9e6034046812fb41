"""A terminal shows a run's progress in its columns, then its accuracy; the log has all lines as Dassl prints them."""

from __future__ import annotations

import io
import re

import pytest

import parse_test_res
from trainers.console import WIDTH, Concise, shown
from trainers.records import print_outcome, write_result

LINE = "epoch [{}] batch [{}] time 0.032 (0.036) data 0.002 (0.003) {} lr 3.5000e-03 eta {}"
LOSS, ACCURACY, TERM = "loss 1.4471 (2.3864)", "acc 100.0000 (100.0000)", "loss_text 0.1234 (0.1234)"


def test_an_epochs_line_keeps_loss_and_accuracy_in_a_terminals_columns():
    line = LINE.format("1/20", "20/20", f"{LOSS} {ACCURACY}", "0:00:13")
    assert shown(line) == f"epoch [1/20] batch [20/20] {LOSS} {ACCURACY} lr 3.5000e-03 eta 0:00:13"
    long = LINE.format("100/200", "1250/1250", f"{LOSS} {ACCURACY} {TERM} {TERM}", "12:00:13")
    assert shown(long) == f"epoch [100/200] batch [1250/1250] {LOSS} {ACCURACY} eta 12:00:13"
    assert len(shown(line)) <= WIDTH and len(shown(long)) <= WIDTH < len(line)


@pytest.mark.parametrize("line", ["", "=> result", "* accuracy: 81.0%", "epoch [1/2] is over", "No checkpoint found"])
def test_other_lines_stay_as_they_are(line):
    assert shown(line) == line


def test_a_long_line_is_folded_between_words_and_a_path_stays_whole():
    normalization = f"+ normalization (mean={[0.48145466] * 3}, std={[0.26862954] * 3})"
    lines = shown(f"{normalization} {normalization}").split("\n")
    assert len(lines) > 1 and all(len(line) <= WIDTH for line in lines) and lines[1].startswith("  ")
    path = "/folder" * 20
    assert shown(f"Reading split from {path}") == f"Reading split from\n  {path}"
    assert shown(f"Initialize tensorboard (log_dir={path})") is None


def test_the_outcome_of_a_run_has_no_shots_or_seed_where_there_are_none_and_two_lines_where_it_is_long(
    tmp_path, capsys
):
    result = {"method": "ZeroshotCLIP", "variant": "", "tag": "", "dataset": "Digits", "classes": "all"}
    result |= {"shots": -1, "seed": -1, "accuracy": 50.0, "trained": False, "open_world": None}
    write_result(tmp_path, result)
    print_outcome(tmp_path)
    assert capsys.readouterr().out == "ZeroshotCLIP on Digits, all classes: accuracy 50.00 %\n"
    numbers = {"base": 50.0, "new": 60.0, "HM": 54.55, "accuracy": 40.0}
    write_result(tmp_path, result | {"dataset": "DescribableTextures", "shots": 1, "seed": 0, "open_world": numbers})
    print_outcome(tmp_path)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "ZeroshotCLIP on DescribableTextures, all classes, 1 shot, seed 0:"
    assert second == "  base 50.00 %, new 60.00 %, HM 54.55 %, open-world 40.00 %"


def test_half_a_line_waits_for_its_end_or_a_flush():
    stream = io.StringIO()
    console = Concise(stream)
    console.write("* accu")
    assert stream.getvalue() == ""
    console.write("racy: 81.0%\nCheckpoint saved to x\nPass")
    assert stream.getvalue() == "* accuracy: 81.0%\n"
    console.flush()
    console.write("word\n")
    assert stream.getvalue() == "* accuracy: 81.0%\nPassword\n"
    assert console.isatty() is False


@pytest.mark.parametrize("trainer", ["BMIP", "PromptSRC"])
def test_a_run_shows_no_configuration_and_ends_with_its_accuracy(run_train, trainer, tmp_path):
    options = ["TRAINER.PROMPTSRC.GPA_MEAN", "1"]
    run = run_train(trainer=trainer, folder=tmp_path / "seeds" / "seed1", options=options, verbose=False)
    lines, log = run.output.splitlines(), (run.folder / "log.txt").read_text()
    accuracy = run.result["accuracy"]
    assert lines[-1] == f"{trainer} on Digits, base classes, 2 shots, seed 1: accuracy {accuracy:.2f} %"
    # A path has its own line, however long it is.
    assert any(line.startswith("epoch [") for line in lines) and len(lines) < 80
    assert all(len(line) <= WIDTH or str(tmp_path.parent) in line or "/digits" in line for line in lines)
    assert "OPTIM:" not in run.output and "Checkpoint saved" not in run.output
    # Dassl's lines, which parsers of the field read, are all in the log.
    assert "** Config **" in log and "OPTIM:" in log and "** Arguments **" in log and "Checkpoint saved to" in log
    assert re.search(r"^epoch .* time \S+ \(\S+\) data .* loss .* acc .* lr \S+ eta \S+$", log, re.M)
    assert f"=> result\n* total: {run.result['images']}\n" in log and f"* accuracy: {accuracy:.1f}%" in run.output
    assert parse_test_res.main([str(tmp_path / "seeds")]) == 0


def test_verbose_shows_all_that_is_in_the_log(run_train):
    run = run_train(verbose=True)
    assert run.output == (run.folder / "log.txt").read_text() and "** Config **" in run.output


def test_a_test_on_all_classes_ends_with_the_harmonic_mean(run_train, tmp_path):
    trained = run_train()
    everything = ["DATASET.SUBSAMPLE_CLASSES", "all"]
    flags = "--eval-only", "--model-dir", str(trained.folder)
    run = run_train(*flags, folder=tmp_path / "all", options=everything, verbose=False)
    found = run.result["open_world"]
    numbers = f"base {found['base']:.2f} %, new {found['new']:.2f} %, HM {found['HM']:.2f} %"
    assert run.output.splitlines()[-1] == f"  {numbers}, open-world {found['accuracy']:.2f} %"
    again = run_train(verbose=False)
    assert (
        again.output.splitlines()[-1].startswith("BMIP on Digits, base classes") and "Already trained" in again.output
    )
