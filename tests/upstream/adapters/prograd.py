"""ProGrad, of BeierZhu/Prompt-align: the checkout is the folder that has its train.py, beside its own Dassl."""

from __future__ import annotations

from comparison import Case, under

from trainers.prompting.core.templates import BY_DATASET

STEP = "prograd_backward_and_update"


def prograd(
    dataset: str,
    words: bool = True,
    length: int = 16,
    position: str = "end",
    share: float = 1.0,
    temperature: float = 1.0,
    class_specific: bool = False,
    casts: str = "none",
) -> Case:
    return Case(
        *("ProGrad", "prograd", "ProGrad"),
        {
            **under("TRAINER.COOP", N_CTX=length, CSC=class_specific, CLASS_TOKEN_POSITION=position),
            **under("LOSS", NAME="prograd", T=temperature, LAMBDA=share),
        },
        ours={"TRAINER.COOP.CTX_INIT": "on" if words else ""},
        theirs={"TRAINER.COOP.CTX_INIT": words},
        dataset=dataset,
        casts=casts,
        from_words=words,
        engine={STEP: "../Dassl.ProGrad.pytorch/dassl/engine/trainer.py"},
    )


CASES = [
    *[prograd(dataset) for dataset in (*BY_DATASET, "SUN397", "ImageNetA")],
    prograd("EuroSAT", share=0.8, temperature=2.0),
    prograd("EuroSAT", words=False, length=4, share=0.8),
    prograd("UCF101", words=False, length=2, class_specific=True, temperature=4.0),
    prograd("UCF101", position="front"),
    prograd("OxfordPets", casts="fp16"),
]
