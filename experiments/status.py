"""What is done, running, waiting and failed of the commands of a folder of results, from any host that sees it.

python scripts/status.py [RESULTS]
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from minidassl.own.jobs import claims, plans
from minidassl.own.jobs.plans import Planned
from minidassl.own.jobs.progress import duration
from minidassl.own.text import printable

from trainers.prompting.errors import InputError
from trainers.records import read_result

from . import runs
from .commands import exit_status, make_parser
from .runner import OUTPUT
from .tables.text import lay_out

STATES = DONE, RUNNING, WAITING, FAILED = "done", "running", "waiting", "failed"


def state_of(job: Planned) -> tuple[str, claims.Owner | None]:
    """The state of a run, and who holds its folder."""
    owner, is_done = claims.holder(job.folder), False
    with suppress(InputError):
        result = read_result(job.folder)
        is_done = result is not None and (result["trained"] or result["accuracy"] is not None)
    # One that was killed between its result and its end has left a claim that nobody renews.
    if owner is not None and not owner.is_dead and not (is_done and heartbeat(owner, job.folder)):
        return RUNNING, owner
    return (DONE if is_done else FAILED if (job.folder / OUTPUT).is_file() else WAITING), None


def heartbeat(owner: claims.Owner, folder: Path) -> str:
    """How long another host has not renewed its claim, by this host's clock, where that is too long; else nothing."""
    with suppress(OSError, ValueError):
        age = time.time() - max(path.stat().st_mtime for path in folder.glob(".claim-*"))
        if age > claims.SILENT and owner.machine != claims.machine():
            return f"no sign for {duration(age)}, or the hosts' clocks differ"
    return ""


def summary(jobs: Iterable[Planned]) -> list[str]:
    """Lines for the runs of all plans: counts, what runs where, what failed."""
    states = {job.name: (job, *state_of(job)) for job in jobs}
    found = {state: [(job, owner) for job, one, owner in states.values() if one == state] for state in STATES}
    lines = [", ".join(f"{len(of_state)} {state}" for state, of_state in found.items())]
    open_seconds = sum(job.seconds for state in (RUNNING, WAITING, FAILED) for job, _ in found[state])
    if found[RUNNING] and open_seconds:
        lines[0] += f"; about {duration(open_seconds / len(found[RUNNING]))} left with as many at once as now"
    rows = [
        [job.name, owner.where, owner.host, owner.process, duration(owner.seconds), heartbeat(owner, job.folder)]
        for job, owner in found[RUNNING]
    ]
    if rows:
        lines += ["", lay_out(["running", "on", "host", "process", "for", ""], rows)]
    for job, _ in found[FAILED]:
        lines += ["", f"failed or stopped, and not running now: {job.name}", f"  {job.folder / OUTPUT}"]
    return lines


def status(args: argparse.Namespace) -> int:
    """Print it; raises InputError where the folder has no plan."""
    output = Path(args.results).absolute() if args.results else runs.ROOT / "output"
    known = [*plans.read(output)]
    if not known:
        raise InputError(
            f"{output} has no plan of a command. reproduce.py and compare.py leave one in their output; name it."
        )
    for plan, jobs in known:
        command = shlex.join(map(str, plan["command"]))
        print(
            printable(
                f"{command}: {len(jobs)} runs, by process {plan['process']} on {plan['host']}, {plan['written']}"
            )
        )
    print(printable("\n".join(["", *summary(job for _, jobs in known for job in jobs)]), keep="\n"))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 2 for wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("results", nargs="?", help="folder of results; default: output")
    return exit_status(status, parser.parse_args(argv))
