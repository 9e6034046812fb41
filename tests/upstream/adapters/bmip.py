"""BMIP as its authors released it, of LAMDASZ-ML/BMIP."""

from __future__ import annotations

from comparison import WORDS, Case, under


def bmip(depth: int, length: int = 2, words: str = WORDS, share: bool = True) -> Case:
    return Case(
        *("BMIP", "bmip", "BMIP"),
        {
            **under("TRAINER.BMIP", N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words),
            **under("SHARE", SHARE_PARAMETER_VISUAL=share, SHARE_PARAMETER_TEXT=share),
        },
        ours={"TRAINER.BMIP.VARIANT": "released"},
        theirs=under("TRAINER.BMIP", CONNECT_METHOD="None", WEIGHT_THRESHOLD=0),
        sizes=dict(vision_width=192, vision_layers=4, transformer_layers=4, embed_dim=32),
        from_words=bool(words) and length <= 4,
        faint=True,
    )


CASES = [
    bmip(1),
    bmip(2),
    bmip(4),
    bmip(4, share=False),
    bmip(3, length=4, words="a_photo_of_a"),
    bmip(3, length=6, share=False),
    bmip(3, words=""),
]
