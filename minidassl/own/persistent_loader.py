"""A loader whose worker processes live on from epoch to epoch.

Upstream has nothing like it: there every epoch starts its workers anew.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils.worker import _generate_state


class WorkerSeed:
    """The seed that a dataset's kept workers share with the loader; to be used by one dataset."""

    def __init__(self) -> None:
        self.base = torch.zeros((), dtype=torch.int64).share_memory_()
        self.seeded_with = 0

    def renew(self) -> None:
        """In the main process, draw what DataLoader draws to seed fresh workers, here for those that are there."""
        self.base.random_()
        # Workers that another loader starts for this dataset are seeded by that loader.
        self.seeded_with = int(self.base)

    def apply(self) -> None:
        """In the first item of an epoch, seed a kept worker as DataLoader seeds a fresh one."""
        worker, base = get_worker_info(), int(self.base)
        if worker is None or base == self.seeded_with:
            return
        self.seeded_with = base
        random.seed(base + worker.id)
        torch.manual_seed(base + worker.id)
        np.random.seed(_generate_state(base, worker.id))


class PersistentLoader(DataLoader):
    """A loader that keeps its workers, which draw the random numbers that fresh ones would.

    Starting workers takes longer than many a few-shot epoch. Workers that are merely kept draw numbers that depend on
    how many epochs they have lived, so that a resumed run would go on with other augmentations. Its dataset has a
    :class:`WorkerSeed` as ``worker_seed``, which it applies before it reads an item.
    """

    def __iter__(self) -> Iterator[Any]:
        if self._iterator is not None and self._iterator._num_yielded < len(self):
            # The last epoch was left early, and workers may still be busy with it.
            self._iterator = None
        if self._iterator is not None:
            self.dataset.worker_seed.renew()
        return super().__iter__()
