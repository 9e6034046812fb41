"""A built-in data set is written once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.builtin.files import write_once
from trainers.prompting.errors import InputError


def write_two_files(folder: Path, split_file: str) -> None:
    (folder / "a.png").write_text("a")
    (folder / split_file).write_text("{}")


def test_the_folder_is_complete_and_nothing_else_is_left(tmp_path):
    write_once(tmp_path / "root" / "x", "split.json", write_two_files)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "root", "split.json", "x"]
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
    with pytest.raises(InputError, match=rf"{tmp_path / 'x'} holds no split\.json.*move it elsewhere"):
        write_once(tmp_path / "x", "split.json", write_two_files)


def test_two_runs_at_once_leave_one_complete_copy(tmp_path):
    def overtaken(folder: Path, split_file: str) -> None:
        write_once(tmp_path / "x", split_file, write_two_files)
        write_two_files(folder, split_file)

    write_once(tmp_path / "x", "split.json", overtaken)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "split.json", "x"]


def test_an_unwritable_root_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--root"):
        write_once(tmp_path / "file" / "x", "split.json", write_two_files)
