"""The record of a test: counts per class, open-world metrics, logits, environment and configuration."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import minidassl  # isort: skip  (first: answers to the name "dassl")
from minidassl.own.files import write_whole

import numpy as np
import torch
from dassl.engine import TRAINER_REGISTRY
from torch import Tensor
from yacs.config import CfgNode

from .config import method_of
from .prompting.core.memory import peak_memory
from .prompting.core.metrics import OpenWorld
from .prompting.methods import identify
from .records import LOGITS, plain_values


class Recorder:
    """Wraps Dassl's evaluator, and collects counts, open-world metrics and logits for the record.

    Args:
        evaluator: Dassl's; all its attributes are available here.
        classes: number of classes; the first half, rounded up, are base classes until `mark_learned` says otherwise.
        keep_logits: for `save_logits`.
    """

    def __init__(self, evaluator: Any, classes: int, keep_logits: bool = False):
        self._evaluator, self._classes, self._keep_logits = evaluator, classes, keep_logits
        self.is_base = torch.arange(classes) < math.ceil(classes / 2)
        self.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def reset(self) -> None:
        self._evaluator.reset()
        self.open_world = OpenWorld(self.is_base)
        self._correct, self._total = (torch.zeros(self._classes, dtype=torch.long) for _ in range(2))
        self._logits: list[tuple[Tensor, Tensor]] = []

    def process(self, logits: Tensor, labels: Tensor) -> None:
        """Logits `[batch, classes]`, labels `[batch]`; raises FloatingPointError for logits that are not finite."""
        if not torch.isfinite(logits).all():
            first = int(self._total.sum())
            raise FloatingPointError(
                f"The logits of some of the test images {first + 1} to {first + len(labels)} are not finite, so there "
                "is no result. Compute in fp32 (PREC), or train again with a lower OPTIM.LR."
            )
        self._evaluator.process(logits, labels)
        self.open_world.add(logits, labels)
        logits, labels = logits.float().cpu(), labels.cpu()
        self._total += labels.bincount(minlength=self._classes)
        self._correct += labels[logits.argmax(dim=1) == labels].bincount(minlength=self._classes)
        if self._keep_logits:
            self._logits.append((logits, labels))

    def mark_learned(self, names: Sequence[str], learned: Sequence[str] | None) -> None:
        """Set the base classes to those with learned names, if these are known."""
        if learned is not None:
            self.is_base = torch.tensor([name in learned for name in names])

    def per_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Name, number of images and number of correct ones of each class, by label."""
        counts = zip(names, self._total.tolist(), self._correct.tolist())
        return [{"name": name, "images": total, "correct": correct} for name, total, correct in counts]

    def save_logits(self, folder: str | Path) -> None:
        """Write `logits.npz`: `logits` `[images, classes]` in fp32 and `labels` `[images]`, in the test's order."""
        logits, labels = (torch.cat(parts).numpy() for parts in zip(*self._logits))
        write_whole(Path(folder) / LOGITS, lambda file: np.savez_compressed(file, logits=logits, labels=labels))


def data_fingerprint(items: Iterable[Any], folder: str) -> str:
    """A hash of the images of a test: paths below the data set's folder, labels and class names, in order."""
    digest = hashlib.sha256()
    for item in items:
        path = os.path.relpath(item.impath, folder).replace(os.sep, "/")
        digest.update(f"{path}\t{item.label}\t{item.classname}\n".encode())
    return digest.hexdigest()[:16]


def weights_hash(state_dict: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and values of trained tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def environment(device: torch.device) -> dict[str, str]:
    """Versions and device of a run."""
    on_gpu = device.type == "cuda"
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "dassl": minidassl.CHOICE,
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


@functools.cache
def code_version() -> str:
    """A hash of this project's source; needs no git, and covers uncommitted changes."""
    trainers = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    # In a plugin, the trainers are not beside the stand-in, and the data sets are another project's.
    for folder in (trainers, trainers.parent / "datasets", Path(minidassl.__file__).resolve().parent):
        for file in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
            digest.update(file.relative_to(folder.parent).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def plain_configuration(cfg: CfgNode) -> dict[str, Any]:
    """A configuration as plain data, without the nodes of other methods."""
    plain = plain_values(cfg)
    own = method_of(cfg.TRAINER.NAME)
    methods = filter(None, map(method_of, TRAINER_REGISTRY.registered_names()))
    for node in {method.node for method in methods if own is None or method.node != own.node}:
        plain["TRAINER"].pop(node, None)
    return plain


def learned_classes(trainer: Any) -> Tensor:
    """Whether the tested model was trained on each class with images of the test's data set, `[classes]` bool.

    Where the training is unknown, as of a published checkpoint, it was on the base classes.
    """
    data, source, is_base = trainer.cfg.DATASET, trainer.trained_on, trainer.evaluator.is_base
    of_training, of_test = source["classes"] if source else "base", data.SUBSAMPLE_CLASSES
    if source and source["dataset"] != data.NAME:
        return torch.zeros_like(is_base)
    if trainer.learned is not None or (of_test == "all" and of_training == "base"):
        return is_base
    return torch.full_like(is_base, of_training in ("all", of_test))


def open_world(trainer: Any) -> dict[str, float] | None:
    """Compute and print open-world metrics of a model of some classes on all classes; None for other tests."""
    if trainer.trained or trainer.cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        return None
    other_source = trainer.trained_on is not None and trainer.trained_on["classes"] != "base"
    if other_source or (trainer.tests_other_images and trainer.learned is None):
        return None
    found = trainer.evaluator.open_world.results()
    if found is not None:
        rule = "first half of the classes" if trainer.learned is None else "learned classes"
        print(f"=> open world (base: {rule})")
        print("\n".join(f"* open-world {name}: {value:.2f}%" for name, value in found.items()))
    return found


def record_of(trainer: Any, accuracy: float | None = None, test_seconds: float | None = None) -> dict[str, Any]:
    """The content of `result.json` for a trainer's run.

    Args:
        accuracy: of the last test, in per cent; None without a test.
        test_seconds: duration of that test.
    """
    cfg, tested, data = trainer.cfg, accuracy is not None, trainer.dm.dataset
    images = data.val if cfg.TEST.SPLIT == "val" and trainer.val_loader is not None else data.test
    method, variant = identify(trainer.method.trainer, cfg.TRAINER.RECIPE)
    return {
        "trainer": cfg.TRAINER.NAME,
        "method": method,
        "recipe": cfg.TRAINER.RECIPE,
        "variant": variant,
        "tag": cfg.TRAINER.TAG,
        "dataset": cfg.DATASET.NAME,
        "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "split": cfg.TEST.SPLIT,
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "num_classes": trainer.num_classes,
        "accuracy": accuracy,
        "open_world": open_world(trainer) if tested else None,
        "per_class": trainer.evaluator.per_class(data.classnames) if tested else None,
        "images": len(images) if tested else None,
        "data_fingerprint": data_fingerprint(images, data.dataset_dir) if tested else None,
        **(trainer.method_results() if tested else {}),
        "trained": trainer.trained,
        "model_dir": trainer.model_dir,
        "trained_on": trainer.trained_on,
        "weights_hash": weights_hash(trainer.learner.state_dict()),
        "parameters": sum(parameter.numel() for parameter in trainer.learner.parameters()),
        "train_seconds": trainer.train_seconds if trainer.trained else None,
        "test_seconds": test_seconds,
        "peak_memory_bytes": peak_memory(trainer.device),
        "environment": environment(trainer.device),
        "configuration": plain_configuration(cfg),
    }
