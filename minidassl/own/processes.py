"""Processes that end with the one that started them. Needs Python's standard library only."""

from __future__ import annotations

import os
import threading
import time

# Environment variable with the process id of the launcher.
LAUNCHER = "BMIP_LAUNCHER"


def end_with_launcher() -> None:
    """End this process soon after the launcher that started it, if one did, so that no run outlives it."""
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is None:
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
