"""A loader with persistent worker processes that draw the random numbers of fresh ones.

Upstream starts new workers in every epoch.
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
    """The seed that a dataset's persistent workers share with the loader; each dataset has its own."""

    def __init__(self) -> None:
        self.base = torch.zeros((), dtype=torch.int64).share_memory_()
        self.seeded_with = 0

    def renew(self) -> None:
        """In the main process, draw a seed for the existing workers, as DataLoader draws one for fresh workers."""
        self.base.random_()
        # If another loader starts workers for this dataset, that loader seeds them.
        self.seeded_with = int(self.base)

    def apply(self) -> None:
        """In the first item of an epoch, seed a persistent worker as DataLoader seeds a fresh one."""
        worker, base = get_worker_info(), int(self.base)
        if worker is None or base == self.seeded_with:
            return
        self.seeded_with = base
        random.seed(base + worker.id)
        torch.manual_seed(base + worker.id)
        np.random.seed(_generate_state(base, worker.id))


class PersistentLoader(DataLoader):
    """A loader that keeps its workers, and reseeds them in each epoch like fresh ones.

    Starting workers takes longer than many a few-shot epoch. Without reseeding, their random numbers would depend on
    their age in epochs, and a resumed run would draw other augmentations. The dataset has a :class:`WorkerSeed` as
    ``worker_seed``, and applies it before it reads an item.
    """

    def __iter__(self) -> Iterator[Any]:
        if self._iterator is not None and self._iterator._num_yielded < len(self):
            # The last epoch ended early, and workers may still be busy with it.
            self._iterator = None
        if self._iterator is not None:
            self.dataset.worker_seed.renew()
        return super().__iter__()
