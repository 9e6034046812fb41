"""How long a table takes on so many GPUs, by the schedule of the real commands and the published times of its runs.

    python scripts/tools/makespan.py all --gpus "1 4 8 64"

Nothing is run: a clock of this program's own goes from one end of a run to the next. No plan can be shorter than the
bound: an equal share of all times, or the longest chain of a training and a test.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterable

from minidassl.own.jobs.schedule import Job, Schedule
from minidassl.own.text import words

from trainers.prompting.errors import InputError, check_name

from .. import estimates
from ..commands import exit_status, make_parser
from ..protocols import PLANS
from ..reproduce import planned_chains
from ..runner import jobs_of
from ..tables.text import lay_out


class Published(estimates.Estimates):
    """Without records."""

    def __init__(self) -> None:
        self._seconds, self._bytes = {}, {}


def makespan(jobs: Iterable[Job], devices: int) -> float:
    """Seconds until the last job ends, where each of so many devices does one at a time."""
    schedule, clock = Schedule(jobs), 0.0
    running: list[tuple[float, str]] = []
    while schedule.open:
        while len(running) < devices and (job := schedule.next()) is not None:
            heapq.heappush(running, (clock + job.seconds, job.name))
        clock, ended = heapq.heappop(running)
        schedule.done(schedule.jobs[ended])
    return clock


def simulate(args: argparse.Namespace) -> int:
    """Print a table; raises InputError for an unknown table, or numbers of GPUs that are none."""
    check_name("TABLE", args.table, (*PLANS, "all"), "--help")
    if not args.gpus or not all(number.isdecimal() and int(number) for number in args.gpus):
        raise InputError(f"--gpus is {' '.join(args.gpus)!r}; give whole numbers from 1, such as '1 4 8 64'.")
    chains = planned_chains([*PLANS] if args.table == "all" else [args.table], False, [], [], [])
    jobs = jobs_of(chains, [run for chain in chains for run in chain], None, (), Published())
    schedule, rows = Schedule(jobs), []
    for number in map(int, args.gpus):
        found, bound = makespan(jobs, number), schedule.bound(number)
        rows.append([number, f"{found / 3600:.2f}", f"{bound / 3600:.2f}", f"{found / bound:.3f}"])
    print(f"{args.table}: {len(jobs)} runs, {sum(job.seconds for job in jobs) / 3600:.0f} hours on one GPU")
    print(lay_out(["GPUs", "hours", "bound", "hours / bound"], rows, right=True))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 2 for wrong input."""
    parser = make_parser(__doc__)
    parser.add_argument("table", metavar="TABLE", help=f"one of {', '.join(PLANS)}, all")
    parser.add_argument("--gpus", type=words, default="1 4 8 64", help="numbers of GPUs (1 4 8 64)")
    return exit_status(simulate, parser.parse_args(argv))
