"""Runs in processes of their own, several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from experiments import runner


def succeed(command: list, *_: object) -> None:
    """In place of a run."""


def test_no_run_is_taken_for_a_failed_one_because_others_start(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_run_command", succeed)
    monkeypatch.setattr(runner, "OUTPUT", "log.txt")

    def run(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "log.txt").touch()
        command = lambda data, options: ["python", "train.py"]  # noqa: E731
        return runner.execute(SimpleNamespace(folder=folder, command=command, is_small=True), None, [])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(100))) == [""] * 100
