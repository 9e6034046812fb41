"""BMIP inside the field's checkouts, by their own train.py on upstream Dassl: installed, trained, tested, taken out.

Needs checkouts named by COOP_ROOT, MAPLE_ROOT, PROMPTSRC_ROOT, COPROMPT_ROOT, BMIP_ROOT, of which copies are made;
those that are not named are skipped. DASSL_ROOT names upstream Dassl, unless it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from minidassl.own.checkpoint import load_checkpoint

import pytest
import torch
from conftest import make_clip
from dataset_trees import write_tree
from helpers.runs import assert_same_state
from helpers.upstream import environment, root, why_no_dassl

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import install_plugin

CHECKOUTS = ("CoOp", "MaPLe", "PromptSRC", "CoPrompt", "BMIP")
LEARNER = "MultiModalPromptLearner"


REASON = why_no_dassl()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a checkout but what git keeps, and Python's caches."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = (path for path in paths if not {".git", "__pycache__"} & set(path.parts))
    return {str(path): (folder / path).read_bytes() for path in own}


def git_status(folder: Path) -> list[str]:
    """What git says of a checkout but for Python's caches, which not every checkout ignores."""
    done = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "__pycache__" not in line]


class Checkout:
    """A copy of a checkout with the plugin in it, and a EuroSAT tree."""

    def __init__(self, name: str, source: Path, folder: Path):
        self.root, self.data = folder / name, folder / "data"
        self.environment = environment(DATA=str(self.data), PYTHON=sys.executable)
        # Python leaves its caches in the checkout, as it does where nobody switched that off.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        shutil.copytree(source, self.root, symlinks=True)
        write_tree(self.data, "EuroSAT")
        self.before, self.status = files(self.root), git_status(self.root)
        assert install_plugin.main([str(self.root)]) == 0
        self.trainer = json.loads((self.root / install_plugin.MANIFEST).read_text())["trainer"]

    def call(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True)
        output = done.stdout.decode(errors="replace")
        assert done.returncode == 0, output[-2000:] + done.stderr.decode(errors="replace")[-3000:]
        return output

    def train_py(self, output: str, *arguments: str, classes: str = "base", epochs: int = 2) -> Path:
        """Run the checkout's train.py for the plugin's trainer with the small CLIP; gives the output folder."""
        self.call(
            *(sys.executable, "train.py", "--root", str(self.data), "--seed", "1", "--trainer", self.trainer),
            *("--dataset-config-file", "configs/datasets/eurosat.yaml"),
            *("--config-file", f"configs/trainers/{self.trainer}/tiny.yaml", "--output-dir", f"output/{output}"),
            *(*arguments, "DATASET.NUM_SHOTS", "8", "DATASET.SUBSAMPLE_CLASSES", classes, "TRAIN.PRINT_FREQ", "1"),
            *("OPTIM.MAX_EPOCH", str(epochs), "TRAIN.CHECKPOINT_FREQ", "1"),
        )
        return self.root / "output" / output


