"""Runs in processes of their own, several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from experiments import runner


def succeed(command: list, root: str, log: str, environment: dict) -> None:
    """In place of a run."""
    open(log, "w").close()


def test_no_run_is_taken_for_a_failed_one_because_others_start(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_run_command", succeed)

    def run(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        process = runner.RunProcess(["--seed", "1"], folder, {})
        while not process.wait(1):
            pass
        process.kill()
        return process.failure()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(100))) == [""] * 100
