"""Run chains of train.py commands: several at once, nothing twice, and on with the others where one fails."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from launch import ROOT, TINY, Run
from tqdm import tqdm

import train
from trainers.config import build_cfg
from trainers.evaluation import plain_configuration
from trainers.prompting.errors import InputError
from trainers.records import RESULT, changed_settings, check_settings, read_result

LAST_LINES = 3
START_METHODS = multiprocessing.get_all_start_methods()


@dataclass(frozen=True)
class Chain:
    """Runs one after the other: at most one that trains, first, and tests of what it trained.

    Attributes:
        name: for messages.
        runs: commands.
        options: KEY VALUE pairs for all of them.
    """

    name: str
    runs: tuple[Run, ...]
    options: tuple[str, ...] = ()


def is_small(run: Run) -> bool:
    """Whether a run is one of the small CLIP, which gains nothing from several threads."""
    return run.cfg.startswith(TINY)


def is_done(run: Run, trained: Run | None, data: str | None, options: Sequence[str]) -> bool:
    """Whether a run has left its record, with these settings and, for a test, of the weights that are there now.

    Raises:
        InputError: a training run has other settings.
    """
    if not (ROOT / run.output).is_dir():
        return False
    cfg = build_cfg(train.parse_args(run.command(data, list(options))[2:]))
    result = record_of(run)
    if run.trains:
        check_settings(cfg, ROOT / run.output)
        return result is not None and result["trained"]
    if result is None or result["accuracy"] is None or "configuration" not in result:
        return False
    if trained is not None and (record_of(trained) or {}).get("weights_hash") != result["weights_hash"]:
        return False
    return not changed_settings(result["configuration"], plain_configuration(cfg))


def record_of(run: Run) -> dict[str, Any] | None:
    """The record that a run left; None where there is none.

    One that cannot be read is renamed, so that the run starts again, and goes on from its last epoch.
    """
    try:
        return read_result(ROOT / run.output)
    except InputError:
        record = ROOT / run.output / RESULT
        record.replace(record.with_name(f"{RESULT}.damaged"))
        return None


def _run_command(command: Sequence[str], root: str, log: str, one_thread: bool) -> None:
    """In a process of its own: call train.py's `main`, with everything that it prints in a file.

    It ends with its parent, however that ends: started again, the same run must not meet itself.
    """
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait([parent]), os._exit(1)), daemon=True).start()
    os.chdir(root)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if one_thread:
        torch.set_num_threads(1)
    sys.exit(train.main(list(command)))


def process_context() -> Any:
    """Makes processes that have PyTorch imported already, where the system can do so.

    Importing takes longer than many a run of the small CLIP.
    """
    context = multiprocessing.get_context("forkserver" if "forkserver" in START_METHODS else "spawn")
    # Without clip, which asks for CUDA while it is imported: what is forked after that cannot use it.
    context.set_forkserver_preload(["torch", "torchvision", "sklearn.metrics", "tensorboard"])
    return context


def execute(run: Run, data: str | None, options: Sequence[str]) -> str:
    """Run a command; gives its last lines if it failed, or nothing."""
    context = process_context()
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log.txt")
        command = run.command(data, list(options))[2:]
        process = context.Process(target=_run_command, args=(command, str(ROOT), log, is_small(run)))
        process.start()
        process.join()
        if process.exitcode == 0:
            return ""
        lines = Path(log).read_text(errors="replace").splitlines() if os.path.exists(log) else []
        return "\n".join(lines[-LAST_LINES:]) or f"exit status {process.exitcode}, and nothing was printed"


def run_chain(chain: Chain, data: str | None) -> str:
    """Run what is to be run; gives the last lines of what failed, or nothing."""
    trained = next((run for run in chain.runs if run.trains), None)
    for run in chain.runs:
        try:
            if is_done(run, trained, data, chain.options):
                continue
        except InputError as error:
            return str(error)
        failure = execute(run, data, chain.options)
        if failure:
            return failure
    return ""


def run_chains(chains: Sequence[Chain], data: str | None, at_once: int | None = None) -> dict[str, str]:
    """Run all chains, with a progress bar; gives the last lines of those that failed, by their names.

    Args:
        chains: in the order in which they start.
        data: folder of the data sets.
        at_once: how many at the same time; None: one per core with the small CLIP alone, else one.
    """
    small = all(is_small(run) for chain in chains for run in chain.runs)
    failures = {}
    progress = tqdm(total=len(chains), desc="runs", smoothing=0)
    with progress, ThreadPoolExecutor(at_once or (os.cpu_count() if small else 1)) as pool:
        waiting = {pool.submit(run_chain, chain, data): chain for chain in chains}
        try:
            for future in as_completed(waiting):
                name = waiting[future].name
                if future.result():
                    failures[name] = future.result()
                progress.set_postfix_str(name, refresh=False)
                progress.update()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failures


def exit_status(work: Callable[[], int]) -> int:
    """What a script ends with: its own status, 2 for wrong input, 130 when interrupted."""
    try:
        return work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130
