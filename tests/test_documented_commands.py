"""The commands of the documents, as they stand in them.

Blocks that can run here are run in a copy of the repository whose runs are short: README first, then the other
documents, two at once. Blocks that cannot run here (`obstacle`) are parsed, and their commands checked or planned.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from helpers.documents import DOCUMENTS, ROOT, Block, blocks_of, git, short_copy

import train
from experiments.data import BUILTIN
from trainers import register_all
from trainers.config import build_cfg
from trainers.prompting.recipes import CONFIGS, ENDINGS, read_files

BLOCKS = {name: blocks_of(name) for name in DOCUMENTS}
CODE = [block for blocks in BLOCKS.values() for block in blocks if block.language in ("bash", "python")]
FILES = {block.file for block in CODE if block.file}
OTHER_DATA = {path.stem for path in (CONFIGS / "datasets").glob("*.yaml")} - {*BUILTIN}
# Deprecations of libraries are no concern of a reader's; a warning of this project's would be.
STRICT = ("-W", "error::UserWarning")
# Programs whose flags are not this project's.
OTHERS = ("sbatch", "ray", "kubectl")


def obstacle(block: Block) -> str:
    """Why a block of shell commands cannot run here; empty if it can."""
    words = set(re.findall(r"[^\s\"']+", block.code))
    if block.info:
        return block.info
    if "$DATA" in words or re.search(r"\bDATA=", block.code) or words & OTHER_DATA:
        return "needs a data set"
    if any(word.startswith(("~", "/path/to")) for word in words - FILES):
        return "needs a folder of the reader's"
    return "is a part of a command" if "..." in block.code else ""


def is_whole(block: Block) -> bool:
    """Whether a block of Python stands for itself."""
    return block.code.startswith(("import ", "from ", '"""'))


def runs_here(block: Block) -> bool:
    return not obstacle(block) if block.language == "bash" else is_whole(block)


