"""Where upstream's code is: Dassl by DASSL_ROOT, unless it is installed, and checkouts by <NAME>_ROOT."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DASSL_ROOT = os.environ.get("DASSL_ROOT", "")


def environment(upstream: bool = True, **more: str) -> dict[str, str]:
    """Of a process that runs on upstream Dassl, or on the stand-in."""
    return {
        **os.environ,
        "PYTHONPATH": DASSL_ROOT if upstream else "",
        "OMP_NUM_THREADS": "1",
        "OUTDATED_IGNORE": "1",
        **more,
    }


def why_no_dassl() -> str | None:
    """The reason for which upstream Dassl cannot be used here, if there is one."""
    command = [sys.executable, "-c", "import dassl.engine"]
    tried = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    return f"upstream Dassl cannot be imported (DASSL_ROOT): {tried.stderr.strip().splitlines()[-1]}"


def root(name: str) -> Path:
    """The checkout of a repository; without one the test is skipped."""
    variable = f"{name.upper()}_ROOT"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout of {name}")
    return Path(os.environ[variable])
