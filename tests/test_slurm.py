"""The recipe for Slurm on a Slurm of this host, with two nodes that have a GPU each by its books."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from tests.helpers.clone import ROOT, RUNS, Clone, each_once, left_running, needs_ray, shared_slots
from tests.helpers.slurm import Slurm, obstacle

RECIPE = "scripts/cluster/slurm.sh"
NODES = 2


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def expected(clone):
    """The records of one run after another, without Slurm and Ray."""
    clone.finish("--jobs", "1")
    records = clone.records()
    assert len(records) == RUNS
    clone.clear()
    return records


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := obstacle():
        pytest.skip(reason)
    slurm = Slurm(tmp_path_factory.mktemp("slurm"), nodes=NODES, gpus=1)
    yield slurm
    slurm.close()


@pytest.fixture
def submit(slurm, clone):
    """Submits a batch script as a user would; gives the job's number."""

    def submit(*words: str, **environment: str) -> str:
        output = f"--output={clone.folder}/job-%j"
        command = ["sbatch", "--parsable", f"--chdir={clone.folder}", "--gpus-per-node=1", output, *words]
        return slurm.call(*command, PYTHON=sys.executable, OMP_NUM_THREADS="1", **environment).strip()

    yield submit
    clone.clear()


@pytest.fixture
def recipe(clone):
    """What is submitted: the recipe with the reproduction."""
    return [f"--nodes={NODES}", str(clone.folder / RECIPE), *clone.command[1:]]


def log_of(job: str, clone: Clone) -> str:
    return (clone.folder / f"job-{job}").read_text()


@needs_ray
def test_a_job_gives_the_records_of_one_process_on_all_its_nodes(slurm, submit, recipe, clone, expected):
    job = submit(*recipe)
    facts = slurm.wait(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), log_of(job, clone)[-3000:]
    assert f"Runs on Ray on {NODES} nodes, {NODES} runs at once on {NODES} GPUs" in log_of(job, clone)
    assert clone.records() == expected and each_once(clone) and not shared_slots(clone)
    assert len({slot.split("/")[0] for _, slot, *_ in clone.lives()}) == NODES
    assert not left_running(clone)


@needs_ray
def test_a_job_that_was_cancelled_and_requeued_goes_on_when_it_starts_again(slurm, submit, recipe, clone, expected):
    job = submit(*recipe)
    clone.until_runs_live(1)
    slurm.call("scancel", job)
    assert slurm.wait(job)["JobState"] == "CANCELLED" and not left_running(clone)
    before = len(list(clone.notes.iterdir()))
    job = submit(*recipe)
    clone.until_runs_live(before + 1)
    slurm.call("scontrol", "requeue", job)
    facts = slurm.wait(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "1"), log_of(job, clone)
    assert clone.records() == expected and not [*clone.folder.rglob(".claim-*")]
    assert not left_running(clone)


@needs_ray
def test_a_job_ends_with_the_exit_status_of_its_command(slurm, submit, recipe, clone):
    job = submit(*recipe, "--per-gpu", "0")
    facts = slurm.wait(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "2:0"), log_of(job, clone)
    assert "--per-gpu is 0" in log_of(job, clone)


@needs_ray
def test_a_job_in_which_ray_cannot_start_fails(slurm, submit, recipe, clone):
    job = submit("--nodes=1", *recipe[1:], RAY_TMPDIR="/dev/null/nowhere")
    assert slurm.wait(job)["ExitCode"] == "2:0" and "error: Ray has not started" in log_of(job, clone)


def test_jobs_without_ray_on_two_hosts_share_the_work(slurm, submit, clone, expected):
    tasks = submit(f"--array=1-{NODES}", "--exclusive", "--wrap", shlex.join([*clone.command, "--jobs", "1"]))
    for task in range(1, NODES + 1):
        facts = slurm.wait(f"{tasks}_{task}")
        assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), log_of(facts["JobId"], clone)
    assert clone.records() == expected and each_once(clone)
    assert len({slot.split("/")[0] for _, slot, *_ in clone.lives()}) == NODES


@pytest.mark.parametrize(
    ("environment", "words", "text"),
    [
        ({}, ["scripts/reproduce.py"], "give the script to sbatch"),
        ({"SLURM_JOB_ID": "1"}, [], "no command is given"),
        ({"SLURM_JOB_ID": "1"}, ["reproduce.py"], "has no reproduce.py; submit from the repository's root"),
        ({"SLURM_JOB_ID": "1", "PYTHON": "no-python"}, ["scripts/reproduce.py"], "set PYTHON to one with Ray"),
        ({"SLURM_JOB_ID": "1", "PYTHON": "true"}, ["scripts/reproduce.py"], "pip install -r requirements-ray.txt"),
    ],
)
def test_a_job_that_cannot_start_says_in_one_line_how_it_could(tmp_path, environment, words, text):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "reproduce.py").touch()
    command = ["bash", str(ROOT / RECIPE), *words]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": os.defpath, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 2 and text in done.stderr and len(done.stderr.splitlines()) == 1
