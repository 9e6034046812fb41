"""DeKg, of cnunlp/DeKg."""

from __future__ import annotations

from adapters.kgcoop import TEXTURES
from comparison import WORDS, Case, under

from trainers.prompting.core.templates import BY_DATASET


def dekg(
    dataset: str,
    weight: float = 8.0,
    independence: float = 6.0,
    length: int = 4,
    words: str = WORDS,
    class_specific: bool = False,
) -> Case:
    keys = under(
        "TRAINER.COOP", N_CTX=length, CTX_INIT=words, CSC=class_specific, W=weight, CLASS_TOKEN_POSITION="end"
    )
    weights = {"loss_text": weight, "loss_dependence": independence}
    return Case(
        *("DeKg", "DeKg", "DeKg"),
        {**keys, "LOSS.WEIGHT": independence},
        theirs={"TRAINER.COCOOP.PREC": "fp32"},
        dataset=dataset,
        from_words=bool(words),
        regularised=True,
        terms=weights,
        patches={"trainers.prompting.core.templates.BY_DATASET": {**BY_DATASET, **TEXTURES}},
    )


CASES = [
    *[dekg(dataset) for dataset in (*BY_DATASET, "SUN397", "ImageNetA")],
    dekg("StanfordCars", weight=6.0, independence=2.0),
    dekg("EuroSAT", weight=1.0, independence=1000.0, length=16, words=""),
    dekg("OxfordPets", weight=100.0, length=2, words="", class_specific=True),
]
