"""KgCoOp, of htyao89/KgCoOp: the checkout is the folder that has its train.py."""

from __future__ import annotations

from comparison import WORDS, Case, under

from trainers.prompting.core.templates import BY_DATASET

# The one sentence of ours that is not the authors'.
TEXTURES = {"DescribableTextures": "a photo of a {}, a type of texture."}


def kgcoop(
    dataset: str, weight: float = 8.0, length: int = 4, words: str = WORDS, class_specific: bool = False
) -> Case:
    return Case(
        *("KgCoOp", "kgcoop", "KgCoOp"),
        under("TRAINER.COOP", N_CTX=length, CTX_INIT=words, CSC=class_specific, W=weight, CLASS_TOKEN_POSITION="end"),
        theirs={"TRAINER.COCOOP.PREC": "fp32"},
        dataset=dataset,
        from_words=bool(words),
        regularised=weight > 0,
        terms={"loss_text": weight} if weight else {},
        patches={"trainers.prompting.core.templates.BY_DATASET": {**BY_DATASET, **TEXTURES}},
    )


CASES = [
    *[kgcoop(dataset) for dataset in (*BY_DATASET, "SUN397", "ImageNetA")],
    kgcoop("EuroSAT", weight=0.0),
    kgcoop("EuroSAT", weight=1.0, length=16, words=""),
    kgcoop("OxfordPets", weight=100.0, length=2, words="", class_specific=True),
]
