"""Checkpoint files are plain, on the disk, and where upstream puts them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from minidassl.own.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from minidassl.own.run_folder import find_checkpoint

import numpy as np
import pytest
import torch
from helpers.runs import assert_same_state
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, StepLR


def make_state(**extra):
    return {"state_dict": nn.Linear(2, 2).state_dict(), "epoch": 3, "optimizer": None, "scheduler": None, **extra}


# ---------------------------------------------------------------------------------------------------------- writing


def test_file_and_pointer_have_upstreams_names(tmp_path, capsys):
    folder = tmp_path / "prompt_learner"
    save_checkpoint(make_state(), folder)
    assert sorted(os.listdir(folder)) == ["checkpoint", "model.pth.tar-3"]
    assert (folder / "checkpoint").read_text() == "model.pth.tar-3\n"
    assert capsys.readouterr().out == f"Checkpoint saved to {folder / 'model.pth.tar-3'}\n"


def test_what_is_saved_comes_back_under_torchs_safe_default(tmp_path):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = MultiStepLR(optimizer, [3, 6])
    state = make_state(
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        val_result=np.float64(81.25),
        extra=[np.float32(0.5), (1, "two", None, True), float("-inf"), 2**40, torch.Size([2])],
    )
    save_checkpoint(state, tmp_path)
    loaded = torch.load(tmp_path / "model.pth.tar-3", weights_only=True)
    assert_same_state(loaded["state_dict"], model.state_dict())
    assert_same_state(loaded["optimizer"], optimizer.state_dict())
    assert loaded["val_result"] == 81.25
    assert loaded["extra"] == [0.5, (1, "two", None, True), float("-inf"), 2**40, (2,)]
    # A Counter in MultiStepLR's state is what older torch versions refuse to read.
    assert type(loaded["scheduler"]["milestones"]) is dict


def test_the_prefix_of_data_parallel_is_stripped(tmp_path):
    state = make_state(state_dict=nn.DataParallel(nn.Linear(2, 2)).state_dict())
    save_checkpoint(state, tmp_path)
    assert list(load_checkpoint(tmp_path / "model.pth.tar-3")["state_dict"]) == ["weight", "bias"]
    assert list(state["state_dict"]) == ["module.weight", "module.bias"], "the caller's dict stays as it is"


def scheduler_object():
    return CosineAnnealingLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), 5)


@pytest.mark.parametrize(
    "extra, where",
    [
        (dict(scheduler=dict(successor=scheduler_object())), r"state\['scheduler'\]\['successor'\]"),
        (dict(rng=[1, {2, 3}]), r"state\['rng'\]\[1\]"),
        (dict(path=Path("a")), r"state\['path'\]"),
        (dict(array=np.zeros(2)), r"state\['array'\]"),
        ({"x": {Path("a"): 1}}, r"key .*Path\('a'\) of state\['x'\]"),
    ],
)
def test_anything_but_plain_data_is_refused_before_a_byte_is_written(tmp_path, extra, where):
    with pytest.raises(CheckpointError, match=rf"{where} is a .*state_dict\(\)"):
        save_checkpoint(make_state(**extra), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_files_reach_the_disk_before_their_names_and_the_pointer_comes_last(tmp_path, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("sync"), real_fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(os.path.basename(b)), real_replace(a, b)))
    save_checkpoint(make_state(), tmp_path)
    assert events == ["sync", "model.pth.tar-3", "sync", "sync", "checkpoint", "sync"]


# ---------------------------------------------------------------------------------------------------------- reading


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'No checkpoint at "{tmp_path}/none"'):
        load_checkpoint(tmp_path / "none")


def write_truncated(path: Path, share: float) -> None:
    save_checkpoint(make_state(filler=torch.rand(5000)), path.parent, model_name=path.name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def write_flipped(path: Path) -> None:
    save_checkpoint(make_state(), path.parent, model_name=path.name)
    content = bytearray(path.read_bytes())
    position = content.index(b"state_dict")
    content[position : position + 10] = b"\xff" * 10
    path.write_bytes(content)


BAD_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "random": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "truncated in the middle": lambda path: write_truncated(path, 0.5),
    "truncated near the end": lambda path: write_truncated(path, 0.99),
    "damaged inside": write_flipped,
    "a folder": lambda path: path.mkdir(),
    "a tensor": lambda path: torch.save(torch.ones(2), path),
    "a bare state dict": lambda path: torch.save(nn.Linear(1, 1).state_dict(), path),
    "state_dict of numbers": lambda path: torch.save({"state_dict": {"a": 1}}, path),
    "state_dict that is a list": lambda path: torch.save({"state_dict": [torch.ones(1)]}, path),
    "epoch in words": lambda path: torch.save({"state_dict": {}, "epoch": "three"}, path),
    "a whole module": lambda path: torch.save(nn.Linear(1, 1), path),
    "torchscript": lambda path: torch.jit.script(nn.Linear(1, 1)).save(str(path)),
}


# What the message says of files that torch cannot read; the rest of a checkpoint alone is called damaged.
FAULTS = {
    **dict.fromkeys(("text", "random", "a folder"), "is no checkpoint; give a file"),
    **dict.fromkeys(("empty", "truncated in the middle"), "is a damaged checkpoint; delete it or copy it again"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_an_unusable_file_is_a_checkpoint_error_that_names_it(tmp_path, case):
    path = tmp_path / "model.pth.tar-5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit announces its end
        BAD_FILES[case](path)
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
    assert str(path) in str(error.value) and FAULTS.get(case, "") in str(error.value)
    assert case not in FAULTS or "weights_only" not in str(error.value), "torch's advice is not passed on"
    assert not isinstance(error.value, FileNotFoundError)


def test_absent_entries_read_as_none(tmp_path):
    content = {"state_dict": {"ctx": torch.ones(1)}}
    torch.save(content, tmp_path / "ctx.pth")
    absent = dict(epoch=None, optimizer=None, scheduler=None, val_result=None)
    assert load_checkpoint(tmp_path / "ctx.pth") == {**content, **absent}


# --------------------------------------------------------------------------------------------------------- resuming


def trained(epochs: int, lr: float = 0.1, length: int = 4):
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, float(length))
    for _ in range(epochs):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def save_trained(folder: Path, epochs: int, **kwargs) -> None:
    model, optimizer, scheduler = trained(epochs)
    parts = dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict())
    save_checkpoint(make_state(**{**parts, "epoch": epochs, **kwargs}), folder)


def test_resuming_takes_the_newest_epoch_whatever_the_pointer_says(tmp_path, capsys):
    for epochs in (3, 2):
        save_trained(tmp_path, epochs)
    capsys.readouterr()
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-2\n"
    model, optimizer, scheduler = trained(0)
    assert restore(find_checkpoint(tmp_path), model, optimizer, scheduler)["epoch"] == 3
    assert capsys.readouterr().out.splitlines() == [
        f'Loading checkpoint from "{tmp_path / "model.pth.tar-3"}"',
        "Loaded model weights",
        "Loaded optimizer",
        "Loaded scheduler",
        "Previous epoch: 3",
    ]
    expected_model, expected_optimizer, expected_scheduler = trained(3)
    for restored, expected in (
        (model, expected_model),
        (optimizer, expected_optimizer),
        (scheduler, expected_scheduler),
    ):
        assert_same_state(restored.state_dict(), expected.state_dict())


@pytest.mark.filterwarnings("error")
def test_without_a_saved_schedule_the_rate_is_computed_up_to_the_epoch(tmp_path, capsys):
    save_trained(tmp_path, 3, scheduler=None, optimizer=None)
    model, optimizer, scheduler = trained(0)
    restore(find_checkpoint(tmp_path), model, optimizer, scheduler)
    assert optimizer.param_groups[0]["lr"] == trained(3)[1].param_groups[0]["lr"]
    assert "Note: the learning rate schedule is computed anew for epoch 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "model, optimizer, scheduler, message",
    [
        (nn.Linear(3, 2), None, None, r"does not fit Linear: size mismatch for weight.*\[2, 2\].*\[2, 3\]"),
        (nn.Linear(2, 2, bias=False), None, None, r"does not fit Linear: Unexpected key\(s\) in state_dict: \"bias\""),
        (nn.Sequential(nn.Linear(2, 2)), None, None, r"does not fit Sequential: Missing key\(s\).*0.weight"),
        (nn.Linear(2, 2), torch.optim.Adam, None, "optimizer state .* is not one of Adam"),
        (nn.Linear(2, 2), "one parameter", None, "optimizer state .* is not one of SGD .*ValueError"),
        (nn.Linear(2, 2), None, StepLR, "scheduler state .* does not fit StepLR: it lacks"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_explained(tmp_path, model, optimizer, scheduler, message):
    save_trained(tmp_path, 1)
    if optimizer == "one parameter":
        optimizer = torch.optim.SGD([model.weight], lr=0.1)
    elif optimizer is not None:
        optimizer = optimizer(model.parameters())
    if scheduler is not None:
        scheduler = scheduler(torch.optim.SGD(model.parameters(), lr=0.1), 3)
    with pytest.raises(CheckpointError, match=message) as error:
        restore(find_checkpoint(tmp_path), model, optimizer, scheduler)
    assert str(tmp_path / "model.pth.tar-1") in str(error.value)


def test_the_state_of_another_optimiser_is_refused_even_if_torch_accepts_it(tmp_path):
    model = nn.Linear(2, 2)
    save_checkpoint(make_state(optimizer=torch.optim.AdamW(model.parameters()).state_dict()), tmp_path)
    with pytest.raises(CheckpointError, match=r"not one of SGD .*lacks the settings \['dampening', 'momentum'"):
        restore(find_checkpoint(tmp_path), model, torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_file_that_does_not_say_its_epoch_cannot_be_resumed(tmp_path):
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "model.pth.tar-7")
    with pytest.raises(CheckpointError, match="after which epoch"):
        restore(find_checkpoint(tmp_path), nn.Linear(2, 2))
