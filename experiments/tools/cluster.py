"""A Ray cluster of this host: a head without devices, and nodes with GPUs that are declared, not there."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Cluster:
    """Each node is a group of processes of its own, so that one can be killed alone."""

    def __init__(self) -> None:
        # Short, because Ray puts sockets there.
        self.folder = tempfile.mkdtemp(prefix="ray")
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "OMP_NUM_THREADS": "1",
        }
        head = ["--head", "--port", self.address.split(":")[1], "--temp-dir", self.folder, "--num-gpus", "0"]
        self.head = self._start(*head, "--num-cpus", "0", "--include-dashboard", "false")
        self.nodes: list[subprocess.Popen] = []

    def _start(self, *flags: str) -> subprocess.Popen:
        """One after the other: two that start at once may not find the head."""
        command = [str(RAY), "start", "--block", "--object-store-memory", "80000000", *flags]
        options = dict(env=self.environment, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ray runtime started" in line:
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return process
        process.wait()
        raise RuntimeError("".join(lines[-20:]))

    def add_node(self, gpus: int) -> subprocess.Popen:
        node = self._start("--address", self.address, "--num-gpus", str(gpus), "--num-cpus", "1")
        self.nodes.append(node)
        return node

    def kill_node(self, node: subprocess.Popen) -> None:
        """With everything on it, as by a loss of power."""
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def close(self) -> None:
        for node in [*self.nodes, self.head]:
            self.kill_node(node)
        shutil.rmtree(self.folder, ignore_errors=True)