RUNNING = [block for block in CODE if runs_here(block)]
CHECKED = [block for block in CODE if not runs_here(block)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return short_copy(tmp_path_factory.mktemp("documents") / "clone")


@pytest.fixture(scope="module")
def outcomes(clone) -> dict[str, tuple[int, str]]:
    """Exit status and output of every block that runs, by its place."""
    tools, home = clone.parent / "bin", clone.parent / "home"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tools / "python").chmod(0o755)
    removed = ("DATA", "PYTHONPATH", "OUTPUT")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    environment |= {"HOME": str(home), "PYTHON": sys.executable, "PATH": f"{tools}:{os.environ['PATH']}"}
    environment["OMP_NUM_THREADS"] = "1"
    found: dict[str, tuple[int, str]] = {}

    def run(blocks: list[Block]) -> None:
        for block in blocks:
            if block.file:
                path = home / block.file.removeprefix("~/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.code)
                found[block.place] = 0, ""
                continue
            command = ["bash", "-euo", "pipefail"] if block.language == "bash" else ["python", *STRICT]
            pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            done = subprocess.run([*command, "-c", block.code], cwd=clone, env=environment, **pipes)
            found[block.place] = done.returncode, done.stdout

    by_document = [[block for block in BLOCKS[name] if block in RUNNING] for name in DOCUMENTS]
    run(by_document[0])
    with ThreadPoolExecutor(2) as pool:
        # The longest first.
        list(pool.map(run, sorted(by_document[1:], key=len, reverse=True)))
    return found


@pytest.mark.parametrize("block", RUNNING, ids=lambda block: block.place)
def test_a_block_runs_as_it_stands(outcomes, block):
    status, output = outcomes[block.place]
    assert status == 0, output[-3000:]
    assert "Traceback" not in output
    assert output or block.file, "it shows nothing"


def without_numbers(line: str) -> str:
    """A line of a table without its numbers, their marks, and the widths of its columns."""
    return re.sub(r"\s+", " ", re.sub(r"-+", "-", re.sub(r"[\d.,*]+", "", line))).strip()


TABLES = [
    (block, shown)
    for blocks in BLOCKS.values()
    for block, shown in zip(blocks, blocks[1:])
    if block in RUNNING and not shown.language and "\n---" in shown.code
]


@pytest.mark.parametrize(("block", "shown"), TABLES, ids=lambda block: block.place)
def test_a_table_after_a_block_has_the_rows_and_columns_that_it_prints(outcomes, block, shown):
    printed = set(map(without_numbers, outcomes[block.place][1].splitlines()))
    assert [line for line in shown.code.splitlines() if without_numbers(line) not in printed] == []


def test_the_blocks_leave_no_files_in_the_clone(outcomes, clone):
    assert git(clone, "status", "--porcelain", "--untracked-files=all") == ""


def commands(block: Block) -> list[list[str]]:
    """The words of each command, without assignments before it and dots."""
    found, line = [], ""
    code = re.sub(r"<<'(\w+)'\n.*?\n\1$", "", block.code, flags=re.DOTALL | re.MULTILINE)
    for part in re.sub(r"\\\n", " ", code).splitlines():
        line += part + "\n"
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # within quotes, which the next line closes
            continue
        line = ""
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        if words and words[0] not in ("export", "cd"):
            found.append([word for word in words if word != "..."])
    return found


def call(script: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a Python script, in this process."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        patch.setattr(sys, "argv", [script, *arguments])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return end.code or 0, output.getvalue()
    return 0, output.getvalue()


@cache
def flags_of(script: str) -> set[str]:
    """The flags that a script takes, and those of train.py if it passes arguments on."""
    text = call(script, "--help")[1]
    passed_on = flags_of("train.py") if "train.py" in text and script != "train.py" else set()
    return set(re.findall(r"--[a-z][\w-]*", text)) | passed_on


def called_by(shell_script: str, arguments: list[str], clone: Path) -> list[str]:
    """The words after `python` of the command that a shell script comes to."""
    echo = clone.parent / "echo"
    echo.write_text('#!/bin/sh\n[ "$1" = - ] || printf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(echo), "DATA": str(clone)}
    pipes = dict(stdout=subprocess.PIPE, text=True, check=True)
    return subprocess.run(["bash", shell_script, *arguments], cwd=clone, env=environment, **pipes).stdout.splitlines()


@pytest.mark.parametrize("block", CHECKED, ids=lambda block: block.place)
def test_a_block_that_cannot_run_here_names_what_there_is(block, clone, checkout, monkeypatch):
    if block.language == "python":
        compile(block.code, block.place, "exec")
        return
    subprocess.run(["bash", "-n", "-c", block.code], check=True)
    monkeypatch.setenv("DATA", str(checkout))
    monkeypatch.setattr("experiments.compare.run_chains", lambda *_: [])
    monkeypatch.setattr("experiments.compare.check_data", lambda *_, **__: None)
    for program, script, *arguments in commands(block):
        named = [word for word in (script, *arguments) if word.startswith(("tests/", "scripts/", "docs/"))]
        assert [word for word in named if not (ROOT / word).exists()] == []
        if program == "sbatch" and named:
            # A batch script, around a command.
            _, script, *arguments = [script, *arguments][[script, *arguments].index(named[0]) :]
        elif program in OTHERS:
            continue
        if script.endswith(".sh") and script.startswith("scripts/"):
            # One that takes another Python than that of the environment would really run.
            assert '"$PYTHON"' in (ROOT / script).read_text(), f"{script} cannot be looked into; name it in the text"
            script, *arguments = called_by(script, arguments, clone)
        if script == "-m" or script.startswith(("~", "/")):
            continue
        given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert not given or given <= flags_of(script), given - flags_of(script)
        of_recipes = [word for word in arguments if word.startswith("configs/") and word.endswith(ENDINGS)]
        assert all(map(read_files, of_recipes))
        if script == "train.py" and "..." not in block.code:
            register_all()
            assert build_cfg(train.parse_args(arguments)).TRAINER.NAME
        elif Path(script).name in ("launch.py", "reproduce.py", "compare.py"):
            status, output = call(script, *arguments, *(() if "compare" in script else ("--dry-run",)))
            assert status == 0, output


def test_the_rules_find_blocks_of_both_kinds():
    assert len(RUNNING) >= 15 and len(CHECKED) >= 15
