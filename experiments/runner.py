"""Run train.py commands: several at once, on one host or many, nothing twice, and on with the others where one fails.

A chain is at most one run that trains, first, and tests of what it trained, which can run at once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import platform
import shlex
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from minidassl.own.jobs import plans
from minidassl.own.jobs.attempt import Doing
from minidassl.own.jobs.commands import why_failed
from minidassl.own.jobs.devices import THREADS, visible_gpus
from minidassl.own.jobs.drive import Failure, drive
from minidassl.own.jobs.flags import LOCAL, check_flags, engine_of
from minidassl.own.jobs.progress import Progress
from minidassl.own.jobs.schedule import Job

import train
import trainers
from trainers.prompting.errors import InputError
from trainers.records import LOGITS, RESULT, changed_settings, other_settings, plain_values, read_result

from . import ROOT, methods, runs
from .estimates import Estimates
from .runs import Run, check_folder

OUTPUT = ".output"  # of a run while it runs, and after it has failed


def check_plan(
    chains: Sequence[Sequence[Run]], data: str | None, options: Sequence[str], advice: str, force: bool = False
) -> list[Run]:
    """Check before the first run of a plan all that needs neither CLIP nor images; gives the runs that are missing.

    Args:
        advice: what helps against folders of runs with other settings, for the end of the message.
        force: such folders are trained in again.

    Raises:
        InputError: a configuration that train.py would refuse, a folder of another run or that cannot be written in.
    """
    # Here, because they import torch.
    from trainers.base import check_configuration
    from trainers.config import build_cfg

    trainers.register_all()
    _configuration.cache_clear()
    all_runs = [run for chain in chains for run in chain]
    # Neither a seed nor a folder makes a configuration invalid, and a data set does so for any method.
    different = {
        part: run for run in all_runs for part in (run.dataset, (run.method, run.recipe, run.options, run.trains))
    }
    for run in dict.fromkeys(different.values()):
        file = methods.config_file(run.trainer, run.recipe)
        if not (ROOT / file).parent.is_dir():
            raise InputError(f"There is no {file}; name a YAML file of yours, as {run.method}:FILE.yaml.")
        try:
            cfg = build_cfg(arguments_of(run, data, options))
            with as_from_root():
                check_configuration(cfg, run.trains)
        except InputError as error:
            raise InputError(f"{run.method} on {run.dataset}: {error}") from error
    others: dict[str, list[str]] = defaultdict(list)
    for run in all_runs if not force else ():
        if run.trains and run.folder.is_dir():
            record_of(run)
            try:
                changed = other_settings(configuration_of(run, data, options), run.folder, "Restore it")
            except InputError as error:
                changed = [str(error)]
            if changed:
                others["; ".join(changed)].append(run.output)
    if others:
        listed = "; ".join(f"{changes} in {', '.join(folders)}" for changes, folders in others.items())
        raise InputError(f"Runs with other settings are in the folders of this plan: {listed}. {advice}")
    missing = [run for chain in chains for run in chain if (force and run.trains) or not is_done(run, data, options)]
    for run in missing:
        check_folder(run.folder)
    return missing


def arguments_of(run: Run, data: str | None, options: Sequence[str]) -> argparse.Namespace:
    """Those of its train.py command, from any folder."""
    args = train.parse_args(run.command(data, options)[2:])
    args.config_file, args.dataset_config_file = (
        str(ROOT / file) for file in (args.config_file, args.dataset_config_file)
    )
    return args


def configuration_of(run: Run, data: str | None, options: Sequence[str]) -> dict[str, Any]:
    """Its configuration as plain data, without its folders."""
    common = _configuration(replace(run, seed=None, output="", model_dir=None), data, tuple(options))
    return common if run.seed is None else {**common, "SEED": run.seed}


@functools.cache
def _configuration(run: Run, data: str | None, options: tuple[str, ...]) -> dict[str, Any]:
    from trainers.config import build_cfg  # here, because it imports torch

    trainers.register_all()
    return plain_values(build_cfg(arguments_of(run, data, options)))


@contextlib.contextmanager
def as_from_root() -> Iterator[None]:
    """Relative paths of a block are those of the commands, which run in the repository's root."""
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)


def is_done(run: Run, data: str | None, options: Sequence[str]) -> bool:
    """Whether a run has left its record, with these settings and, for a test, of the weights that are there now.

    Raises InputError where a training run has other settings.
    """
    args = train.parse_args(run.command(data, options)[2:])
    if not run.folder.is_dir() or args.summary or args.no_train:
        return False
    configuration, result = configuration_of(run, data, options), record_of(run)
    if run.trains:
        if changed := other_settings(configuration, run.folder):
            raise InputError(f"{run.output} holds a run with other settings: {'; '.join(changed)}. Move it away.")
        return result is not None and result["trained"]
    if result is None or result["accuracy"] is None or "configuration" not in result:
        return False
    if configuration["TEST"]["SAVE_LOGITS"] and not (run.folder / LOGITS).is_file():
        return False
    trained = None
    with suppress(InputError):
        trained = run.model_dir and read_result(runs.ROOT / run.model_dir)
    # Released weights have no record, and are tested again.
    is_of_these = run.model_dir is None or (trained or {}).get("weights_hash") == result["weights_hash"]
    return is_of_these and not changed_settings(result["configuration"], configuration)


