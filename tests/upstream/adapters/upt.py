"""UPT as BMIP's authors released it, of LAMDASZ-ML/BMIP: their trainer reads the settings of BITP."""

from __future__ import annotations

from comparison import WORDS, Case, under


def upt(length: int, depth: int, words: str = WORDS) -> Case:
    settings = dict(N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words)
    return Case(
        *("UPT", "upt", "BMIP"),
        {"OPTIM.MOMENTUM": 0.9},
        ours=under("TRAINER.UPT", **settings, VARIANT="released", DROPOUT=0.0),
        theirs=under("TRAINER.BITP", **settings, CONNECT_METHOD="add"),
        sizes=dict(vision_layers=4, transformer_layers=4),
        from_words=bool(words) and length <= 4,
    )


CASES = [upt(2, 4), upt(1, 1), upt(4, 2, "a_photo_of_a"), upt(6, 3)]
