"""Files are written whole or not at all, and a run's checkpoints are found by one rule."""

from __future__ import annotations

import os

from minidassl.own.files import write_whole
from minidassl.own.run_folder import (
    BEST_FILE,
    MissingCheckpointError,
    checkpoint_folders,
    find_checkpoint,
    has_checkpoints,
    newest_epoch,
)

import pytest


@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), lambda file: file.write("é\n".encode())])
def test_text_bytes_and_what_a_function_writes_are_the_content(tmp_path, content):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_whole(path, content)
    assert path.read_bytes() == b"\xc3\xa9\n" and os.listdir(path.parent) == ["file.txt"]


def test_a_bare_name_is_written_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("file.txt", "x")
    assert (tmp_path / "file.txt").read_text() == "x"


def test_a_failure_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path):
    path = tmp_path / "file.txt"
    write_whole(path, "old")

    def fail(file):
        file.write(b"new")
        assert sorted(os.listdir(tmp_path)) == ["file.txt", f"file.txt.{os.getpid()}.part"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def run_with(folder, *names: str):
    for name in names:
        write_whole(folder / name, "")
    return folder


def test_the_best_is_found_before_the_newest_and_an_epoch_where_it_is_asked_for(tmp_path):
    run_with(tmp_path, "model.pth.tar-9", "model.pth.tar-10", "model.pth.tar-11.123.part", "checkpoint")
    assert find_checkpoint(tmp_path).name == "model.pth.tar-10"
    assert find_checkpoint(tmp_path, 9).name == "model.pth.tar-9"
    run_with(tmp_path, BEST_FILE)
    assert find_checkpoint(tmp_path).name == BEST_FILE
    with pytest.raises(
        MissingCheckpointError, match=r'model.pth.tar-3"; epochs saved there: \[9, 10\]. Check --model'
    ):
        find_checkpoint(tmp_path, 3)


def test_the_folders_of_a_run_and_the_newest_epoch_of_all_of_them_are_found(tmp_path):
    run_with(tmp_path, "a/model.pth.tar-2", "a/model.pth.tar-3", "b/model.pth.tar-2", f"c/{BEST_FILE}", "d/checkpoint")
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["a", "b", "c"]
    assert not has_checkpoints(tmp_path) and checkpoint_folders(tmp_path / "none") == []
    assert newest_epoch([tmp_path / "a", tmp_path / "b"]) == 2
    assert newest_epoch([tmp_path / "a", tmp_path / "c"]) is None and newest_epoch([]) is None
