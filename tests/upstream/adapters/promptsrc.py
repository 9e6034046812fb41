"""PromptSRC, of muzairkhattak/PromptSRC, and its objective with BMIP's prompts, of LAMDASZ-ML/BMIP."""

from __future__ import annotations

import dataclasses

from comparison import WORDS, Case, under

from trainers.prompting.core.templates import SIXTY

# Half precision rounds the objective's teachers and adapters as well; a unit may be on that is off in ours. How much
# that is depends on the CPU's products in half precision: at most 0.24 and 0.031 on the machines that ran this.
HALF_LIMITS = (1e-2, 3e-1, 4e-2)
# Of the teacher's sentences, in most cases; encoding them takes most of the time.
FEW = sorted(SIXTY)[:2]
SAME_FEW = dict(
    names={"IMAGENET_TEMPLATES": FEW},
    patches={"trainers.prompting.objectives.self_regulation.TEACHER_SENTENCES": dict.fromkeys((60, 80), FEW)},
)


def objective(weights: tuple[float, float] = (25.0, 10.0), gaussian: tuple[float, float] = (15.0, 1.0)) -> dict:
    """`weights` of text and image, `gaussian` mean and standard deviation."""
    names = ("TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "GPA_MEAN", "GPA_STD")
    return under("TRAINER.PROMPTSRC", **dict(zip(names, (*weights, *gaussian))))


def prompts(text: tuple[int, int], vision: tuple[int, int], words: str = WORDS) -> dict:
    """`text` and `vision` are length and depth."""
    names = ("N_CTX_TEXT", "PROMPT_DEPTH_TEXT", "N_CTX_VISION", "PROMPT_DEPTH_VISION")
    return under("TRAINER.PROMPTSRC", **dict(zip(names, (*text, *vision))), CTX_INIT=words)


def promptsrc(text=(4, 3), vision=(4, 3), words=WORDS, sentences=SAME_FEW, epochs=0, **terms) -> Case:
    return Case(
        *("PromptSRC", "promptsrc", "PromptSRC"),
        {**prompts(text, vision, words), **objective(**terms)},
        sizes=dict(embed_dim=512),
        epochs=epochs,
        from_words=bool(words) and text[0] <= 4,
        regularised=True,
        **sentences,
    )


def stacked(length: int, depth: int, share=True, towers=3, epochs=0, **terms) -> Case:
    """`towers` is the depth that the authors hand to their towers beside that of the prompts."""
    return Case(
        *("PromptSRC_BMIP", "promptsrc_bmip", "BMIP"),
        {**objective(**terms), "SHARE.SHARE_PARAMETER_VISUAL": share, "SHARE.SHARE_PARAMETER_TEXT": share},
        ours=under("TRAINER.BMIP", VARIANT="released", N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=WORDS),
        theirs={
            **prompts((length, towers), (length, towers)),
            **under("TRAINER.PROMPTSRC", PROMPT_DEPTH=depth, CONNECT_METHOD="None"),
            "TRAINER.BMIP.WEIGHT_THRESHOLD": 0.0025,
        },
        sizes=dict(embed_dim=512),
        epochs=epochs,
        from_words=True,
        regularised=True,
        faint=True,
        **SAME_FEW,
    )


CASES = [
    promptsrc(sentences={}),
    promptsrc((2, 1), (3, 2), weights=(0.0, 10.0)),
    promptsrc((4, 2), (4, 2), weights=(25.0, 0.0)),
    promptsrc((6, 3), (2, 1), "", weights=(0.0, 0.0)),
    promptsrc(gaussian=(3.0, 1.0), epochs=4),
    promptsrc((2, 2), (2, 2), gaussian=(2.0, 10.0), epochs=3),
    dataclasses.replace(promptsrc(sentences={}), casts="fp16", limits=HALF_LIMITS),
    stacked(2, 3),
    stacked(4, 2, share=False),
    # The authors' file for transfer: three layers for the towers, more for the prompts.
    stacked(2, 3, towers=1, gaussian=(6.0, 10.0)),
    stacked(2, 1),
    stacked(2, 3, gaussian=(3.0, 1.5), epochs=4),
    dataclasses.replace(stacked(2, 3), casts="fp16", limits=HALF_LIMITS),
]
