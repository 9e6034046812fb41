"""Faults of disks and users end a run of train.py in one line with path, cause and remedy, without a traceback."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from minidassl.own.checkpoint import save_checkpoint
from minidassl.own.files import write_whole

import pytest
from helpers.runs import assert_refused

ROOT = Path(__file__).parents[1]
ONE_EPOCH = ["OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1"]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_output_folder_that_cannot_be_made_is_named_with_the_remedy(run_train, tmp_path):
    (tmp_path / "file").write_text("")
    run = run_train(folder=tmp_path / "file" / "run")
    assert run.status == 2 and run.errors.count("\n") == 1, run.errors
    assert str(tmp_path / "file") in run.errors and "Not a directory" in run.errors and "another folder" in run.errors


@pytest.mark.parametrize("cause", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.EIO])
def test_a_failure_to_write_is_told_in_one_line(run_train, monkeypatch, cause):
    def fail(folder, *_):
        raise OSError(cause, os.strerror(cause), f"{folder}/log.txt")

    monkeypatch.setattr("trainers.run.setup_logger", fail)
    run = run_train()
    assert_refused(run, ["log.txt", os.strerror(cause)])
    assert run.errors.count("\n") == 1 and "[Errno" not in run.errors and len(run.errors.split(". ")) > 1


def test_a_full_disk_that_names_no_file_is_told_with_the_folder(run_train, monkeypatch):
    monkeypatch.setattr("trainers.run.setup_logger", full)
    run = run_train()
    assert_refused(run, [str(run.folder), "No space left on device", "Free space"])


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError) as failed:
        write_whole(tmp_path / "file", full)
    assert failed.value.filename == str(tmp_path / "file") and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_checkpoint_on_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr("minidassl.own.files.open", lambda *_: io.FileIO("/dev/full", "w"), raising=False)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint({"state_dict": {}, "epoch": 1}, tmp_path)


# ------------------------------------------------------------------------------------------------ TensorBoard


@pytest.mark.parametrize("broken", ["record_writer.RecordWriter.write", "event_file_writer.EventFileWriter.__init__"])
def test_tensorboards_failure_costs_its_events_alone(run_train, monkeypatch, broken):
    pytest.importorskip("tensorboard")
    module = {"record_writer": "tensorboard.summary.writer", "event_file_writer": "tensorboard.summary.writer"}
    monkeypatch.setattr(f"{module[broken.split('.')[0]]}.{broken}", full)
    run = run_train(options=ONE_EPOCH)
    assert run.status == 0 and run.result["trained"], run.errors
    assert run.output.count("Note: TensorBoard's events cannot be written") == 1
    assert "Traceback" not in run.errors


# ------------------------------------------------------------------------------------------------ files of a run


@pytest.mark.parametrize("content", ["a: [", "3", "DATASET: 3\n", "{}", "&a [*a]", "SEED: 1\n"])
def test_damaged_settings_are_named_with_the_remedy(run_train, content):
    trained = run_train(options=ONE_EPOCH)
    (trained.folder / "settings.yaml").write_text(content)
    for flags in ([], ["--eval-only", "--model-dir", str(trained.folder)]):
        run = run_train(*flags, options=ONE_EPOCH)
        assert run.status == 2 and run.errors.count("\n") == 1, run.errors
        assert str(trained.folder / "settings.yaml") in run.errors and "--force" in run.errors
    assert run_train("--force", options=ONE_EPOCH).status == 0


@pytest.mark.parametrize(
    "content", ["{", "[]", "3", '{"accuracy": 1}', "[" * 100_000, '{"accuracy": 1, "trained": true, "per_class": [3]}']
)
def test_a_damaged_record_is_named_with_the_remedy(run_train, content):
    trained = run_train(options=ONE_EPOCH)
    (trained.folder / "result.json").write_text(content)
    run = run_train(options=ONE_EPOCH)
    assert run.status == 2 and run.errors.count("\n") == 1, run.errors
    assert str(trained.folder / "result.json") in run.errors and "delete it" in run.errors


# ------------------------------------------------------------------------------------------------ Ctrl-C


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_ctrl_c_while_libraries_load_leaves_no_traceback(seconds):
    run = subprocess.Popen([sys.executable, ROOT / "train.py", "--summary"], cwd=ROOT, stderr=subprocess.PIPE)
    time.sleep(seconds)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate()
    assert run.returncode in (-signal.SIGINT, 130) and b"Traceback" not in errors
