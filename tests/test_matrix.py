"""`scripts/test_matrix.sh` goes on after a failure and says how every pair ended. A played Python stands for all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "test_matrix.sh"
# A Python whose pip knows torch 1.0 to 1.2 and whose pytest fails with torch 1.1; of 1.3 the download breaks.
INTERPRETER = """#!/usr/bin/env bash
environment=$(dirname "$(dirname "$0")")
case "$*" in
    --version) echo Python 3.99.0 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *torch==1.3) echo "ERROR: connection reset"; exit 1 ;;
    *torch==1.[012]) echo "${@: -1}" > "$environment/torch" ;;
    *torch==*) echo "ERROR: No matching distribution found for ${@: -1}"; exit 1 ;;
    -) echo "Python 3.99.0 $(cat "$environment/torch")" ;;
    *pytest*)
        echo "$PWD: ${@:3}"
        ! grep -q 1.1 "$environment/torch" || { echo "1 failed, 2 passed in 0.75s"; exit 1; }
        echo "2 passed, 1 xfailed in 61.50s (0:01:01)" ;;
esac
"""


@pytest.fixture
def run_matrix(tmp_path):
    """Run the script in a repository of its own; a pair's interpreter is the played one."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "scripts")
    python = tmp_path / "python"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    def call(*torches: str, options: tuple[str, ...] = ()) -> tuple[int, str, list[Path]]:
        pairs = [f"{python}:{torch}" for torch in torches]
        command = ["bash", script, "--folder", str(tmp_path / "made"), *pairs, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.stderr
        return done.returncode, done.stdout, list((tmp_path / "made").glob("*/*"))

    return call


def rows(output: str) -> list[list[str]]:
    lines = [line for line in output.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:3] for line in lines]


def test_every_pair_is_tried_and_has_its_row(run_matrix):
    status, output, _ = run_matrix("1.0", "1.1", "7.0", "1.3", "1.2")
    assert status == 1
    assert rows(output) == [
        ["Python 3.99.0 torch==1.0", "2 passed, 1 xfailed"],
        ["Python 3.99.0 torch==1.1", "status 1: 1 failed, 2 passed"],
        ["", "not to be had"],
        ["", "failed to install"],
        ["Python 3.99.0 torch==1.2", "2 passed, 1 xfailed"],
    ]


def test_a_pair_that_is_not_to_be_had_is_no_failure(run_matrix):
    status, output, _ = run_matrix("1.0", options=("0.1:1.0",))
    assert status == 0 and rows(output)[1] == ["", "no python0.1"]
    assert run_matrix("1.1")[0] == 1


def test_environments_are_removed_unless_they_are_asked_for(run_matrix):
    *_, left = run_matrix("1.0", "1.1")
    assert left and all(path.suffix == ".log" for path in left)
    *_, kept = run_matrix("1.0", options=("--keep",))
    assert {"code", "environments"} < {path.name for path in kept}


def test_pytest_gets_its_arguments_in_a_copy_of_the_code(run_matrix, tmp_path):
    (tmp_path / ".gitignore").write_text(".venv\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    _, output, made = run_matrix("1.0", options=("--keep", "--", "-x", "tests/test_a.py"))
    code = next(path for path in made if path.name == "code")
    assert f"{code}: -q -x tests/test_a.py" in output
    assert (code / "scripts/test_matrix.sh").is_file() and not (code / ".venv").exists()


def test_an_argument_that_is_no_pair_ends_in_a_message(tmp_path):
    done = subprocess.run(["bash", str(SCRIPT), "3.11"], capture_output=True, text=True)
    assert done.returncode == 2 and "3.11 is no PYTHON:TORCH" in done.stderr
