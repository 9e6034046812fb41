"""The work of `scripts/tools/benchmark_run.py`: data, a CLIP of random weights, runs of train.py, and their times."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from trainers.prompting.core.openai_clip import CLIP
from trainers.prompting.recipes import CONFIGS
from trainers.records import read_result

from .. import ROOT
from .benchmark_loading import write_photos

VIT_B16 = {
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 16,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
RECIPE = "vit_b16_c2_ep10_batch4_2ctx"
SHOTS, TESTED = 16, 10  # images of a class


def run(classes: Sequence[int], epochs: int, precision: str) -> None:
    """Measure, and print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        torch.save(CLIP(**VIT_B16).state_dict(), folder / "vit_b16.pt")
        (folder / "photos").mkdir()
        photos = [Path(photo.impath) for photo in write_photos(folder / "photos")]
        for count in classes:
            data = folder / f"{count} classes"
            write_classes(data, count, photos)
            command = ["--root", str(data), "--backbone", str(folder / "vit_b16.pt")]
            options = ["OPTIM.MAX_EPOCH", str(epochs), "TRAINER.BMIP.PREC", precision, "DATASET.SUBSAMPLE_CLASSES"]
            model = folder / f"model of {count // 2} classes"
            trained = timed(model, *command, *options, "base")
            tested = timed(
                folder / f"test of {count}", *command, "--eval-only", "--model-dir", str(model), *options, "all"
            )
            rows.append(row(count // 2, epochs, trained, tested))
    print(f"date: {time.strftime('%Y-%m-%d')}, device: {device()}, torch: {torch.__version__}, {precision}\n")
    headers = [
        "classes",
        "steps",
        "training s",
        "images / s",
        "command s",
        "tested",
        "test s",
        "images / s",
        "command s",
    ]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".1f"))


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def write_classes(folder: Path, count: int, photos: Sequence[Path]) -> None:
    """Folders of classes for training and test, with links to a few files in turn."""
    number = 0
    for part, images in (("train", SHOTS), ("test", TESTED)):
        for label in range(count):
            its = folder / part / f"thing number {label}"
            its.mkdir(parents=True)
            for image in range(images):
                os.link(photos[number % len(photos)], its / f"{image}.jpg")
                number += 1


def timed(output: Path, *words: str) -> tuple[dict, float]:
    """The record of a command of train.py, and its seconds."""
    command = [sys.executable, "train.py", "--trainer", "BMIP", "--seed", "1", "--output-dir", str(output)]
    command += ["--dataset-config-file", str(CONFIGS / "datasets" / "image_folder.yaml")]
    command += ["--config-file", str(CONFIGS / "trainers" / "BMIP" / f"{RECIPE}.yaml"), *words]
    start = time.perf_counter()
    done = subprocess.run([*command, "DATASET.NUM_SHOTS", str(SHOTS)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return read_result(output), time.perf_counter() - start


def row(classes: int, epochs: int, trained: tuple[dict, float], tested: tuple[dict, float]) -> list[float]:
    (training, whole), (test, whole_test) = trained, tested
    steps = epochs * (classes * SHOTS // 4)
    seconds, images = training["train_seconds"], test["images"]
    return [
        classes,
        steps,
        seconds,
        4 * steps / seconds,
        whole,
        images,
        test["test_seconds"],
        images / test["test_seconds"],
        whole_test,
    ]
