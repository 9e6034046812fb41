"""What tests ask of runs of train.py: stopped, compared, refused, read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from trainers.base import PromptTrainer

# What no two runs have in common: where they are, and what they cost.
MEASURED = {"OUTPUT_DIR", "train_seconds", "test_seconds", "peak_memory_bytes"}


def small_run(
    recipe: str, root: str, folder: Path | str, flags: Iterable[str] = (), options: Iterable[str] = ()
) -> list[str]:
    """The arguments of train.py for TRAINER/CFG on a few digits with the tiny CLIP: two epochs, on the CPU."""
    return [
        *("--root", root, "--seed", "1", "--trainer", recipe.split("/")[0]),
        *("--dataset-config-file", "configs/datasets/digits.yaml"),
        *("--config-file", f"configs/trainers/{recipe}.yaml", "--output-dir", str(folder)),
        *flags,
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base", "OPTIM.MAX_EPOCH", "2"),
        *("TRAIN.PRINT_FREQ", "1", "DATALOADER.TEST.BATCH_SIZE", "500", "USE_CUDA", "False"),
        *options,
    ]


def assert_same_state(first, second):
    """Equal to the bit, through nested mappings and lists."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - MEASURED:
            assert_same_state(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second):
            assert_same_state(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def interrupt_in(monkeypatch, epoch: int) -> None:
    """Stop the next run in the second batch of an epoch, as Ctrl-C does."""
    step = PromptTrainer.forward_backward

    def forward_backward(trainer, batch):
        if (trainer.epoch, trainer.batch_idx) == (epoch, 1):
            monkeypatch.setattr(PromptTrainer, "forward_backward", step)
            raise KeyboardInterrupt
        return step(trainer, batch)

    monkeypatch.setattr(PromptTrainer, "forward_backward", forward_backward)


def assert_refused(run, words) -> None:
    """The run ended in one error, which has these words."""
    assert run.status == 2 and "Traceback" not in run.errors
    assert run.errors.startswith("error: ")
    assert [word for word in words if word not in run.errors] == [], run.errors
    assert not (run.folder / "result.json").exists()


def saved(run, epoch: int) -> dict:
    """The checkpoint after an epoch."""
    (file,) = run.folder.glob(f"*/model.pth.tar-{epoch}")
    return torch.load(file, weights_only=True)


class Finished:
    """In place of the process of a run: it has succeeded."""

    def wait(self, seconds: float) -> bool:
        return True

    def kill(self) -> None:
        pass

    def failure(self) -> str:
        return ""
