"""How long runs take and how much memory: by records of this project, else by published times."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidassl.own.jobs.progress import duration

from trainers.records import RESULT

from .data import ROW_OF, config_name
from .methods import TINY, recipe_name
from .runs import Run

# Hours on one GPU for a training run with sixteen shots: MaPLe's authors report one for ImageNet, and four for ten
# data sets and three seeds, in five epochs of half the images.
GPU_HOURS = {"imagenet": 1.0}
OTHER_GPU_HOURS = 4 / 30
# They report nothing of tests. An assumption: images are loaded and decoded no faster by the cores beside a GPU.
TEST_IMAGES_PER_SECOND = 500
# Of the small CLIP, measured, on one core: training by data set, and a test.
CPU_SECONDS = {"icons": 23, "symbols": 50}
OTHER_CPU_SECONDS, CPU_SECONDS_OF_TEST = 10, 2
# Bytes of a run where no record tells: small CLIP, and ViT-B/16 with a thousand classes (docs/PERFORMANCE.md).
SMALL_BYTES, USUAL_BYTES = int(0.7 * 2**30), 4 * 2**30
CONTEXT_BYTES = 2**29  # of CUDA, beside what PyTorch counts
_LARGEST_FILE = 2**22  # of a record; other files are none


def published_seconds(run: Run) -> float:
    """By the published times, and those measured here for the small CLIP."""
    if run.is_small:
        return CPU_SECONDS.get(run.dataset, OTHER_CPU_SECONDS) if run.trains else CPU_SECONDS_OF_TEST
    if run.trains:
        return 3600 * GPU_HOURS.get(run.dataset, OTHER_GPU_HOURS)
    sizes = ROW_OF[run.dataset].published if run.dataset in ROW_OF else None
    return (sizes[-1] if sizes else 0) / TEST_IMAGES_PER_SECOND


class Estimates:
    """Seconds and bytes of runs.

    Args:
        output: folder of records.
        device: the name of the device that runs will use, as records have it; those of others do not count.
    """

    def __init__(self, output: Path, device: str):
        self._seconds: dict[tuple, list[float]] = defaultdict(list)
        self._bytes: dict[bool, int] = {}
        for record in _records(output):
            with suppress(LookupError, TypeError, ValueError):
                if record["environment"]["device"] == device:
                    self._learn(record)

    def _learn(self, record: dict[str, Any]) -> None:
        trained, recipe, shots = bool(record["trained"]), str(record["recipe"]), int(record["shots"])
        seconds = float((record["train_seconds"] if trained else 0) or 0) + float(record["test_seconds"] or 0)
        dataset, small = config_name(record["dataset"]) or record["dataset"], recipe.startswith(TINY)
        for key in ((record["method"], recipe, dataset, trained, record["classes"], shots), (dataset, trained, small)):
            self._seconds[key].append(seconds)
        self._bytes[small] = max(int(record["peak_memory_bytes"] or 0), self._bytes.get(small, 0))

    def measured(self, run: Run) -> float | None:
        """Median seconds by records of this recipe, else of any on this data set; None if there are none."""
        shots = int(dict(zip(run.options[::2], run.options[1::2])).get("DATASET.NUM_SHOTS", -1))
        exact = run.method, recipe_name(run.recipe), run.dataset, run.trains, run.classes, shots
        for key in (exact, (run.dataset, run.trains, run.is_small)):
            if found := self._seconds.get(key):
                return statistics.median(found)
        return None

    def seconds(self, run: Run) -> float:
        """Measured, else published."""
        found = self.measured(run)
        return published_seconds(run) if found is None else found

    def bytes_needed(self, small: bool, on_gpu: bool) -> int:
        """Of the largest run, of the small CLIP or another."""
        return self._bytes.get(small, SMALL_BYTES if small else USUAL_BYTES) + CONTEXT_BYTES * on_gpu

    def cost(self, missing: Sequence[Run]) -> str:
        """What runs take, with a comma before it, on the device that they are for; nothing if there are none.

        On GPUs training alone counts, since no times of tests are published.
        """
        on_gpu = [run for run in missing if run.trains and not run.is_small]
        on_cpu = [run for run in missing if run.is_small]
        parts = []
        for chosen, unit, of, source in (
            (on_gpu, "GPU", " of training", "MaPLe's reported times"),
            (on_cpu, "CPU", " on one core", ""),
        ):
            if seconds := sum(map(self.seconds, chosen)):
                known = sum(filter(None, map(self.measured, chosen))) / seconds
                here = f"{known:.0%} by records of this device" if known > 0.005 else ""
                sources = ", else by ".join(filter(None, [here, source if known < 0.995 else ""]))
                told = f" ({sources if here else f'by {sources}'})" if sources else ""
                number, word = duration(seconds).split()
                parts.append(f"{number} {unit} {word}{of}{told}")
        return f", about {' and '.join(parts)}" if parts else ""


def _records(output: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(output.rglob(RESULT)):
        with suppress(OSError, ValueError, RecursionError):
            if path.stat().st_size <= _LARGEST_FILE and isinstance(record := json.loads(path.read_text()), dict):
                yield record