@pytest.fixture(scope="module", params=CHECKOUTS)
def checkout(request, tmp_path_factory) -> Checkout:
    return Checkout(request.param, root(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def trained(checkout) -> Path:
    return checkout.train_py("trained")


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def checkpoint(folder: Path, epoch: int) -> dict:
    return load_checkpoint(folder / LEARNER / f"model.pth.tar-{epoch}")


def test_two_epochs_are_trained_and_tested_on_upstream_dassl(checkout, trained):
    found = result(trained)
    assert found["trained"] and found["trainer"] == checkout.trainer and found["recipe"] == "tiny"
    assert found["environment"]["dassl"].startswith("Dassl: upstream 0.6.3")
    log = (trained / "log.txt").read_text()
    losses = [float(loss) for loss in re.findall(r"loss (\S+) ", log)]
    assert len(losses) == 10 and losses[0] != losses[-1]
    # Behind the test too, although the authors' train.py leaves by os._exit.
    assert f"* accuracy: {found['accuracy']:.1f}%" in log and "Elapsed" in log


def test_the_model_is_tested_on_new_classes(checkout, trained):
    arguments = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "2")
    found = result(checkout.train_py("new", *arguments, classes="new"))
    assert found["classes"] == "new" and found["num_classes"] == 2
    assert found["trained_on"]["classes"] == "base" and found["weights_hash"] == result(trained)["weights_hash"]


def test_a_stopped_run_goes_on_to_the_same_end(checkout, trained):
    begun = checkout.root / "output" / "begun" / LEARNER
    begun.mkdir(parents=True)
    shutil.copy(trained / LEARNER / "model.pth.tar-1", begun)
    resumed = checkout.train_py("begun")
    assert "Found checkpoint" in (resumed / "log.txt").read_text()
    assert_same_state(checkpoint(resumed, 2)["state_dict"], checkpoint(trained, 2)["state_dict"])
    assert result(resumed)["accuracy"] == result(trained)["accuracy"]


def test_the_scripts_train_and_test(checkout):
    options = ("--opts", "OPTIM.MAX_EPOCH", "1")
    for part in ("train", "test"):
        script = f"scripts/{checkout.trainer.lower()}/base2new_{part}.sh"
        checkout.call("bash", script, "eurosat", "1", "tiny", *options)
    folder = Path("eurosat", "shots_16", checkout.trainer, "tiny", "seed1")
    for split, classes in (("train_base", "base"), ("test_new", "new")):
        assert result(checkout.root / "output" / "base2new" / split / folder)["classes"] == classes


def test_uninstalling_restores_every_byte_and_leaves_the_outputs(checkout, trained):
    assert install_plugin.main([str(checkout.root), "--uninstall"]) == 0
    after = files(checkout.root)
    outputs = {name for name in after if name.startswith("output/")}
    assert {name: after[name] for name in after.keys() - outputs - checkout.before.keys()} == {}
    assert not (checkout.root / "bmip_plugin").exists() and not (checkout.root / "minidassl").exists()
    assert {name: after[name] for name in checkout.before} == checkout.before
    assert outputs
    shutil.rmtree(checkout.root / "output")
    assert git_status(checkout.root) == checkout.status


def test_two_commands_compare_bmip_with_maple(tmp_path):
    """Installing is one. Random weights stand for OpenAI's, under their name and with a checksum of ours."""
    checkout = Checkout("MaPLe", root("MaPLe"), tmp_path)
    weights = tmp_path / ".cache" / "clip" / "ViT-B-16.pt"
    weights.parent.mkdir(parents=True)
    torch.save(make_clip(transformer_width=512, transformer_heads=8, vision_width=768).state_dict(), weights)
    source = checkout.root / "clip" / "clip.py"
    text = source.read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith('"ViT-B/16"'))
    checksum = line.split("/")[-2]
    source.write_text(text.replace(checksum, install_plugin.digest(weights.read_bytes())))
    options = ["INPUT.SIZE", "(32, 32)", "OPTIM.MAX_EPOCH", "1", "TRAINER.BMIP.PREC", "fp32"]
    options += [part for node in ("BMIP", "MAPLE") for part in (f"TRAINER.{node}.PROMPT_DEPTH", "3")]
    command = ["bash", "scripts/bmip/compare.sh", "eurosat", "1", "MaPLe", "--shots", "2", "--opts", *options]
    checkout.environment["HOME"] = str(tmp_path)
    printed = checkout.call(*command)
    assert re.search(r"^BMIP +\d+\.\d +\d+\.\d +\d+\.\d  vit_b16_c2_ep10_batch4_2ctx$", printed, re.MULTILINE)
    assert re.search(r"^MaPLe +\d+\.\d +\d+\.\d +\d+\.\d  vit_b16_c2_ep5_batch4_2ctx$", printed, re.MULTILINE)
    assert checkout.call(*command).count("There is a result in") == 4
