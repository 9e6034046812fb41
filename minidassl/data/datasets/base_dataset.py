"""What a dataset is to the rest of the code: three or four lists of :class:`Datum` and the class names.

Differences from upstream: a :class:`Datum` does not look whether its file exists (upstream stats every image at every
start and fails without a message); a missing image is reported with its path when it is read. There are neither
unlabelled images nor domains to choose from, and there is no downloader.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence


class Datum:
    """One labelled image on disk.

    The four attributes are stored under a leading underscore, as in upstream, because few-shot caches that upstream
    pickled carry those names.

    Args:
        impath: path of the image file; not checked here.
        label: class index, 0-based.
        domain: domain index, 0-based.
        classname: class name in words.
    """

    def __init__(
        self, impath: str | os.PathLike[str] = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        self._impath = os.fspath(impath)
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __repr__(self) -> str:
        return f"Datum({self.impath!r}, label={self.label}, domain={self.domain}, classname={self.classname!r})"


# CoOp's data sets pickle few-shot subsets into the data folder, where upstream must be able to read them too.
Datum.__module__ = "dassl.data.datasets.base_dataset"


class DatasetBase:
    """Base class of all datasets.

    A subclass takes ``cfg`` and ends its constructor with ``super().__init__(train_x=..., val=..., test=...)``.
    Subclasses usually shadow ``dataset_dir`` with an instance attribute that holds the absolute path.

    Args:
        train_x: labelled training images; class names and their number are read from these alone.
        val: validation images, if any.
        test: test images.

    Raises:
        ValueError: ``train_x`` is empty, or one label carries two class names.
    """

    dataset_dir: str = ""  # folder name below the data root

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise ValueError(f"{type(self).__name__}: there is no training image (train_x is empty)")
        self._train_x = train_x
        self._val = val
        self._test = test
        self._classnames = _classnames_of(train_x)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def classnames(self) -> list[str]:
        return self._classnames

    @property
    def num_classes(self) -> int:
        """Largest label plus one, which exceeds the number of names where there are gaps."""
        return max(item.label for item in self._train_x) + 1

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | list[list[Datum]] | tuple[list[Datum], ...]:
        """Sample ``num_shots`` images of every class from each list.

        Draws from Python's global generator, classes in order of first appearance and one draw per class, which is
        what makes few-shot subsets equal to those of published runs.

        Args:
            data_sources: one or more lists.
            num_shots: images per class; below 1 the input comes back unchanged.
            repeat: fill classes that are too small by drawing with replacement. Otherwise they are taken whole, which
                draws nothing.

        Returns:
            One list if there is one source, else a list of lists (the tuple of sources where nothing is sampled).
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        sampled = [
            [item for group in _by_label(source) for item in _sample_shots(group, num_shots, repeat)]
            for source in data_sources
        ]
        return sampled[0] if len(sampled) == 1 else sampled


def _classnames_of(data_source: Sequence[Datum]) -> list[str]:
    """Class names by ascending label, gaps closed; a ``ValueError`` where one label carries two names."""
    names: dict[int, str] = {}
    for item in data_source:
        known = names.setdefault(item.label, item.classname)
        if known != item.classname:
            raise ValueError(f"label {item.label} is called both {known!r} and {item.classname!r}")
    return [names[label] for label in sorted(names)]


def _by_label(data_source: Sequence[Datum]) -> Iterable[list[Datum]]:
    """Images in groups of one label, in order of first appearance."""
    groups: dict[int, list[Datum]] = defaultdict(list)
    for item in data_source:
        groups[item.label].append(item)
    return groups.values()


def _sample_shots(group: list[Datum], num_shots: int, repeat: bool) -> list[Datum]:
    if len(group) >= num_shots:
        return random.sample(group, num_shots)
    return random.choices(group, k=num_shots) if repeat else group
