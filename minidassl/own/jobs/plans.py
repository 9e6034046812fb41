"""What commands mean to do, in the folder of their results, for those who look from elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..files import write_whole
from .schedule import Job

FOLDER = ".plans"


@dataclass(frozen=True)
class Planned:
    """A job of a plan."""

    name: str
    folder: Path
    seconds: float
    needs: str | None


def write(output: Path, jobs: Iterable[Job]) -> None:
    """Write a plan below a folder of results; the same command replaces its former one, from wherever it runs."""
    name = hashlib.sha256("\0".join(sys.argv[1:]).encode()).hexdigest()[:16]
    content = {
        "command": sys.argv,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "jobs": [[job.name, os.path.relpath(job.folder, output), round(job.seconds, 1), job.needs] for job in jobs],
    }
    write_whole(output / FOLDER / f"{name}.json", json.dumps(content))


def read(output: Path) -> Iterator[tuple[dict, list[Planned]]]:
    """The plans of a folder of results, the oldest first; what is none is left out."""
    paths = sorted((output / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        with suppress(OSError, ValueError, LookupError, TypeError):
            plan = json.loads(path.read_text())
            jobs = [
                Planned(str(name), output / folder, float(seconds), needs)
                for name, folder, seconds, needs in plan.pop("jobs")
            ]
            yield plan, jobs
