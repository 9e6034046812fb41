"""The interface of datasets: three lists of :class:`Datum` and the class names.

Differences from upstream: a :class:`Datum` does not check its file (upstream stats every image at every start and
fails without a message); a missing image is reported with its path when it is read. There are no unlabelled images, no
choice of domains, and no downloader.
"""

from __future__ import annotations

import os
import random
from operator import attrgetter


class Datum:
    """One labelled image on disk; label and domain are 0-based indices.

    The attributes are stored with a leading underscore, as in upstream, because upstream's pickled few-shot caches
    have those names.
    """

    def __init__(
        self, impath: str | os.PathLike[str] = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        self._impath = os.fspath(impath)
        self._label = label
        self._domain = domain
        self._classname = classname

    impath = property(attrgetter("_impath"))
    label = property(attrgetter("_label"))
    domain = property(attrgetter("_domain"))
    classname = property(attrgetter("_classname"))

    def __repr__(self) -> str:
        return f"Datum({self.impath!r}, label={self.label}, domain={self.domain}, classname={self.classname!r})"


# CoOp's data sets pickle few-shot subsets into the data folder, and upstream must be able to read them.
Datum.__module__ = "dassl.data.datasets.base_dataset"


class DatasetBase:
    """Base class of all datasets.

    A subclass takes ``cfg`` and ends its constructor with ``super().__init__(train_x=..., val=..., test=...)``.
    Subclasses usually override ``dataset_dir`` by an instance attribute with the absolute path.

    Attributes:
        train_x: labelled training images; class names and their number come from these alone.
        val: validation images, if any.
        test: test images.
        classnames: by ascending label, gaps closed.
        num_classes: largest label plus one; with gaps, more than the number of names.
    """

    dataset_dir: str = ""  # folder name below the data root

    def __init__(
        self, train_x: list[Datum] | None = None, val: list[Datum] | None = None, test: list[Datum] | None = None
    ) -> None:
        if not train_x:
            raise ValueError(f"{type(self).__name__}: there is no training image (train_x is empty)")
        names: dict[int, str] = {}
        for item in train_x:
            known = names.setdefault(item.label, item.classname)
            if known != item.classname:
                raise ValueError(f"label {item.label} is called both {known!r} and {item.classname!r}")
        self.train_x, self.val, self.test = train_x, val, test
        self.classnames = [names[label] for label in sorted(names)]
        self.num_classes = max(names) + 1

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | list[list[Datum]] | tuple[list[Datum], ...]:
        """Sample ``num_shots`` images of every class from each list.

        Draws from Python's global generator, classes in order of first appearance and one draw per class, so that
        few-shot subsets equal those of published runs.

        Args:
            num_shots: images per class; below 1 the input is returned unchanged.
            repeat: fill classes that are too small by drawing with replacement. Otherwise they are taken whole, and
                draw nothing.

        Returns:
            One list if there is one source, else a list of lists (without sampling, the tuple of sources).
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        sampled = []
        for source in data_sources:
            groups: dict[int, list[Datum]] = {}
            for item in source:
                groups.setdefault(item.label, []).append(item)
            sampled.append([])
            for group in groups.values():
                if len(group) >= num_shots:
                    group = random.sample(group, num_shots)
                elif repeat:
                    group = random.choices(group, k=num_shots)
                sampled[-1] += group
        return sampled[0] if len(sampled) == 1 else sampled
