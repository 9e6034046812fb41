"""MMA, of ZjjConan/VLM-MultiModalAdapter."""

from __future__ import annotations

import dataclasses

from comparison import WORDS, Case, under


def mma(first: int, last: int, hidden: int = 32, scale: float = 0.001, words: str = WORDS) -> Case:
    numbers = dict(ADAPTER_START=first, ADAPTER_END=last, ADAPTER_DIM=hidden, ADAPTER_SCALE=scale)
    return Case(
        *("MMA", "mmadapter", "MMA"),
        under("TRAINER.MMADAPTER", TEXT_CTX_INIT=words, **numbers),
        theirs_name="MultiModalAdapter",
        # Where few gradients of many tokens cancel out, theirs are rounded twice more, by the scale and its inverse.
        limits=(1e-5, 3e-5, 3e-5),
    )


CASES = [
    mma(2, 3),
    mma(1, 3, hidden=8, scale=0.1),
    mma(3, 3, scale=1.0, words="art of the"),
    dataclasses.replace(mma(2, 3), casts="fp16", limits=None),
]
