"""Checkpoints and backbones of strangers are read or refused; nothing of them is ever executed."""

from __future__ import annotations

import itertools
import pickle
import warnings
from pathlib import Path

from minidassl.own import checkpoint
from minidassl.own.archive import is_torchscript, read_archive, read_torchscript
from minidassl.own.checkpoint import CheckpointError, load_checkpoint

import pytest
import torch
from conftest import make_clip
from torch import nn

from hostile.payloads import (
    FORMATS,
    PLACES,
    calls,
    memory_bombs,
    rewritten,
    write_torchscript,
)
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.errors import InputError

ATTACKS = list(itertools.product(FORMATS, PLACES, calls(Path("x"))))


@pytest.fixture
def bait(tmp_path) -> Path:
    return tmp_path / "executed"


@pytest.mark.parametrize("written, place, name", ATTACKS, ids=" ".join)
def test_a_pickle_that_calls_functions_is_refused_unexecuted_as_checkpoint_and_as_backbone(
    tmp_path, bait, written, place, name
):
    path = tmp_path / "model.pt"
    FORMATS[written](path, PLACES[place](calls(bait)[name]))
    with pytest.raises(CheckpointError, match="model.pt"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="model.pt"):
        load_clip(str(path))
    assert not bait.exists()


def test_a_torchscript_archive_that_writes_a_file_on_loading_writes_none(tmp_path, bait):
    path = tmp_path / "clip.pt"
    write_torchscript(path, bait)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path))
    assert bait.read_text() == 64 * "A"  # the attack is real
    bait.unlink()
    assert is_torchscript(path)
    with pytest.raises(InputError, match="clip.pt"):
        load_clip(str(path))
    with pytest.raises(CheckpointError, match="clip.pt"):
        load_checkpoint(path)
    assert not bait.exists()


class Scripted(nn.Module):
    """Whatever a module can hold."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.rows = nn.Parameter(torch.randn(4, 2).half()[1:], requires_grad=False)
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("unsaved", torch.ones(2, 2).T, persistent=False)
        self.mask = torch.ones(3)  # neither parameter nor buffer
        self.name = "text"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) * self.scale + self.mask


def test_the_tensors_of_a_torchscript_archive_are_those_that_torch_finds(tmp_path):
    path = tmp_path / "module.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Scripted()).save(str(path))
        expected = torch.jit.load(str(path)).state_dict()
    found = read_torchscript(path)
    assert list(found) == list(expected) and "mask" not in found
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def test_what_torch_saved_is_read_to_the_bit_without_torch_load(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    content |= {
        "epoch": 3,
        "names": ("a", "é", None, True, 1.5),
        "empty": torch.empty(0, 4),
        "part": torch.ones(9)[2:5],
    }
    torch.save(content, tmp_path / "model.pt")
    assert str(read_archive(tmp_path / "model.pt")) == str(torch.load(tmp_path / "model.pt", weights_only=True))


@pytest.mark.parametrize("name", memory_bombs())
@pytest.mark.parametrize("place", ["data.pkl", "bare"])
def test_a_small_file_does_not_take_gigabytes_or_minutes(tmp_path, name, place):
    path, bomb = tmp_path / "model.pt", memory_bombs()[name]
    if place == "bare":
        path.write_bytes(bomb)
    else:
        torch.save({"weight": torch.ones(1)}, tmp_path / "plain.pt")
        rewritten(tmp_path / "plain.pt", path, {"/data.pkl": bomb})
    for read, refused in ((load_checkpoint, CheckpointError), (lambda path: load_clip(str(path)), InputError)):
        with pytest.raises(refused):
            read(path)


def test_a_compressed_archive_is_refused_because_few_bytes_could_be_many(tmp_path):
    torch.save({"weight": torch.zeros(10**6)}, tmp_path / "plain.pt")
    rewritten(tmp_path / "plain.pt", tmp_path / "small.pt", {}, compress=True)
    with pytest.raises(ValueError, match="compressed"):
        read_archive(tmp_path / "small.pt")


def test_tensors_that_share_few_bytes_a_thousand_times_are_refused(tmp_path):
    torch.save({"weight": torch.ones(1).expand(10**9)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="more elements than the file has bytes"):
        read_archive(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "torch.load", "torch.jit.load", "posix.system"])
def test_the_restricted_reader_resolves_no_other_name(tmp_path, name):
    torch.save({"weight": torch.ones(1)}, tmp_path / "plain.pt")
    module, _, function = name.rpartition(".")
    pickled = f"c{module}\n{function}\n(V{tmp_path}/x\ntR.".encode()
    rewritten(tmp_path / "plain.pt", tmp_path / "model.pt", {"/data.pkl": pickled})
    with pytest.raises(pickle.UnpicklingError, match=name):
        read_archive(tmp_path / "model.pt")


def test_openais_kind_of_archive_is_a_backbone(tmp_path):
    class Holder(nn.Module):
        """A CLIP's parameters, in half precision, with the sizes as buffers, as OpenAI's archives have them."""

        def __init__(self, model):
            super().__init__()
            self.logit_scale = model.logit_scale
            for name, child in model.named_children():
                setattr(self, name, child)
            self.text_projection, self.positional_embedding = model.text_projection, model.positional_embedding
            self.register_buffer("input_resolution", torch.tensor(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.logit_scale

    model = make_clip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Holder(model), torch.zeros(1)), str(tmp_path / "clip.pt"))
    loaded = load_clip(str(tmp_path / "clip.pt"))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_before_torch_2_6_the_restricted_reader_reads_every_checkpoint_and_says_so_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "_LOADS_SAFELY", False)
    monkeypatch.setattr(torch, "load", None)  # is not called
    checkpoint._note_restricted.cache_clear()
    torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, tmp_path / "model.pth.tar-3")
    for _ in range(2):
        assert load_checkpoint(tmp_path / "model.pth.tar-3")["state_dict"]["weight"].tolist() == [1, 1]
    assert capsys.readouterr().out.count("CVE-2025-32434") == 1
    FORMATS["before torch 1.6"](tmp_path / "old.pt", {"state_dict": {"weight": torch.ones(2)}, "epoch": 3})
    with pytest.raises(CheckpointError, match="old.pt"):
        load_checkpoint(tmp_path / "old.pt")
