"""TCP, of htyao89/Textual-based_Class-aware_prompt_tuning."""

from __future__ import annotations

from comparison import WORDS, Case, under

from trainers.prompting.core.templates import BY_DATASET

# The sentences of ours that are not the authors'.
SENTENCES = {
    "DescribableTextures": "a photo of a {}, a type of texture.",
    "FGVCAircraft": "a photo of an aircraft {}.",
    "Food101": "a photo of a {}, a type of food.",
}


def tcp(dataset: str, words: str = "") -> Case:
    return Case(
        *("TCP", "tcp", "TCP"),
        under("TRAINER.COOP", N_CTX=4, CTX_INIT=words),
        ours={"TRAINER.COOP.CLASS_LAYER": 9},
        theirs={**under("TRAINER.COOP", CSC=False, W=1.0, CLASS_TOKEN_POSITION="end"), "TRAINER.COCOOP.PREC": "fp32"},
        dataset=dataset,
        # Their ninth layer is the ninth whatever the checkpoint.
        sizes=dict(transformer_layers=9),
        from_words=bool(words),
        regularised=True,
        patches={"trainers.prompting.core.templates.BY_DATASET": {**BY_DATASET, **SENTENCES}},
    )


CASES = [
    *[tcp(dataset) for dataset in ("EuroSAT", "DescribableTextures", "StanfordCars", "UCF101")],
    tcp("EuroSAT", WORDS),
]
