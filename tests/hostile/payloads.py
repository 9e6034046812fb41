"""Pickles and archives that would run code, write files, or fill the memory, in whatever reads them carelessly."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def calls(bait: Path) -> dict[str, object]:
    """Objects that create the file `bait` when a plain unpickler reads them."""
    target, code = str(bait), f"open({str(bait)!r}, 'w').close()"
    inner = io.BytesIO()
    torch.save(Call(exec, code), inner)
    return {
        "os.system": Call(os.system, f"touch {target}"),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "open": Call(open, target, "w"),
        "os.mkdir": Call(os.mkdir, target),
        "a pickle in the pickle": Call(pickle.loads, pickle.dumps(Call(exec, code))),
        "torch.load inside": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "a parameter's hook": Call(torch._utils._rebuild_parameter, torch.ones(1), True, Call(exec, code)),
        "a generator": Call(list, Call(map, exec, (code,))),
        "os.replace": Call(os.replace, __file__, target),
    }


PLACES = {
    "as the whole": lambda payload: payload,
    "as the weights": lambda payload: {"state_dict": payload, "epoch": 1},
    "as a weight": lambda payload: {"state_dict": {"weight": payload}, "epoch": 1},
    "as the epoch": lambda payload: {"state_dict": nn.Linear(1, 1).state_dict(), "epoch": payload},
    "as the optimizer": lambda payload: {"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 1, "optimizer": payload},
    "in a list": lambda payload: {"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 1, "rng": [1, [payload]]},
    "as a key": lambda payload: {"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 1, (payload, 1): 2},
}


def write_zip(path: Path, content: object) -> None:
    torch.save(content, path)


def write_old(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_bare(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


FORMATS = {"zip": write_zip, "before torch 1.6": write_old, "bare pickle": write_bare}


class WritesOnLoading(nn.Module):
    """As TorchScript, loading it writes 64 letters into a file, through a tensor that is mapped to it."""

    def __init__(self, bait: str):
        super().__init__()
        self.bait = bait
        self.weight = nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self):
        return self.bait, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]):
        self.bait, self.training = state[0], state[2]
        text = torch.from_file(state[0], True, 64, dtype=torch.uint8).fill_(65)
        self.weight = state[1] + text[0]  # used, or TorchScript would leave it out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def write_torchscript(path: Path, bait: Path) -> None:
    torch.jit.script(WritesOnLoading(str(bait))).save(str(path))


def rewritten(source: Path, target: Path, changes: dict[str, bytes], compress: bool = False) -> None:
    """A copy of an archive with some files (by the end of their names) replaced, or all of it compressed."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", kind) as new:
        for name in old.namelist():
            content = next((content for end, content in changes.items() if name.endswith(end)), None)
            new.writestr(name, old.read(name) if content is None else content)


def memory_bombs() -> dict[str, bytes]:
    """Pickles of few bytes that ask for gigabytes or for hours."""
    number = struct.pack("<I", 2**31)
    return {
        "a memo of 2^31 objects": pickle.PROTO + b"\x02" + pickle.EMPTY_LIST + pickle.LONG_BINPUT + number + b".",
        "a list in a list, 10^6 deep": pickle.EMPTY_LIST * 10**6 + pickle.APPEND * (10**6 - 1) + b".",
        "a tuple of two of the same, 60 deep": pickle.EMPTY_LIST + (b"2" + pickle.TUPLE2) * 60 + b".",
        "the same as a key": pickle.EMPTY_DICT
        + pickle.EMPTY_TUPLE
        + (b"2" + pickle.TUPLE2) * 60
        + b"N"
        + pickle.SETITEM
        + b".",
        "bytes of 2^60": pickle.PROTO + b"\x04" + pickle.BINBYTES8 + struct.pack("<Q", 2**60) + b".",
        "a frame of 2^60": pickle.PROTO + b"\x04" + pickle.FRAME + struct.pack("<Q", 2**60) + b"N.",
    }
