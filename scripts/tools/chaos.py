"""Kill trainings, comparisons, clusters and installations at random moments, and count what comes through unharmed.

    python scripts/tools/chaos.py [--minutes 20] [--seed 0]

Everything happens in a copy of the repository, in a temporary folder, with `kill -9`:

* a training is killed once or twice and started again; its weights must be those of an undisturbed run, to the bit;
* a comparison of two methods is killed, and must leave no process behind; started again, it must print the
  undisturbed table, but for seconds and GiB;
* a reproduction runs on Ray, on a head and two nodes of this host; a run, a worker, a node or the command itself is
  killed; started again, it must have the undisturbed records, to the bit, and no run may be left;
* an installation of the plugin into a checkout with files in its way, or its removal, is killed; after the promised
  removal, every byte of the checkout must be as before.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minidassl.own.jobs.version import parts

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["OPTIM.MAX_EPOCH", "6", "TRAIN.PRINT_FREQ", "1"]
TRAINING = [
    *("train.py", "--seed", "1", "--trainer", "BMIP", "--dataset-config-file", "configs/datasets/digits.yaml"),
    *("--config-file", "configs/trainers/BMIP/tiny.yaml"),
]
REPRODUCTION = ["scripts/reproduce.py", "base2new", "--datasets", "digits", "--methods", "BMIP MaPLe", "--seeds", "1"]
REPRODUCTION += ["--tag", "short"]
COMPARISON = ["scripts/compare.py", "digits", "1", "MaPLe BMIP", *OPTIONS]
# Columns of a comparison that differ from run to run are after these.
SAME_COLUMNS = 6
OWN_FILES = ("configs/trainers/BMIP/tiny.yaml", "scripts/bmip/compare.sh", "minidassl/engine.py")


class Repository:
    """A copy of this one, and commands in it."""

    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        for name in parts(ROOT):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    def start(self, command: list[str]) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=environment, **pipes)

    def finish(self, command: list[str]) -> str:
        """What a command prints; RuntimeError if it fails."""
        process = self.start(command)
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{output[-2000:]}")
        return output

    def kill(self, command: list[str], most_seconds: float) -> list[psutil.Process]:
        """Start a command and kill it within so many seconds; gives its children that are alive 5 s later."""
        process = self.start(command)
        time.sleep(self.rng.uniform(0, most_seconds))
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return psutil.wait_procs(children, timeout=5)[1]
        return []


class Training:
    """Weights and accuracy of a training that was killed are those of one that was not."""

    def __init__(self, repository: Repository):
        self.repository, self.runs = repository, 0
        start = time.monotonic()
        self.expected = self.result(self.command())
        self.seconds = time.monotonic() - start

    def command(self) -> list[str]:
        self.runs += 1
        return [*TRAINING, "--output-dir", f"output/chaos/{self.runs}", *OPTIONS]

    def result(self, command: list[str]) -> tuple:
        self.repository.finish(command)
        record = json.loads((self.repository.folder / f"output/chaos/{self.runs}/result.json").read_text())
        return record["weights_hash"], record["accuracy"], record["per_class"]

    def survives(self) -> bool:
        command = self.command()
        for _ in range(self.repository.rng.randint(1, 2)):
            if self.repository.kill(command, self.seconds):
                return False
        return self.result(command) == self.expected


class Comparison:
    """A killed comparison leaves no process, and ends in the table of an undisturbed one."""

    def __init__(self, repository: Repository):
        self.repository = repository
        start = time.monotonic()
        self.expected = self.table()
        self.seconds = time.monotonic() - start

    def table(self) -> list[list[str]]:
        output = self.repository.finish(COMPARISON)
        rows = [line.split() for line in output[output.index("accuracy in per cent") :].splitlines()[1:]]
        return [row[:SAME_COLUMNS] for row in rows if row and row[0] in ("MaPLe", "BMIP")]

    def survives(self) -> bool:
        shutil.rmtree(self.repository.folder / "output" / "open_world", ignore_errors=True)
        return not self.repository.kill(COMPARISON, self.seconds) and self.table() == self.expected


class Reproduction:
    """On a cluster of which parts are killed, records are those of an undisturbed one, and no run is left."""

    FACTS = ("weights_hash", "accuracy", "per_class", "open_world")

    def __init__(self, repository: Repository):
        from experiments.tools.cluster import Cluster  # here, because only this needs Ray

        self.repository, self.victims = repository, Counter()
        self.output = repository.folder / "output"
        self.cluster = Cluster()
        atexit.register(self.cluster.close)
        os.environ.update(self.cluster.environment)
        self.nodes = [self.cluster.add_node(gpus=1) for _ in range(2)]
        self.command = [*REPRODUCTION, "--engine", "ray", "--address", self.cluster.address, *OPTIONS]
        start = time.monotonic()
        self.expected = self.records()
        self.seconds = time.monotonic() - start

    def records(self) -> dict[str, tuple]:
        """Of the command, from its start to its end."""
        self.repository.finish(self.command)
        found = {str(path): json.loads(path.read_text()) for path in self.output.rglob("result.json")}
        return {name: tuple(record[fact] for fact in self.FACTS) for name, record in found.items()}

    def runs(self) -> list[psutil.Process]:
        """Processes of runs, whose output goes into their folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.readlink(f"/proc/{process.pid}/fd/1").startswith(str(self.output)):
                    found.append(process)
        return found

    def survives(self) -> bool:
        shutil.rmtree(self.output, ignore_errors=True)
        process = self.repository.start(self.command)
        time.sleep(self.repository.rng.uniform(0, self.seconds))
        kind = self.repository.rng.choice(["run", "worker", "node", "command"])
        while kind == "run" and process.poll() is None and not self.runs():
            time.sleep(0.1)
        with contextlib.suppress(psutil.NoSuchProcess):
            if kind == "command":
                process.kill()
            elif kind == "node":
                node = self.nodes.pop(self.repository.rng.randrange(2))
                self.cluster.kill_node(node)
                self.nodes.append(self.cluster.add_node(gpus=1))
            else:
                workers = [one for one in psutil.process_iter() if one.name().startswith("ray::_attempt")]
                chosen = self.runs() if kind == "run" else workers
                if not chosen:
                    kind = "nothing"
                for one in chosen[:1]:
                    one.kill()
        self.victims[kind] += 1
        process.communicate()
        return self.records() == self.expected and not psutil.wait_procs(self.runs(), timeout=10)[1]


