"""Whatever is killed, or finds the disk full, while it writes: a file is the old one or the new one, whole."""

from __future__ import annotations

from pathlib import Path

from minidassl.own.checkpoint import load_checkpoint, save_checkpoint

import pytest
import torch

from hostile.faults import run_with_fault, snapshot
from trainers.prompting.checkpoints.saved import read_saved
from trainers.records import read_result, set_log_aside, write_result


def record(folder: Path, accuracy: float) -> None:
    write_result(folder, {"accuracy": accuracy, "trained": True})


def checkpoint(folder: Path, value: float) -> None:
    save_checkpoint({"state_dict": {"weight": torch.full((1000,), value)}, "epoch": 1}, folder)


WRITERS = {
    "record": (record, lambda folder: read_result(folder)["accuracy"]),
    "checkpoint": (
        checkpoint,
        lambda folder: load_checkpoint(folder / "model.pth.tar-1")["state_dict"]["weight"].unique().item(),
    ),
}


@pytest.mark.parametrize("kind", ["kill", "full"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, name, kind):
    write, read = WRITERS[name]
    write(tmp_path, 1.0)
    _, changes = run_with_fault(lambda: write(tmp_path, 1.0) or 0, tmp_path, "none", 0)
    assert changes >= 2
    seen = set()
    for at in range(1, changes + 1):
        write(tmp_path, 1.0)
        status, _ = run_with_fault(lambda: write(tmp_path, 2.0) or 0, tmp_path, kind, at)
        seen.add(read(tmp_path))
        assert status != 0 or kind == "full"
    assert seen <= {1.0, 2.0} and 1.0 in seen


def test_setting_a_log_aside_loses_no_line(tmp_path):
    (tmp_path / "log.txt").write_text("first\n")
    _, changes = run_with_fault(lambda: set_log_aside(tmp_path) or 0, tmp_path, "none", 0)
    (moved,) = tmp_path.iterdir()
    moved.rename(tmp_path / "log.txt")
    for at in range(1, changes + 1):
        run_with_fault(lambda: set_log_aside(tmp_path) or 0, tmp_path, "kill", at)
        assert [content for _, content in snapshot(tmp_path).values()] == [b"first\n"]


def test_a_saved_classifier_is_never_half_an_old_and_half_a_new_one(tmp_path):
    from trainers.prompting.api.classifier import PromptClassifier

    def save(classes: list[str]) -> int:
        PromptClassifier("BMIP", "tiny", device="cpu").build(classes).save(tmp_path, overwrite=True)
        return 0

    _, changes = run_with_fault(lambda: save(["a", "b"]), tmp_path, "none", 0)
    assert read_saved(tmp_path).classes == ["a", "b"]
    for at in range(1, changes + 1):
        run_with_fault(lambda: save(["c", "d"]), tmp_path, "kill", at)
        assert read_saved(tmp_path).classes in (["a", "b"], ["c", "d"])
        save(["a", "b"])
