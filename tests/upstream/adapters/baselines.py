"""CoOp, CoCoOp and zero-shot CLIP, which CoOp's repository and MaPLe's have, and MaPLe with VPT and IVLP."""

from __future__ import annotations

import dataclasses

from comparison import WORDS, Case, under

from trainers.prompting.core.templates import BY_DATASET

# More tokens than words: upstream counts words, and leaves the other tokens in the sentence.
LONG_WORDS = "a_photograph of some-thing"


def coop(length: int, words: str, position: str, csc: bool = False) -> Case:
    keys = under("TRAINER.COOP", N_CTX=length, CTX_INIT=words, CLASS_TOKEN_POSITION=position, CSC=csc)
    return Case("CoOp", "coop", "MaPLe", keys, from_words=bool(words))


def cocoop(length: int, words: str) -> Case:
    keys = under("TRAINER.COCOOP", N_CTX=length, CTX_INIT=words)
    return Case("CoCoOp", "cocoop", "MaPLe", keys, from_words=bool(words))


def vpt(length: int, depth: int) -> Case:
    keys = under("TRAINER.VPT", N_CTX_VISION=length, PROMPT_DEPTH_VISION=depth, CTX_INIT=WORDS)
    return Case("VPT", "vpt", "MaPLe", keys)


def ivlp(text: tuple[int, int], vision: tuple[int, int], words: str) -> Case:
    """`text` and `vision` are length and depth."""
    names = ("N_CTX_TEXT", "PROMPT_DEPTH_TEXT", "N_CTX_VISION", "PROMPT_DEPTH_VISION")
    keys = under("TRAINER.IVLP", **dict(zip(names, (*text, *vision))), CTX_INIT=words)
    return Case("IVLP", "independentVL", "MaPLe", keys, from_words=bool(words) and text[0] <= 4)


def maple(length: int, depth: int, words: str) -> Case:
    keys = under("TRAINER.MAPLE", N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words)
    return Case("MaPLe", "maple", "MaPLe", keys, from_words=bool(words) and length <= 4)


TEXT_ONLY = [
    *[coop(5, "", position, csc) for position in ("end", "middle", "front") for csc in (False, True)],
    *[coop(16, words, position) for position in ("end", "middle", "front") for words in (WORDS, LONG_WORDS)],
    coop(1, "", "middle"),
    cocoop(4, ""),
    cocoop(16, WORDS),
    cocoop(4, LONG_WORDS),
]
TRAINED = [
    *TEXT_ONLY,
    *[vpt(length, depth) for length, depth in ((4, 1), (2, 2), (8, 3))],
    ivlp((2, 1), (2, 1), WORDS),
    ivlp((2, 3), (4, 2), WORDS),
    ivlp((1, 2), (3, 3), "a_photo_of_a"),
    ivlp((4, 2), (1, 1), ""),
    ivlp((6, 3), (2, 3), WORDS),
    *[ivlp(text, (0, 0), words) for text, words in (((4, 3), WORDS), ((3, 1), ""), ((2, 2), WORDS))],
    maple(2, 1, WORDS),
    maple(2, 2, WORDS),
    maple(2, 3, WORDS),
    maple(4, 3, "a_photo_of_a"),
    maple(6, 2, WORDS),
    maple(3, 3, ""),
]
OTHER_DATASETS = ["StanfordCars", "SUN397", "Caltech101"]
OTHER_DATASETS += ["ImageNet", "ImageNetSketch", "ImageNetV2", "ImageNetA", "ImageNetR"]
ZERO_SHOT = [
    Case(trainer, "zsclip", "MaPLe", dataset=dataset)
    for trainer in ("ZeroshotCLIP", "ZeroshotCLIP2")
    for dataset in (*BY_DATASET, *OTHER_DATASETS)
]
# Half precision is slow on a CPU.
HALF = [coop(4, WORDS, "end"), cocoop(4, WORDS), vpt(4, 3), ivlp((2, 3), (2, 3), WORDS), ivlp((4, 3), (0, 0), WORDS)]
HALF += [maple(2, 3, WORDS), Case("ZeroshotCLIP", "zsclip", "MaPLe")]
HALF += [Case("ZeroshotCLIP2", "zsclip", "MaPLe", dataset="ImageNet")]
CASES = [
    *TRAINED,
    *ZERO_SHOT,
    *[dataclasses.replace(case, casts="fp32") for case in TRAINED],
    *[dataclasses.replace(case, casts="fp16") for case in HALF],
    *[dataclasses.replace(case, checkout="CoOp") for case in (*TEXT_ONLY, *ZERO_SHOT[::5])],
    *[dataclasses.replace(case, checkout="CoOp", casts="fp32") for case in TEXT_ONLY],
]
