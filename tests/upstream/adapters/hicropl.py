"""HiCroPL as its authors released it, of zzeoZheng/HiCroPL."""

from __future__ import annotations

import json

from adapters.coprompt import SENTENCES, describe
from comparison import WORDS, Case, under


def hicropl(length: int, depth: int, cross: int, words: str = WORDS, weight: float = 12.0) -> Case:
    return Case(
        *("HiCroPL", "hicropl", "HiCroPL"),
        under("TRAINER.HICROPL", N_CTX=length, PROMPT_DEPTH=depth, CROSS_LAYER=cross, CTX_INIT=words, LAMBD=weight),
        ours={"TRAINER.HICROPL.VARIANT": "released"},
        # Their trainer asks another method's node for the precision.
        theirs={"TRAINER.HICROPL.TEACHER_NAME": "ViT-B/16", "TRAINER.IVLP.PREC": "fp32"},
        sizes=dict(vision_layers=4, transformer_layers=4),
        from_words=bool(words) and length <= 4,
        regularised=True,
        tests_apart=True,
        # The random mappers make prompts large, twice before the step.
        faint=True,
        files={"gpt_file/eurosat_prompt.json": json.dumps(SENTENCES)},
        patches={"trainers.prompting.objectives.anchoring.describe": describe},
    )


CASES = [
    hicropl(2, 4, 2),
    hicropl(4, 3, 1, weight=0.5),
    hicropl(1, 2, 1, "a_photo_of_a"),
    hicropl(16, 4, 3),
    hicropl(3, 4, 2, ""),
]
