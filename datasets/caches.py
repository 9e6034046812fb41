"""Read CoOp's few-shot caches, `split_fewshot/shot_<shots>-seed_<seed>.pkl`, without executing anything from them.

CoOp uses any cache that it finds. The cache decides the images of a seed, because CoOp's run that derives a split
draws other shots than a later one. This project writes no caches, because drawing is instant. Paths in a cache are
absolute, often of another machine; they are looked up below the data set's folder.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from trainers.prompting.errors import InputError

from .fewshot import Splits


class _Record:
    """Replaces the cache's record class: attributes without behaviour."""


class _RecordUnpickler(pickle.Unpickler):
    """Resolves the name of the record class alone, which is that of upstream's."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != ("dassl.data.datasets.base_dataset", "Datum"):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Record


def read_cache(path: Path, images: Path, splits: Splits) -> Splits:
    """`splits` with the cached images for "train" and, except for ImageNet, for "val", in cached order.

    Raises:
        InputError: the file is damaged, names another class, or holds images that the split does not have.
    """
    remedy = "move it elsewhere, and the shots are drawn anew"
    try:
        content = _unpickled(path.read_bytes())
        lists = {
            part: [_facts(record) for record in content[part]]
            for part in ("train", "val")
            if part == "train" or part in content
        }
    except Exception as error:  # of many kinds, depending on the bytes
        raise InputError(
            f"{path} is no few-shot cache of CoOp ({error or type(error).__name__}); {remedy}."
        ) from error
    found = {}
    for part, records in lists.items():
        known = {_below(item.path, images): item for item in getattr(splits, part)}
        found[part] = []
        for image, label, name in records:
            item = known.get(_below(image, images))
            if item is None or (item.label, item.name) != (label, name):
                raise InputError(
                    f"{path} holds {image} as {name!r} with label {label}, which the split's {part!r} does not have; "
                    f"it was made for another split: {remedy}."
                )
            found[part].append(item)
    return splits._replace(**found)


def _unpickled(pickled: bytes) -> Any:
    # Imported here because it takes seconds, and few data sets have caches.
    from minidassl.own.archive import check_memo

    check_memo(pickled)
    # A few bytes of tuples in tuples, as a key, take hours to hash; and a state in one could change the class.
    if any(opcode.name.startswith(("TUPLE", "FROZENSET")) for opcode, _, _ in pickletools.genops(pickled)):
        raise pickle.UnpicklingError("it has tuples")
    return _RecordUnpickler(io.BytesIO(pickled)).load()


def _facts(record: Any) -> tuple[str, int, str]:
    facts = record._impath, record._label, record._classname
    if [type(fact) for fact in facts] != [str, int, str]:
        raise TypeError("a record is no path, label and class name")
    return facts


def _below(path: str, images: Path) -> str:
    """A path relative to the folder of the images, also if that folder has moved since the path was written."""
    path = path.replace("\\", "/")
    # The folders of the data set and of its images keep their names; for "." they are the same.
    marker = f"/{images.parent.name}/{images.name}/"
    return path.rpartition(marker)[2] if marker in path else path.rpartition(f"/{images.name}/")[2]
