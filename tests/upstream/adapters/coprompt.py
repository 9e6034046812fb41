"""CoPrompt, of ShuvenduRoy/CoPrompt."""

from __future__ import annotations

import dataclasses
import json

from adapters.promptsrc import HALF_LIMITS
from comparison import WORDS, Case, under
from conftest import CLASSNAMES

# Three of each class, as their code wants the same number of all; the second is drawn.
SENTENCES = {
    name.replace("_", " "): [f"a {name}.", f"{name}, seen from number_{i}.", f"not {name}."]
    for i, name in enumerate(CLASSNAMES)
}


def describe(dataset: str, place: str, classnames: list[str]) -> list[list[str]]:
    return [SENTENCES[name.replace("_", " ")] for name in classnames]


def coprompt(length: int, depth: int, weight: float = 8.0, distance: str = "cosine", words: str = WORDS) -> Case:
    prompts = under("TRAINER.CoPrompt", N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words)
    return Case(
        *("CoPrompt", "coprompt", "CoPrompt"),
        {**prompts, "TRAINER.W": weight, "TRAINER.DISTILL": distance},
        # The adapters are 512 wide whatever the checkpoint.
        sizes=dict(embed_dim=512),
        views=2,
        from_words=bool(words) and length <= 4,
        regularised=True,
        files={"gpt_file/eurosat_prompt.json": json.dumps(SENTENCES)},
        patches={"trainers.prompting.objectives.consistency.describe": describe},
    )


CASES = [
    coprompt(2, 3),
    coprompt(4, 1, weight=0.1),
    coprompt(2, 2, weight=100.0, distance="mse"),
    coprompt(6, 3, words=""),
    dataclasses.replace(coprompt(2, 3), casts="fp16", limits=HALF_LIMITS),
]
