"""ProDA as BMIP's authors released it, of LAMDASZ-ML/BMIP: they encode as many sentences as a batch has images."""

from __future__ import annotations

from collections.abc import Sequence

from comparison import Case, under

from trainers.prompting.core.class_tokens import place_slots, tokenize_classes


class AsItIs(str):
    """A class name whose underscores stay, as in their sentences."""

    def replace(self, *_: str) -> AsItIs:
        return self


def as_they_are(names: Sequence[str]) -> list[AsItIs]:
    return [AsItIs(name) for name in names]


def proda(number: int, length: int, together: int) -> Case:
    return Case(
        *("ProDA", "proda", "BMIP"),
        under("TRAINER.ProDA", N_CTX=length, N_PROMPT=number),
        ours=under("TRAINER.ProDA", VARIANT="released", PROMPTS_PER_STEP=together),
        theirs={"DATALOADER.TRAIN_X.BATCH_SIZE": together, "DATALOADER.MULTILABEL": False},
        regularised=True,
        tests_apart=True,
        before_test="set_classifier",
        patches={
            "random.sample": lambda templates, number: list(reversed(templates)),
            "trainers.prompting.core.prompted_clip.tokenize_classes": lambda names, *others: tokenize_classes(
                as_they_are(names), *others
            ),
            "trainers.prompting.core.prompted_clip.place_slots": lambda tokens, names, *others: place_slots(
                tokens, as_they_are(names), *others
            ),
        },
    )


CASES = [proda(32, 16, 4), proda(8, 2, 2), proda(4, 3, 4), proda(12, 1, 6)]
