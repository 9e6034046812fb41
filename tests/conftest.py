"""Small CLIPs that tests run on: random weights, sizes that differ between the towers."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from trainers.prompting.core.openai_clip import CLIP

# The models are so small that threads cost more than they gain.
torch.set_num_threads(1)

SMALL = dict(
    embed_dim=32,
    image_resolution=32,
    vision_layers=3,
    vision_width=128,
    vision_patch_size=8,
    context_length=77,
    vocab_size=49408,
    transformer_width=64,
    transformer_heads=1,
    transformer_layers=3,
)
# Over those sizes, a CLIP whose vision tower is a ResNet.
RESNET = dict(vision_layers=(1, 1, 1, 1), vision_width=8, vision_patch_size=None, embed_dim=32)


def make_clip(seed: int = 0, **sizes) -> CLIP:
    """A random CLIP in fp32 whose features spread, so that differences show in the logits."""
    torch.manual_seed(seed)
    model = CLIP(**{**SMALL, **sizes}).eval().requires_grad_(False)
    model.logit_scale.fill_(2.0)
    for parameter in (model.token_embedding.weight, model.positional_embedding):
        parameter.mul_(10)
    return model


@pytest.fixture(scope="session")
def small_clip() -> CLIP:
    return make_clip()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


CLASSNAMES = ["cat", "striped_dog", "Boeing 707-320 of the early series", "sea or lake", "sun"]


@pytest.fixture
def classnames() -> list[str]:
    return list(CLASSNAMES)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> str:
    """A folder that the built-in data sets are written to, once for all tests."""
    return str(tmp_path_factory.mktemp("data"))


@dataclass
class Outcome:
    """What a call of train.py came to."""

    status: int
    output: str
    errors: str
    folder: Path

    @property
    def result(self) -> dict:
        return json.loads((self.folder / "result.json").read_text())

    def losses(self) -> list[str]:
        """The loss of each logged batch as printed, whatever the times around it."""
        return re.findall(r"loss (\S+ \(\S+\)) acc", self.output)


@pytest.fixture
def run_train(tmp_path, data_root, capsys, monkeypatch):
    """Call train.py in this process, for a `small_run`."""
    from helpers.runs import small_run

    import train

    def call(
        *arguments: str, trainer: str = "BMIP", folder: Path | str = tmp_path / "run", options=(), verbose: bool = True
    ) -> Outcome:
        arguments = [*arguments, *["--verbose"] * verbose]
        # Logging replaces stdout for the rest of a process; here it must not outlive the call.
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", sys.stdout)
            status = train.main(small_run(f"{trainer}/tiny", data_root, folder, arguments, options))
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err, Path(folder))

    monkeypatch.chdir(Path(__file__).parents[1])
    return call


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and logits of every batch that is tested."""
    from trainers.base import PromptTrainer

    batches = []

    def model_inference(trainer, images):
        batches.append((images, trainer.model(images)))
        return batches[-1][1]

    monkeypatch.setattr(PromptTrainer, "model_inference", model_inference)
    return batches


@pytest.fixture
def no_data(monkeypatch) -> None:
    """Reading a data set is an error of its own."""

    def refuse(*_):
        raise AssertionError("the data set was read")

    monkeypatch.setattr("datasets.registry.locate", refuse)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The repository by links, so that its outputs go to a folder of the test."""
    for path in Path(__file__).parents[1].iterdir():
        if path.name != "output":
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr("experiments.runs.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
