"""A data set and a trainer whose runs take a second, on the stand-in or on upstream Dassl."""

from __future__ import annotations

import functools
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn
from torch.nn import functional as F

EPOCHS = 4
BATCHES = 3


class Killed(Exception): ...


@functools.cache
def toy_trainer(dassl: str) -> type:
    """The trainer, registered in the package of this name, and so is its data set."""
    data, engine, metrics, optim = (
        import_module(f"{dassl}.{part}") for part in ("data.datasets", "engine", "metrics", "optim")
    )

    @data.DATASET_REGISTRY.register()
    class ToyTiles(data.DatasetBase):
        """Three classes of noisy 8 x 8 images: 12 for training, 6 for validation, 6 for testing."""

        def __init__(self, cfg):
            root = Path(cfg.DATASET.ROOT) / "toy_tiles"
            root.mkdir(parents=True, exist_ok=True)
            noise, items = np.random.default_rng(0), []
            for number in range(24):
                path, label = root / f"{number}.png", number % 3
                pixels = noise.integers(0, 120, size=(8, 8, 3)) + 60 * np.eye(3)[label]
                Image.fromarray(pixels.astype(np.uint8)).save(path)
                items.append(data.Datum(str(path), label, classname=f"colour {label}"))
            super().__init__(train_x=items[:12], val=items[12:18], test=items[18:])

    @engine.TRAINER_REGISTRY.register()
    class ToyTrainer(engine.TrainerX):
        """A linear head with dropout; keeps what it logged, and dies in the middle of epoch ``kill_at`` (0-based)."""

        kill_at = None

        def build_model(self):
            self.model = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(192, self.num_classes)).to(self.device)
            self.optim = optim.build_optimizer(self.model, self.cfg.OPTIM)
            self.sched = optim.build_lr_scheduler(self.optim, self.cfg.OPTIM)
            self.register_model("head", self.model, self.optim, self.sched)
            self.logged = {}

        def forward_backward(self, batch):
            if (self.epoch, self.batch_idx) == (self.kill_at, 1):
                raise Killed
            image, label, _ = self.parse_batch_train(batch)
            output = self.model(image)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
            if self.batch_idx + 1 == self.num_batches:
                self.update_lr()
            self.logged[self.epoch, self.batch_idx] = loss.item()
            return {"loss": loss.item(), "acc": metrics.compute_accuracy(output, label)[0].item()}

    return ToyTrainer


def toy_cfg(dassl: str, folder: Path, *options, name: str = "out"):
    """The configuration of a run that writes to ``name`` in a folder."""
    cfg = import_module(f"{dassl}.config").get_cfg_default()
    cfg.merge_from_list(
        ["OUTPUT_DIR", str(folder / name), "DATASET.ROOT", str(folder), "DATASET.NAME", "ToyTiles"]
        + ["TRAINER.NAME", "ToyTrainer", "USE_CUDA", False, "DATALOADER.NUM_WORKERS", 0, "INPUT.SIZE", (8, 8)]
        + ["INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "randaugment", "normalize")]
        + ["DATALOADER.TRAIN_X.BATCH_SIZE", 4, "OPTIM.NAME", "sgd", "OPTIM.LR", 0.02]
        + ["OPTIM.LR_SCHEDULER", "cosine", "OPTIM.MAX_EPOCH", EPOCHS, "TRAIN.PRINT_FREQ", 2, *options]
    )
    cfg.freeze()
    return cfg
