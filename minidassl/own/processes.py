"""Processes that end with the one that started them. Needs Python's standard library only."""

from __future__ import annotations

import os
import threading
import time

# Environment variable with the process id of the launcher.
LAUNCHER = "BMIP_LAUNCHER"


def end_with_launcher() -> bool:
    """End this process soon after the launcher that started it, so that no run outlives it; False if none did."""
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is None:
        return False

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return True
