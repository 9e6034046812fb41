"""DeCoOp: detectors route images to sub-classifiers or to the frozen CLIP (ICML 2024, arXiv 2406.00345)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from dassl.data.data_manager import build_data_loader
from torch import Tensor

from .base import PromptTrainer, register
from .prompting.learners import decoop


@register
class DeCoOp(PromptTrainer):
    """Without augmentations, images are prepared for training as for a test, as its authors do."""

    method = decoop.METHOD

    def build_data_loader(self) -> None:
        super().build_data_loader()
        if set(self.cfg.INPUT.TRANSFORMS) <= {"normalize"}:
            self.train_loader_x.dataset.transform = self.test_loader.dataset.transform
        self.objective.training_images = self._training_images

    def _training_images(self) -> Iterator[Tensor]:
        cfg, transform = self.cfg, self.test_loader.dataset.transform
        images, batch = self.dm.dataset.train_x, cfg.DATALOADER.TEST.BATCH_SIZE
        # Training goes on with the random numbers that it would have drawn, also where it resumes.
        with torch.random.fork_rng(devices=[]):
            for found in build_data_loader(cfg, data_source=images, batch_size=batch, tfm=transform, is_train=False):
                yield found["img"].to(self.device)
