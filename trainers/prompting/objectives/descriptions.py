"""Sentences about classes, from JSON files: an object from class name to a list of sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError

KEY = "TRAINER.CoPrompt.DESCRIPTIONS"
SHOWN_NAMES = 5


def read_descriptions(path: str | Path, classnames: Sequence[str]) -> list[list[str]]:
    """The sentences of each class, in the order of the class names; numbers of sentences may differ.

    Names are compared with underscores as spaces. Names in the file that are no classes are passed over, since a
    model is often trained on some of a data set's classes.

    Raises:
        InputError: there is no such file, it is no such object, or a class has no sentences in it, or twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file of descriptions {path}; correct {KEY}.")
    remedy = f"or name another file in {KEY}."
    try:
        # Editors of some systems begin a file with a mark of its encoding. Objects become tuples, lists stay lists.
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except ValueError as error:
        raise InputError(
            f"The descriptions in {path} are not JSON in UTF-8 ({error}); correct them, {remedy}"
        ) from error
    if not isinstance(content, tuple):
        raise InputError(
            f"{path} holds no JSON object from class names to lists of sentences; write it as one, {remedy}"
        )
    pairs = [(name.replace("_", " "), sentences) for name, sentences in content]
    known, times = dict(pairs), Counter(name for name, _ in pairs)
    found = {name: known.get(name.replace("_", " ")) for name in classnames}
    missing = [name for name, sentences in found.items() if not sentences]
    if missing:
        more = f" and {len(missing) - SHOWN_NAMES} more" if len(missing) > SHOWN_NAMES else ""
        raise InputError(
            f"{path} has no sentences for {len(missing)} of {len(classnames)} classes: "
            f"{', '.join(missing[:SHOWN_NAMES])}{more}. Add them, {remedy}"
        )
    for name, sentences in found.items():
        if times[name.replace("_", " ")] > 1:
            raise InputError(
                f"{path} has {name!r} more than once (underscores count as spaces); keep one of them, {remedy}"
            )
        if not isinstance(sentences, list) or not all(isinstance(text, str) and text.strip() for text in sentences):
            raise InputError(f"{path}: what stands for {name!r} is not a list of sentences; write one, {remedy}")
    return [found[name] for name in classnames]
