"""Safetensors files: those of the format's own library are read, and it reads ours; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

from minidassl.own.safetensors_file import read_safetensors, safetensors_bytes

import pytest
import torch

TENSORS = {
    "matrix": torch.arange(6.0).reshape(2, 3),
    "half": torch.randn(3).half(),
    "brain": torch.randn(5).bfloat16(),
    "number": torch.tensor(7),
    "none": torch.zeros(0, 4),
    "switches": torch.tensor([True, False, True]),
    "double": torch.randn(2, dtype=torch.float64),
}
TEXTS = {"name": "Zürich", "list": '["a"]'}


def assert_same(found: dict, expected: dict = TENSORS) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def test_the_library_reads_our_files_and_we_read_its_files(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    from safetensors import safe_open

    (tmp_path / "ours").write_bytes(safetensors_bytes(TEXTS, TENSORS))
    assert_same(library.load_file(tmp_path / "ours"))
    with safe_open(tmp_path / "ours", framework="pt") as file:
        assert file.metadata() == TEXTS
    library.save_file(TENSORS, tmp_path / "theirs", metadata=TEXTS)
    texts, tensors = read_safetensors(tmp_path / "theirs")
    assert texts == TEXTS
    assert_same(tensors)


def test_tensors_come_back_without_texts_and_texts_without_tensors(tmp_path):
    turned = {"turned": torch.randn(3, 4).T}  # not contiguous
    (tmp_path / "file").write_bytes(safetensors_bytes({}, turned))
    texts, tensors = read_safetensors(tmp_path / "file")
    assert texts == {}
    assert_same(tensors, turned)
    (tmp_path / "file").write_bytes(safetensors_bytes(TEXTS, {}))
    assert read_safetensors(tmp_path / "file") == (TEXTS, {})


def test_the_same_content_gives_the_same_bytes():
    backwards = dict(reversed(list(TENSORS.items())))
    assert safetensors_bytes(TEXTS, TENSORS) == safetensors_bytes(TEXTS, backwards)


def packed(header: object, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def tensor(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


EIGHT = b"\0" * 8
DAMAGED = {
    "empty": b"",
    "a page": b"<html><body>404 Not Found</body></html>",
    "a pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94",
    "cut in the header": safetensors_bytes(TEXTS, TENSORS)[:60],
    "cut in the tensors": safetensors_bytes(TEXTS, TENSORS)[:-1],
    "something appended": safetensors_bytes(TEXTS, TENSORS) + b"0",
    "no JSON": packed(b"{]"),
    "no UTF-8": packed(b'{"\xff": 1}'),
    "deep": packed(b"[" * 100_000),
    "a list": packed([]),
    "texts that are none": packed({"__metadata__": {"a": 1}}),
    "an unknown type": packed(tensor(dtype="F4"), EIGHT),
    "a type that is none": packed(tensor(dtype=["F32"]), EIGHT),
    "a tensor that is none": packed({"a": 1}, EIGHT),
    "a shape that is none": packed(tensor(shape=2), EIGHT),
    "a shape of another size": packed(tensor(shape=(3,)), EIGHT),
    "a negative shape": packed(tensor(shape=(-1, -2)), EIGHT),
    "a shape of switches": packed(tensor(shape=(2, True)), EIGHT),
    "a huge shape": packed(tensor(shape=(2**62, 2**62)), EIGHT),
    "offsets beyond the end": packed(tensor(offsets=(8, 16)), EIGHT),
    "offsets turned round": packed(tensor(shape=(0,), offsets=(8, 0)), EIGHT),
    "one offset": packed(tensor(offsets=(0,)), EIGHT),
    "a gap": packed(tensor(shape=(1,), offsets=(4, 8)), EIGHT),
    "an overlap": packed({**tensor(), "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, EIGHT),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name, tmp_path):
    (tmp_path / "file").write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match="^it"):
        read_safetensors(tmp_path / "file")


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_safetensors(Path(tmp_path / "file"))
