"""MMRL and MMRL++, of yunncheng/MMRL."""

from __future__ import annotations

import dataclasses

from comparison import Case, under


def mmrl(dataset: str, layers: tuple[int, ...] = (2, 3), trainer: str = "MMRL", **settings: float) -> Case:
    numbers = {**dict(ALPHA=0.7, REG_WEIGHT=3.0, N_REP_TOKENS=5, REP_DIM=64), **settings}
    return Case(
        *(trainer, trainer.lower(), "MMRL"),
        under(f"TRAINER.{trainer}", REP_LAYERS=list(layers), **numbers),
        dataset=dataset,
        # Theirs are those of the first feature, of the second, and of both.
        logits=2,
        scale=100.0,
        regularised=True,
    )


# With fp16 towers theirs stops with an error.
def mmrlpp(dataset: str, layers: tuple[int, ...] = (2, 3), **settings: float) -> Case:
    return mmrl(dataset, layers, "MMRLpp", **{**dict(BETA=0.6, RES_LORA_DIM=4, PROJ_LORA_DIM=64), **settings})


CASES = [
    mmrl("EuroSAT"),
    mmrl("DescribableTextures", (3,), ALPHA=0.4, N_REP_TOKENS=2),
    mmrl("Food101", (2,), REP_DIM=16),
    mmrl("StanfordCars", REG_WEIGHT=0.01, N_REP_TOKENS=1),
    dataclasses.replace(mmrl("UCF101"), casts="fp16"),
    mmrlpp("EuroSAT"),
    mmrlpp("DescribableTextures", (3,), ALPHA=0.4, N_REP_TOKENS=2),
    # Where a factor has few entries, gradients that nearly cancel out sum up in each.
    dataclasses.replace(mmrlpp("OxfordPets", BETA=0.2, RES_LORA_DIM=1, PROJ_LORA_DIM=8), limits=(1e-5, 3e-5, 3e-5)),
]
