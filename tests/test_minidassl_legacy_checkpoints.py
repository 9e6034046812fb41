"""Files with pickled schedulers are read; nothing that a file names is ever executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

from minidassl.own.checkpoint import CheckpointError, load_checkpoint

import numpy as np
import pytest
import torch
from helpers.runs import assert_same_state
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, StepLR

SUCCESSORS = {
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 10.0),
    "multi-step": lambda optimizer: MultiStepLR(optimizer, [3, 6]),
    "single step": lambda optimizer: StepLR(optimizer, 4),
}
OPTIMISERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.1),
}


def write_legacy(path: Path, optimizer="sgd", successor="cosine", val_result=None) -> nn.Module:
    """What Dassl's warm-up leaves behind: a live scheduler inside the scheduler's state, and with it the optimiser."""
    model = nn.Linear(3, 2)
    optimizer = OPTIMISERS[optimizer](model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler = {"successor": SUCCESSORS[successor](optimizer), "warmup_epoch": 1, "cons_lr": 1e-5, "last_epoch": 1}
    torch.save(
        {
            "state_dict": model.state_dict(),
            "epoch": 5,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler,
            "val_result": val_result,
        },
        path,
    )
    return model


@pytest.mark.parametrize("successor", SUCCESSORS)
@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_weights_and_epoch_of_a_legacy_file_are_read(tmp_path, capsys, optimizer, successor):
    path = tmp_path / "model.pth.tar-5"
    model = write_legacy(path, optimizer, successor)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    loaded = load_checkpoint(path)
    assert sorted(loaded) == ["epoch", "optimizer", "scheduler", "state_dict", "val_result"]
    assert loaded["epoch"] == 5
    assert loaded["optimizer"] is None and loaded["scheduler"] is None
    assert_same_state(loaded["state_dict"], dict(model.state_dict()))
    assert "only its weights and epoch are used" in capsys.readouterr().out


def test_a_result_that_is_a_number_of_numpys_does_not_hinder(tmp_path):
    write_legacy(tmp_path / "model-best.pth.tar", val_result=np.float64(81.25))
    loaded = load_checkpoint(tmp_path / "model-best.pth.tar")
    assert loaded["epoch"] == 5 and loaded["val_result"] is None


# ----------------------------------------------------------------------------------------------------------- attacks


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def attacks(target: str) -> dict[str, object]:
    command = f"open({target!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {target}"),
        "exec": Call(exec, command),
        "eval": Call(eval, command),
        "open": Call(open, target, "w"),
        "getattr": Call(getattr, "text", "__class__"),
        "os.mkdir": Call(os.mkdir, target),
        "torch.load, unsafe inside": Call(torch.storage._load_from_bytes, nested_attack(command)),
        "inside a tensor hook": Call(torch._utils._rebuild_parameter, torch.ones(1), True, Call(exec, command)),
    }


def nested_attack(command: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(Call(exec, command), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("name", attacks("x"))
def test_a_malicious_file_creates_nothing_and_is_an_error(tmp_path, name, old_format):
    target = tmp_path / "executed"
    path = tmp_path / "model.pth.tar-1"
    content = {"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 1, "scheduler": attacks(str(target))[name]}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(CheckpointError, match="model.pth.tar-1"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["os.system", "exec", "open", "os.mkdir"])
def test_the_attacks_do_work_where_pickle_is_trusted(tmp_path, name):
    """Otherwise the test above would show nothing."""
    target = tmp_path / "executed"
    pickle.loads(pickle.dumps(attacks(str(target))[name]))
    assert target.exists()


def write_pickle(path: Path, program: bytes) -> None:
    """A torch zip file around a hand-written pickle program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize(
    "program, reason",
    [
        (b"cos\nsystem\n(S'exit 1'\ntR.", "it names os.system"),
        (b"c__builtin__\neval\n.", "it names .*eval"),
        (b"ctorch.optim.lr_scheduler\nos.system\n.", "no checkpoint"),  # an inert class, whatever it is called
        (b"ctorch.optim.sgd\nSGD\n(S'x'\ntR.", "no checkpoint"),
        (b"cnumpy\nload\n(S'x'\ntR.", "no checkpoint"),
        # Sets an attribute of the function itself: (None, {"__defaults__": None}) as its state.
        (b"ctorch._utils\n_rebuild_tensor_v2\nN}S'__defaults__'\nNs\x86b.", "no checkpoint"),
        (b"ctorch.optim.sgd\nSGD\n", "damaged"),
        (b"", "damaged"),
    ],
)
def test_hand_written_pickles_end_in_an_error_and_change_nothing(tmp_path, program, reason):
    path = tmp_path / "model.pth.tar-1"
    write_pickle(path, program)
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(path)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults


def test_pickled_objects_are_read_from_zip_files_only(tmp_path):
    """torch's reader of its format before 1.6 does more than unpickle, and Dassl's files of today are not in it."""
    path = tmp_path / "model.pth.tar-5"
    write_legacy(path)
    content = torch.load(path, weights_only=False)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="is no checkpoint; give a file"):
        load_checkpoint(path)


def test_a_plain_file_that_an_older_torch_refuses_is_read_as_a_whole(tmp_path, monkeypatch):
    """torch 1.13 with weights_only=True refuses every file with a float in it."""
    content = {"state_dict": {}, "epoch": 1, "optimizer": {"lr": 0.5}, "scheduler": {"steps": [1, 2]}}
    torch.save(content, tmp_path / "model.pth.tar-1")
    load = torch.load

    def refuse_floats(*args, weights_only, **kwargs):
        if weights_only:
            raise pickle.UnpicklingError("Unsupported operand 71")
        return load(*args, weights_only=False, **kwargs)

    monkeypatch.setattr(torch, "load", refuse_floats)
    found = load_checkpoint(tmp_path / "model.pth.tar-1")
    assert found["optimizer"] == {"lr": 0.5} and found["scheduler"] == {"steps": [1, 2]}
