"""Processes that end with the one that started them. Needs Python's standard library only."""

from __future__ import annotations

import os
import signal
import threading
import time

# Environment variable with the process id of the launcher.
LAUNCHER = "BMIP_LAUNCHER"


def end_with_launcher() -> bool:
    """End this process soon after the launcher that started it, so that no run outlives it; False if none did.

    A process that leads a group ends it as a whole.
    """
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is None:
        return False

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(1)
        if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return True