class Installation:
    """After a killed installation or removal, and another removal, a checkout is as before."""

    def __init__(self, repository: Repository):
        self.repository, self.checkout = repository, repository.folder / "checkout"
        texts = dict.fromkeys(OWN_FILES, "mine\n") | {"train.py": "import datasets.flowers\nimport trainers.coop\n"}
        for name in ("datasets/flowers.py", "trainers/coop.py", "configs/datasets/flowers.yaml"):
            texts[name] = ""
        for name, text in texts.items():
            path = self.checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.before = self.snapshot()
        start = time.monotonic()
        self.do("--force")
        self.seconds = time.monotonic() - start
        self.do("--uninstall")

    def command(self, flag: str) -> list[str]:
        return ["scripts/install_plugin.py", str(self.checkout), flag]

    def do(self, flag: str) -> int:
        process = self.repository.start(self.command(flag))
        process.communicate()
        return process.returncode

    def snapshot(self) -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in self.checkout.rglob("*")}

    def survives(self) -> bool:
        choice = self.repository.rng.choice(["install", "install again", "uninstall"])
        if choice != "install":
            self.do("--force")
        self.repository.kill(self.command("--uninstall" if choice == "uninstall" else "--force"), self.seconds)
        if self.repository.rng.random() < 0.5 and self.do("--force"):
            return False
        self.do("--uninstall")
        return self.snapshot() == self.before


KINDS: dict[str, Callable] = {
    "training": Training,
    "comparison": Comparison,
    "reproduction": Reproduction,
    "installation": Installation,
}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 if everything survived, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="for all kinds together; default: 20")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    args = parser.parse_args(argv)
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(Path(folder), random.Random(args.seed))
        for name in args.only:
            kind, end = KINDS[name](repository), time.monotonic() + 60 * args.minutes / len(args.only)
            survived = tried = 0
            while time.monotonic() < end:
                tried += 1
                survived += kind.survives()
                victims = f" {dict(kind.victims)}" if hasattr(kind, "victims") else ""
                print(f"{name}: {survived} of {tried} survived{victims}", flush=True)
            counts[name] = survived, tried
    print(tabulate([[name, *count] for name, count in counts.items()], ["", "survived", "tried"]))
    return 0 if all(survived == tried for survived, tried in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
