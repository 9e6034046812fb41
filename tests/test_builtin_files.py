"""A built-in data set is written once, whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from datasets.builtin.files import write_once
from trainers.prompting.errors import InputError


def write_two_files(folder: Path, split_file: str) -> None:
    (folder / "a.png").write_text("a")
    (folder / split_file).write_text("{}")


def test_the_folder_is_complete_and_nothing_else_is_left(tmp_path):
    write_once(tmp_path / "root" / "x", "split.json", write_two_files)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "root",
        "root/x",
        "root/x/a.png",
        "root/x/split.json",
    ]
    assert (tmp_path / "root" / "x").stat().st_mode == (tmp_path / "root").stat().st_mode


def test_a_complete_folder_is_left_alone(tmp_path):
    write_two_files(tmp_path, "split.json")
    write_once(tmp_path, "split.json", lambda *_: pytest.fail("written again"))


def test_an_interrupted_write_leaves_no_trace(tmp_path):
    def interrupted(folder: Path, split_file: str) -> None:
        write_two_files(folder, split_file)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_once(tmp_path / "x", "split.json", interrupted)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_split_file_is_not_taken_for_complete(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").touch()
    with pytest.raises(InputError, match=rf"{tmp_path / 'x'} holds no split\.json.*remove the folder"):
        write_once(tmp_path / "x", "split.json", write_two_files)


def test_two_runs_at_once_leave_one_complete_copy(tmp_path):
    both_are_writing = threading.Barrier(2, timeout=10)
    faults = []

    def write_together(folder: Path, split_file: str) -> None:
        both_are_writing.wait()
        write_two_files(folder, split_file)
        both_are_writing.wait()

    def run() -> None:
        try:
            write_once(tmp_path / "x", "split.json", write_together)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "split.json", "x"]


def test_an_unwritable_root_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--root"):
        write_once(tmp_path / "file" / "x", "split.json", write_two_files)
