"""BITP of LAMDASZ-ML/BMIP, the precursor of BMIP."""

from __future__ import annotations

from comparison import WORDS, Case, under


def bitp(connect: str, length: int, depth: int, share: tuple[bool, bool] = (True, True), words: str = WORDS) -> Case:
    slots = 2 * length if connect == "joint" else length
    return Case(
        *("BITP", "bitp", "BMIP"),
        {
            **under("TRAINER.BITP", N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words, CONNECT_METHOD=connect),
            **under("SHARE", SHARE_PARAMETER_TEXT=share[0], SHARE_PARAMETER_VISUAL=share[1]),
        },
        sizes=dict(vision_layers=4, transformer_layers=4),
        from_words=bool(words) and slots <= 4,
    )


CASES = [
    *[bitp(connect, 1, 4) for connect in ("joint", "exchange", "atten", "add")],
    *[bitp(connect, 2, 3, (False, False)) for connect in ("joint", "exchange", "atten", "add")],
    *[bitp(connect, 2, 2, (True, False)) for connect in ("exchange", "add")],
    bitp("joint", 3, 3, (False, True)),
    bitp("atten", 4, 1, words="a_photo_of_a"),
    bitp("exchange", 3, 4, words=""),
]
