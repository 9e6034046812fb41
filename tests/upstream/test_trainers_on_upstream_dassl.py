"""Our trainers on upstream Dassl do what they do on the stand-in: same losses, same checkpoint, same result.

Needs a checkout of Dassl 0.6.3 (KaiyangZhou/Dassl.pytorch), named by the environment variable DASSL_ROOT, and what it
imports: `pip install gdown scipy wilds==1.2.2`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.runs import assert_same_state
from helpers.upstream import environment, why_no_dassl

REPOSITORY = Path(__file__).parents[2]


REASON = why_no_dassl()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def train(folder: Path, data_root: str, *arguments: str, upstream: bool, options=()) -> str:
    command = [
        *(sys.executable, "train.py", "--root", data_root, "--seed", "1", "--trainer", "BMIP"),
        *("--dataset-config-file", "configs/datasets/digits.yaml", "--config-file", "configs/trainers/BMIP/tiny.yaml"),
        *("--output-dir", str(folder), *arguments, "DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
        *("OPTIM.MAX_EPOCH", "3", "TRAIN.PRINT_FREQ", "1", "DATALOADER.TEST.BATCH_SIZE", "500", *options),
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(upstream), capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    assert ("Dassl: upstream" if upstream else "Dassl: built-in stand-in") in done.stdout
    assert "** Config **" not in done.stdout and "** Config **" in (folder / "log.txt").read_text()
    assert re.search(r": accuracy [\d.]+ %$", done.stdout)
    return done.stdout


def losses(output: str) -> list[str]:
    return re.findall(r"loss (\S+ \(\S+\)) acc .* lr (\S+)", output)


def checkpoint(folder: Path, epoch: int) -> dict:
    """Without the settings that it belongs to: upstream declares keys that the stand-in does not have."""
    content = torch.load(folder / "MultiModalPromptLearner" / f"model.pth.tar-{epoch}", weights_only=True)
    del content["trainer_state"]["origin"]["settings"]
    return content


def test_training_equals_the_stand_ins_to_the_bit(tmp_path, data_root):
    theirs = train(tmp_path / "upstream", data_root, upstream=True)
    ours = train(tmp_path / "standin", data_root, upstream=False)
    assert losses(theirs) == losses(ours) and len(losses(ours)) == 6
    assert_same_state(checkpoint(tmp_path / "upstream", 3), checkpoint(tmp_path / "standin", 3))
    records = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("upstream", "standin")]
    # Upstream declares keys that the stand-in does not have, and the environment names the one that ran.
    assert_same_state(*({k: v for k, v in r.items() if k not in ("configuration", "environment")} for r in records))


def test_a_run_begun_on_the_stand_in_goes_on_and_is_evaluated_on_upstream(tmp_path, data_root):
    whole = train(tmp_path / "whole", data_root, upstream=False)
    # A folder as it is after the first epoch: its checkpoint alone.
    learner = "MultiModalPromptLearner"
    train(tmp_path / "every", data_root, upstream=False, options=["TRAIN.CHECKPOINT_FREQ", "1"])
    (tmp_path / "begun" / learner).mkdir(parents=True)
    (tmp_path / "every" / learner / "model.pth.tar-1").rename(tmp_path / "begun" / learner / "model.pth.tar-1")
    resumed = train(tmp_path / "begun", data_root, upstream=True)
    assert losses(resumed) == losses(whole)[2:]
    assert_same_state(checkpoint(tmp_path / "begun", 3), checkpoint(tmp_path / "whole", 3))

    train(tmp_path / "eval", data_root, "--eval-only", "--model-dir", str(tmp_path / "whole"), upstream=True)
    tested, trained = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("eval", "whole"))
    assert tested["accuracy"] == trained["accuracy"]
