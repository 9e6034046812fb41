"""The work of `scripts/gpu_check.sh`: the CUDA tests, then the benchmark, within some minutes of a device."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from minidassl.own.files import write_whole

import torch

from . import benchmark

ROOT = Path(__file__).resolve().parents[2]
TESTS_SHARE = 0.4  # of the minutes, at most
FAILURES = ("failed", "cannot be recorded")  # remarks that no row should have
LAST_ROW = 20  # seconds that the last row may take


def run(args: argparse.Namespace) -> int:
    """Test and measure; returns the status, which is 0 if all tests passed."""
    start = time.monotonic()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no CUDA device; --device cpu tries the script without one")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": benchmark.machine(args.device)}
    print(benchmark.shown({**content, "records": []}).splitlines()[0], flush=True)
    status, content["tests"] = test(args.device, 60 * args.minutes * TESTS_SHARE)
    print(content["tests"], flush=True)
    write_whole(args.out, json.dumps({**content, "records": []}, indent=2) + "\n")
    cases = benchmark.gpu_cases(args.backbone)
    if args.device == "cpu":
        cases = [(task, [entry for entry in entries if not entry.graph]) for task, entries in cases]
        cases = [case for case in cases if case[1]]
    if args.authors:
        os.environ[benchmark.CHECKOUT] = str(args.authors)
        cases = [benchmark.with_authors(case) for case in cases]
    end = start + 60 * args.minutes - LAST_ROW
    benchmark.measure_all(content, cases, args.device, args.repeats, args.out, end)
    print("", benchmark.shown(content), f"\nWritten: {args.out}", sep="\n")
    failed = [record for record in content["records"] if record["remark"] in FAILURES]
    return 1 if status or failed else 0


def test(device: str, seconds: float) -> tuple[int, str]:
    """Run the tests that are marked cuda; returns pytest's status and a line for readers."""
    command = [sys.executable, "-m", "pytest", "tests/test_cuda.py", "-m", "cuda", "-q", "--tb=short", "-rf"]
    command += ["-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(max(1, min(12, (os.cpu_count() or 1) - 2)))]
    print("$", *command, flush=True)
    begin = time.monotonic()
    # Its own processes end with it.
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "CHECKED_DEVICE": device},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            status = 1
            output += f"\nstopped after {seconds:.0f} s"
    print(output, flush=True)
    lines = [line for line in output.splitlines() if re.search(r"\b(passed|failed|stopped after|no tests)\b", line)]
    summary = lines[-1].strip("= ") if lines else "no summary"
    return status, f"CUDA tests: {summary} ({time.monotonic() - begin:.0f} s with their start)"
