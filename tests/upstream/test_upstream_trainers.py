"""Upstream's own trainers, unchanged, run on the stand-in, and do there what they do on upstream Dassl, step by step.

Needs checkouts named by COOP_ROOT and MAPLE_ROOT; those that are not named are skipped. The comparison needs upstream
Dassl as well, installed or named by DASSL_ROOT. There, what breaks on current torch is mended; see run_checkout.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import make_clip
from dataset_trees import write_tree
from helpers.runs import assert_same_state
from helpers.upstream import environment, root, why_no_dassl

RUNNER = Path(__file__).with_name("run_checkout.py")
# MaPLe's deep text prompts are 512 wide and its vision prompts 768, whatever the checkpoint.
SIZES = dict(transformer_width=512, transformer_heads=8, vision_width=768, embed_dim=128)


@dataclass(frozen=True)
class Case:
    """A trainer of a checkout, the folder of its checkpoints, and keys that fit the small CLIP."""

    checkout: str
    trainer: str
    config: str
    model: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.checkout}'s {self.trainer}"


CASES = (
    Case("CoOp", "CoOp", "vit_b16_ep50_ctxv1", "prompt_learner", ("DATALOADER.TRAIN_X.BATCH_SIZE", "4")),
    Case("CoOp", "CoCoOp", "vit_b16_c4_ep10_batch1_ctxv1", "prompt_learner", ("DATALOADER.TRAIN_X.BATCH_SIZE", "4")),
    Case(
        "MaPLe",
        "MaPLe",
        "vit_b16_c2_ep5_batch4_2ctx",
        "MultiModalPromptLearner",
        ("TRAINER.MAPLE.PROMPT_DEPTH", "3"),
    ),
)


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request) -> Case:
    root(request.param.checkout)
    return request.param


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """A folder with a EuroSAT tree and the weights of a small CLIP."""
    folder = tmp_path_factory.mktemp("given")
    write_tree(folder, "EuroSAT")
    torch.save(make_clip(**SIZES).state_dict(), folder / "clip.pt")
    return folder


def run(case: Case, given: Path, side: str, output: Path, *arguments: str, classes: str = "base", options=()) -> str:
    done = subprocess.run(
        [
            *(sys.executable, str(RUNNER), side, str(given / "clip.pt"), "train.py", "--root", str(given)),
            *("--seed", "1", "--trainer", case.trainer, "--output-dir", str(output)),
            *("--dataset-config-file", "configs/datasets/eurosat.yaml"),
            *("--config-file", f"configs/trainers/{case.trainer}/{case.config}.yaml", *arguments),
            *("INPUT.SIZE", "(32, 32)", "DATASET.NUM_SHOTS", "8", "DATASET.SUBSAMPLE_CLASSES", classes),
            *("OPTIM.MAX_EPOCH", "2", "TRAIN.PRINT_FREQ", "1", "DATALOADER.NUM_WORKERS", "0"),
            *(*case.options, *options),
        ],
        cwd=root(case.checkout),
        env=environment(side == "upstream", PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert ("Dassl: built-in stand-in" in done.stdout) == (side == "stand-in")
    return done.stdout


@pytest.fixture(scope="module")
def on_standin(case, given, tmp_path_factory) -> tuple[str, Path]:
    """What a training run on the stand-in prints, and its output folder."""
    output = tmp_path_factory.mktemp("standin") / "run"
    return run(case, given, "stand-in", output), output


def losses(output: str) -> list[str]:
    return re.findall(r"epoch \[.*?\] batch \[.*?\] .* (loss \S+ \(\S+\).* lr \S+) eta", output)


def accuracy(output: str) -> list[str]:
    return re.findall(r"\* (\w+: \S+%)", output)


def checkpoint(case: Case, folder: Path) -> dict:
    return torch.load(folder / case.model / "model.pth.tar-2", weights_only=False)


def test_it_trains_tests_and_saves_on_the_standin(case, on_standin):
    printed, folder = on_standin
    assert len(losses(printed)) == 10
    assert len(accuracy(printed)) == 3
    saved = checkpoint(case, folder)
    assert saved["epoch"] == 2 and saved["state_dict"]


def test_what_it_saved_on_the_standin_is_tested_on_new_classes_there(case, given, on_standin, tmp_path):
    arguments = ("--eval-only", "--model-dir", str(on_standin[1]), "--load-epoch", "2")
    printed = run(case, given, "stand-in", tmp_path / "new", *arguments, classes="new")
    assert "Loading weights to" in printed and len(accuracy(printed)) == 3


def test_a_stopped_run_goes_on_to_the_same_end_on_the_standin(case, given, on_standin, tmp_path):
    every = ("TRAIN.CHECKPOINT_FREQ", "1")
    run(case, given, "stand-in", tmp_path / "every", options=every)
    (tmp_path / "begun" / case.model).mkdir(parents=True)
    (tmp_path / "every" / case.model / "model.pth.tar-1").rename(tmp_path / "begun" / case.model / "model.pth.tar-1")
    printed = run(case, given, "stand-in", tmp_path / "begun", options=every)
    assert losses(printed) == losses(on_standin[0])[5:]
    assert_same_state(
        checkpoint(case, tmp_path / "begun")["state_dict"], checkpoint(case, on_standin[1])["state_dict"]
    )


def test_every_step_is_that_on_upstream_dassl(case, given, on_standin, tmp_path):
    reason = why_no_dassl()
    if reason:
        pytest.skip(reason)
    printed = run(case, given, "upstream", tmp_path / "run")
    assert losses(printed) == losses(on_standin[0])
    assert accuracy(printed) == accuracy(on_standin[0])
    theirs, ours = checkpoint(case, tmp_path / "run"), checkpoint(case, on_standin[1])
    assert_same_state(theirs["state_dict"], ours["state_dict"])
    # Upstream's file is read on the stand-in too.
    arguments = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2")
    tested = run(case, given, "stand-in", tmp_path / "tested", *arguments)
    assert accuracy(tested) == accuracy(on_standin[0])
