"""Safetensors files: tensors, and texts by name beside them. The format holds nothing that could be executed.

The format is that of https://github.com/huggingface/safetensors: the length of a header in eight bytes, the header in
JSON, and the bytes of the tensors. Its own library writes the texts in another order each time; here the same content
gives the same bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_TEXTS = "__metadata__"
_LENGTH_BYTES, _ALIGNMENT = 8, 8
_LONGEST_HEADER = 100_000_000  # bytes, as in the library


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts and the tensors of a file, on the CPU.

    Raises:
        ValueError: it is damaged, or no such file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        room = os.path.getsize(path) - _LENGTH_BYTES
        if not 2 <= length <= min(room, _LONGEST_HEADER):
            raise ValueError("it does not begin with the length of a header that it has")
        header = _object(file.read(length))
        texts = header.pop(_TEXTS, {})
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise ValueError(f"its {_TEXTS} are no texts by name")
        return texts, _tensors(header, file.read())


def _object(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("its header is no JSON object")
    return content


def _tensors(header: Mapping[str, Any], content: bytes) -> dict[str, Tensor]:
    """The tensors that a header describes, which must fill `content` without gaps."""
    tensors, spans = {}, []
    for name, facts in header.items():
        try:
            dtype, shape, (start, end) = _DTYPES[facts["dtype"]], facts["shape"], facts["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            size = math.prod(shape) * dtype.itemsize if whole else -1
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its tensor {name!r} is described by {str(facts)[:100]}") from error
        if not start <= end <= len(content) or end - start != size:
            raise ValueError(f"its tensor {name!r} of {facts['dtype']} {shape} is not at the bytes {start} to {end}")
        # Copies, so that a tensor lies where its type may and does not keep the others.
        part = bytearray(content[start:end])
        tensors[name] = (torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype)).reshape(shape)
        spans.append((start, end))
    position = 0
    for start, end in sorted(spans):
        if start != position:
            raise ValueError(f"its tensors overlap, or leave a gap, at byte {position}")
        position = end
    if position != len(content):
        raise ValueError(f"it has {len(content)} bytes of tensors, of which the header describes {position}")
    return tensors


def safetensors_bytes(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a file."""
    header: dict[str, Any] = {_TEXTS: dict(texts)} if texts else {}
    parts, position = [], 0
    # By falling size of an element, as the library does, so that every tensor is aligned.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        part = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        span = [position, position + len(part)]
        header[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": span}
        parts.append(part)
        position += len(part)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + b"".join(parts)
