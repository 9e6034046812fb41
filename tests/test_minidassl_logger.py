"""The log file gets what the console gets, at once, and the console survives."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minidassl.utils import Logger, setup_logger

import pytest

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def console_as(stream: io.TextIOBase) -> Iterator[io.TextIOBase]:
    """Run with ``stream`` as the console; a fixture cannot, because pytest sets its own stream after fixtures."""
    before = sys.stdout
    sys.stdout = stream
    try:
        yield stream
    finally:
        sys.stdout = before


def test_lines_go_to_console_and_file(tmp_path):
    with console_as(io.StringIO()) as console:
        setup_logger(str(tmp_path / "run"))
        print("hello", 42)
        sys.stdout.writelines(["a\n", "b\n"])
    assert console.getvalue() == "hello 42\na\nb\n"
    assert (tmp_path / "run" / "log.txt").read_text() == "hello 42\na\nb\n"


def test_a_complete_line_is_in_the_file_even_if_the_process_is_killed(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from minidassl.utils import setup_logger; import os\n"
        f"setup_logger({str(tmp_path)!r})\nprint('* accuracy: 81.0%')\nos._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log.txt").read_text() == "* accuracy: 81.0%\n"
    assert done.stdout == "* accuracy: 81.0%\n"


def test_the_console_outlives_the_logger(tmp_path):
    with console_as(io.StringIO()) as console:
        logger = Logger(tmp_path / "log.txt")
        logger.write("x\n")
        del logger
        gc.collect()
        assert not console.closed
    assert console.getvalue() == (tmp_path / "log.txt").read_text() == "x\n"


def test_questions_about_the_stream_are_answered_by_the_console(tmp_path):
    with open(tmp_path / "console.txt", "w", encoding="latin-1") as console, console_as(console):
        logger = Logger(tmp_path / "log.txt")
        assert logger.fileno() == console.fileno()
        assert logger.encoding == "latin-1"
        assert logger.isatty() is False
        with pytest.raises(AttributeError):
            logger.no_such_thing  # noqa: B018


def test_an_existing_log_is_not_overwritten_even_twice_within_a_second(tmp_path):
    with console_as(io.StringIO()) as console:
        for number in range(3):
            setup_logger(str(tmp_path))
            print(f"run {number}")
    first, *later = sorted(os.listdir(tmp_path))
    assert first == "log.txt" and all(re.fullmatch(r"log\.txt-\d{4}(-\d\d){5}", name) for name in later)
    assert (tmp_path / first).read_text() == "run 0\n"
    assert "".join((tmp_path / name).read_text() for name in later) == "run 1\nrun 2\n"
    assert console.getvalue() == "run 0\nrun 1\nrun 2\n"


@pytest.mark.parametrize("name", ["train.log", "notes.txt"])
def test_a_path_with_a_suffix_is_the_file_itself(tmp_path, name):
    with console_as(io.StringIO()):
        setup_logger(str(tmp_path / "deep" / name))
        print("x")
    assert (tmp_path / "deep" / name).read_text() == "x\n"


def test_no_output_folder_changes_nothing():
    with console_as(io.StringIO()) as console:
        setup_logger(None)
        assert sys.stdout is console
