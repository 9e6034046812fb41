"""Jobs that are commands of a checkout, with their output in a file."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..processes import LAUNCHER
from .attempt import Doing

LAST_LINES = 3


def why_failed(log: Path, status: int | None) -> str:
    """The last lines of a failed process, or its status where it has printed nothing; nothing if it succeeded."""
    if status == 0:
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-LAST_LINES:]) or f"exit status {status}, and nothing was printed"


@dataclass(frozen=True)
class Command:
    """Words, the folder to start in, and the file of its output."""

    words: tuple[str, ...]
    folder: str
    log: str

    def __str__(self) -> str:
        return shlex.join(self.words)


class CommandProcess:
    """A command in a group of processes of its own, which ends with this one where it calls `end_with_launcher`."""

    def __init__(self, command: Command, environment: Mapping[str, str]):
        self._log = Path(command.log)
        everything = {**os.environ, **environment, LAUNCHER: str(os.getpid())}
        with open(self._log, "wb") as file:
            options = dict(stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            self._process = subprocess.Popen(command.words, cwd=command.folder, env=everything, **options)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def kill(self) -> None:
        """End it, and what it has started and left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def failure(self) -> str:
        """After its end: its last lines if it failed, or nothing."""
        return why_failed(self._log, self._process.returncode)


def _is_done(command: Command) -> bool:
    return False  # such a command looks itself, and ends at once


def _start(command: Command, environment: Mapping[str, str]) -> CommandProcess:
    return CommandProcess(command, environment)


COMMANDS = Doing(_is_done, _start)