def record_of(run: Run) -> dict[str, Any] | None:
    """The record that a run left. One that cannot be read is renamed, so that the run goes on from its last epoch."""
    try:
        return read_result(run.folder)
    except InputError:
        record = run.folder / RESULT
        record.replace(record.with_name(f"{RESULT}.damaged"))
        return None


def _run_command(command: Sequence[str], root: str, log: str, environment: Mapping[str, str]) -> None:
    """In a process of its own: call train.py's `main`, with everything that it prints in a file.

    It ends with its parent, however that ends: started again, the same run must not meet itself.
    """
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait([parent]), os._exit(1)), daemon=True).start()
    os.chdir(root)
    os.environ.update(environment)  # before anything has asked for CUDA
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # see start_server
    if THREADS in environment:
        import torch

        torch.set_num_threads(int(environment[THREADS]))
    sys.exit(train.main(list(command)))


def process_context() -> Any:
    """Makes processes with PyTorch imported, where the system can: that takes longer than many a small run."""
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    # Without clip, which asks for CUDA while it is imported: what is forked after that cannot use it.
    context.set_forkserver_preload(["torch", "torchvision", "sklearn.metrics", "tensorboard"])
    return context


def start_server(context: Any) -> None:
    """Start the process that forks those of runs, and wait until it has imported its libraries.

    Meanwhile an interrupt is this process's alone: in the server it is blocked, and in what that forks.
    """
    if context.get_start_method() == "forkserver":
        resource_tracker.ensure_running()  # first, because its start unblocks interrupts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    first = context.Process(target=int)
    first.start()
    first.join()


# To start a process is also to ask all others whether they have ended. Each says so once: of two threads that ask at
# the same time, one would learn that it has failed.
_processes = threading.Lock()


class RunProcess:
    """A run in a process of its own, whose output is in its folder until it has succeeded."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]):
        # In the run's folder, where a later start finds and replaces what a killed one has left.
        self.log = folder / OUTPUT
        arguments = (command, str(runs.ROOT), str(self.log), environment)
        self._process = process_context().Process(target=_run_command, args=arguments)
        with _processes:
            self._process.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, within so many seconds."""
        return bool(wait([self._process.sentinel], seconds))

    def kill(self) -> None:
        """End it, if it has not ended; it goes on from its last epoch when it is started again."""
        with _processes:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()

    def failure(self) -> str:
        """After its end: its last lines if it failed, or nothing."""
        failure = why_failed(self.log, self._process.exitcode)
        if not failure:
            self.log.unlink()
        return failure


@dataclass(frozen=True)
class Work:
    """A run, for any host that has this project in the same folder."""

    run: Run
    data: str | None
    options: tuple[str, ...]  # for train.py


def work_is_done(work: Work) -> bool:
    return is_done(work.run, work.data, work.options)


def start_work(work: Work, environment: Mapping[str, str]) -> RunProcess:
    # The matrix products of the small CLIP gain nothing from several threads.
    environment = {**environment, THREADS: "1"} if work.run.is_small else environment
    return RunProcess(work.run.command(work.data, work.options)[2:], work.run.folder, environment)


def jobs_of(
    chains: Iterable[Sequence[Run]], missing: Iterable[Run], data: str | None, options: Sequence[str], known: Estimates
) -> list[Job]:
    """A job for each run that is missing; tests need the training of their model, where that is missing."""
    missing = set(missing)
    jobs = []
    for chain in chains:
        trained = {run.output for run in chain if run.trains and run in missing}
        for run in chain:
            if run in missing:
                needs = run.model_dir if run.model_dir in trained else None
                work = Work(run, data, tuple(options))
                jobs.append(Job(run.output, run.folder, work, known.seconds(run), needs))
    return jobs


def run_chains(
    chains: Sequence[Sequence[Run]],
    missing: Sequence[Run],
    data: str | None,
    options: Sequence[str],
    flags: argparse.Namespace,
) -> list[str]:
    """Run what is missing of chains, longest first; gives for each failed run its folder, last lines, log and command.

    Args:
        options: for train.py, for all runs.
        flags: those of `minidassl.own.jobs.flags`.

    Raises:
        JobsError: the flags name devices that there are not, or a cluster.
    """
    check_flags(flags)
    if not missing:
        return []
    small, known = all(run.is_small for run in missing), estimates()
    jobs = jobs_of(chains, missing, data, options, known)
    engine = engine_of(flags, runs.ROOT, small, known.bytes_needed(small, bool(visible_gpus())))
    if flags.engine == LOCAL:
        start_server(process_context())
    plans.write(runs.ROOT / "output", jobs)
    failures = drive(jobs, Doing(work_is_done, start_work), engine, flags.retries, Progress(engine.room))
    return [text_of(failure) for failure in failures]


def estimates() -> Estimates:
    """By the records of this host's kind of device."""
    gpus = visible_gpus()
    device = gpus[0].model if gpus else platform.processor() or platform.machine()
    return Estimates(runs.ROOT / "output", device)


def text_of(failure: Failure) -> str:
    """What a user wants to know of a run that failed."""
    work = failure.job.work
    lines = [f"{failure.job.name} failed:", failure.text]
    if (log := work.run.folder / OUTPUT).is_file():
        lines.append(f"  its output: {log}")
    lines.append(f"  its command: {shlex.join(work.run.command(work.data, work.options))}")
    if failure.lost:
        lines.append(f"  not run, since they need it: {', '.join(job.name for job in failure.lost)}")
    return "\n".join(lines)


def report_failures(failures: Sequence[str]) -> int:
    """Print them; gives the exit status."""
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0
