"""The engine of many hosts: each attempt is a Ray task with a share of a GPU. Imported only where it is asked for."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from .attempt import FAILED, INTERRUPTED, Doing, Outcome
from .devices import VISIBLE
from .errors import JobsError
from .schedule import Job
from .version import project_version

try:
    import ray
except ImportError as error:
    raise JobsError(
        f"--engine is ray, but Ray cannot be imported ({error}): pip install -r requirements-ray.txt, or leave it out."
    ) from error

LOOK = 3.0  # seconds for which the size of a cluster is believed


def _attempt_on_node(root: str, version: str, job: bytes, doing: bytes, void: str, per_gpu: int) -> Any:
    """A task. Ray sends it by value, so that a node without this project, or with another one, can say so."""
    import os
    import pickle
    import socket
    import sys

    host = socket.gethostname()
    if not os.path.isdir(root):
        return f"{host} has no {root}; all nodes need this project there, on a file system that they share."
    if root not in sys.path:
        sys.path.insert(0, root)
    os.chdir(root)
    try:
        from minidassl.own.jobs.attempt import attempt
        from minidassl.own.jobs.devices import slot_of_task
        from minidassl.own.jobs.version import project_version

        if project_version(root) != version:
            return f"{root} of {host} is another version than that of the host of this command; update it."
        slot = slot_of_task(per_gpu, host)
        return attempt(pickle.loads(job), pickle.loads(doing), slot.label, slot.environment, void)
    except ImportError as error:
        return f"{host}: {error}; install requirements.txt there."


def _check_somebody_answers(address: str) -> None:
    """Raises OSError at once where Ray would ask for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.rpartition("/")[2] or "127.0.0.1", int(port)), timeout=10).close()


class OnRay:
    """Runs jobs on a Ray cluster, or on a Ray of this host that it starts.

    Args:
        root: of the project, the same on all nodes.
        address: of a cluster, such as "auto"; None starts a Ray on this host.
        gpus: names of GPUs, for a Ray on this host.
        per_gpu: runs at once on each GPU.
        cpus: cores of a run, where the cluster has no GPU.
        most: runs at once, where the cluster has no GPU; None for as many as there are cores.

    Raises:
        JobsError: there is no cluster at the address, or one of other versions.
    """

    def __init__(self, root: str, address: str | None, gpus: Sequence[str], per_gpu: int, cpus: int, most: int | None):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self._root, self._version, self._per_gpu, self._most = root, project_version(root), per_gpu, most
        quiet = {"logging_level": "ERROR", "log_to_driver": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves runs beside anything else
        # Ray decides which GPU a task sees; without one, it is to leave the variable alone.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            if address:
                _check_somebody_answers(address)
                ray.init(address=address, **quiet)
            else:
                if gpus:  # else Ray would count from the first
                    os.environ[VISIBLE] = ",".join(gpus)
                ray.init(address="local", num_gpus=len(gpus), include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise JobsError(
                f"--address is {address}: {reason}. Start the cluster with `ray start --head`, with the Ray and "
                "Python of this command, and name its address, or auto on one of its hosts."
            ) from error
        self._on_gpus = ray.cluster_resources().get("GPU", 0) >= 1
        self._cpus = max(1, min(cpus, int(min(node["Resources"].get("CPU", 1) for node in ray.nodes()))))
        share = {"num_cpus": 0, "num_gpus": 1 / per_gpu} if self._on_gpus else {"num_cpus": self._cpus}
        # Its processes stay for further runs, which have processes of their own.
        self._task = ray.remote(max_retries=0, max_calls=0, **share)(_attempt_on_node)
        self._running: dict[Future[Outcome], Any] = {}
        self._room, self._looked, self._told = 0, 0.0, False

    def __str__(self) -> str:
        hosts = len([node for node in ray.nodes() if node["Alive"]])
        kind = "GPUs" if self._on_gpus else "cores"
        return f"Ray on {hosts} node{'s' * (hosts > 1)}, {self.room()} runs at once on {self._devices()} {kind}"

    def _devices(self) -> int:
        return int(ray.cluster_resources().get("GPU" if self._on_gpus else "CPU", 0))

    def room(self) -> int:
        """Jobs that can run at once, with the nodes that there are now."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._room = self._devices() * self._per_gpu if self._on_gpus else self._devices() // self._cpus
            if self._most and not self._on_gpus:
                self._room = min(self._room, self._most)
            if not self._room and not self._told:
                print("The cluster has no node left that can run anything; waiting for one", file=sys.stderr)
            self._told = not self._room
        return self._room

    def submit(self, job: Job, doing: Doing, void: str) -> Future[Outcome]:
        arguments = self._root, self._version, pickle.dumps(job), pickle.dumps(doing), void
        task = self._task.remote(*arguments, self._per_gpu if self._on_gpus else 0)
        future: Future[Outcome] = Future()
        self._running[future] = task

        def settle(ended: Future[Any]) -> None:
            self._running.pop(future, None)
            error = ended.exception()
            if error is None:
                found = ended.result()
                future.set_result(found if isinstance(found, Outcome) else Outcome(FAILED, found))
            elif isinstance(error, ray.exceptions.RayTaskError):
                future.set_result(Outcome(FAILED, str(error.cause)))
            else:  # the worker, its node or the cluster died
                future.set_result(Outcome(INTERRUPTED, f"{type(error).__name__}: the process or host of a run died"))

        task.future().add_done_callback(settle)
        return future

    def close(self) -> None:
        """Kill what runs; the same command goes on from its last state."""
        for task in [*self._running.values()]:
            ray.cancel(task, force=True)
        ray.shutdown()
