"""Prompts need neither Dassl nor yacs, the core not even this project's own engine, and messages no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import trainers.prompting

ROOT = Path(__file__).parents[1]


def refusing(*packages: str) -> str:
    """Code that makes imports of these packages fail."""
    return f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Refuse())
"""


COMMANDS = [
    "train.py --trainer VPT --dataset-config-file configs/datasets/digits.yaml --backbone tiny --summary",
    "scripts/tools/benchmark.py --help",
    "scripts/tools/pretrain_tiny_clip.py --help",
]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_prompts_are_built_trained_saved_loaded_and_used_without_dassl_and_yacs(tmp_path):
    code = """
import numpy as np
from trainers.prompting import *
images = list(np.random.RandomState(0).randint(0, 256, (4, 8, 8), dtype=np.uint8))
clip_model = load_clip("tiny")
model = PromptedCLIP(clip_model, BMIPLearner(BMIPConfig(depth=2), clip_model), ["cat", "dog"])
classifier = PromptClassifier(backbone="tiny", epochs=1, device="cpu").fit(images, ["cat", "dog"] * 2)
classifier.save(sys.argv[1])
print(PromptClassifier.load(sys.argv[1], device="cpu").predict(images).shape)
"""
    done = run_python(refusing("dassl", "yacs") + code, str(tmp_path / "saved"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(4,)\n"


def test_the_script_for_images_needs_neither_too(tmp_path):
    code = "sys.path.insert(0, 'scripts')\nimport predict\nsys.exit(predict.main(sys.argv[1:]))"
    done = run_python(
        refusing("dassl", "yacs") + code, "--classes", "a,b", "--backbone", "tiny", "--device", "cpu", "missing.png"
    )
    assert done.returncode == 1, done.stderr
    assert "There is no image 'missing.png'" in done.stderr


def test_a_message_does_not_wait_for_torch():
    code = "import sys, trainers.prompting.errors as e; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    assert run_python(code).stdout == "False False\n"


def test_every_public_name_is_there():
    for name in trainers.prompting.__all__:
        assert getattr(trainers.prompting, name) is not None
    assert set(trainers.prompting.__all__) <= set(dir(trainers.prompting))
    with pytest.raises(AttributeError, match="no attribute 'Prompts'"):
        trainers.prompting.Prompts  # noqa: B018


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_a_command_that_uses_clip_does_not_speak_of_its_packaging(command):
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pkg_resources" not in done.stderr


def test_other_warnings_are_given_after_clip_as_before():
    code = """
import trainers.prompting.core.openai_clip
import warnings
warnings.warn_explicit("pkg_resources is deprecated as an API", UserWarning, "users.py", 1)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "users.py:1: UserWarning: pkg_resources" in done.stderr
