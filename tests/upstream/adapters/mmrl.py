"""MMRL, of yunncheng/MMRL."""

from __future__ import annotations

import dataclasses

from comparison import Case, under


def mmrl(dataset: str, layers: tuple[int, ...] = (2, 3), **settings: float) -> Case:
    numbers = {**dict(ALPHA=0.7, REG_WEIGHT=3.0, N_REP_TOKENS=5, REP_DIM=64), **settings}
    return Case(
        *("MMRL", "mmrl", "MMRL"),
        under("TRAINER.MMRL", REP_LAYERS=list(layers), **numbers),
        dataset=dataset,
        # Theirs are those of the first feature, of the second, and of both.
        logits=2,
        scale=100.0,
        regularised=True,
    )


CASES = [
    mmrl("EuroSAT"),
    mmrl("DescribableTextures", (3,), ALPHA=0.4, N_REP_TOKENS=2),
    mmrl("Food101", (2,), REP_DIM=16),
    mmrl("StanfordCars", REG_WEIGHT=0.01, N_REP_TOKENS=1),
    dataclasses.replace(mmrl("UCF101"), casts="fp16"),
]
