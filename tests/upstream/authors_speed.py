"""Time the authors' own BMIP code beside ours: python tests/upstream/authors_speed.py CHECKOUT FILE.

FILE is the JSON of `scripts/tools/benchmark.py --device cuda --json FILE`. Every case of the released variant in fp16,
the precision of the authors' recipe, gets a record of their code: a step of their trainer, or four batches of their
test.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from authors_bmip import build, design
from run_trainers import stub_dassl

AUTHORS = "authors' code"
ROOT = Path(__file__).resolve().parents[2]
SETTINGS = dict(length=2, depth=9, context="a photo of a", share=True)


def main(checkout: str, file: str) -> None:
    # Our packages have the names of theirs, so theirs need a process without ours.
    sys.path.insert(0, str(ROOT))
    from experiments.tools.benchmark import OURS, TEST, TEST_BATCHES, class_names
    from trainers.prompting.core.summary import SIZES

    content = json.loads(Path(file).read_text())
    records = content["records"] = [record for record in content["records"] if record["model"] != AUTHORS]
    measured = (OURS, "released", "fp16", False)
    keys = ("model", "variant", "precision", "graph")
    ours = [record for record in records if tuple(record[key] for key in keys) == measured]
    cases = [
        dict(
            SETTINGS,
            sizes=SIZES[record["backbone"]],
            classnames=class_names(record["classes"]),
            images=record["batch"],
            tests=TEST_BATCHES if record["work"] == TEST else 0,
            repeats=len(record["times"]),
        )
        for record in ours
    ]
    command = [sys.executable, __file__, "--time", checkout]
    done = subprocess.run(command, input=json.dumps(cases), stdout=subprocess.PIPE, text=True, check=True)
    for record, answer in zip(ours, json.loads(done.stdout.splitlines()[-1])):
        seconds = min(answer["times"], default=None)
        ratio = seconds / record["seconds"] if seconds and record["seconds"] else None
        theirs = {**record, **answer, "model": AUTHORS, "seconds": seconds, "ratio": ratio, "flop": None}
        records.insert(records.index(record) + 1, theirs)
    Path(file).write_text(json.dumps(content, indent=2) + "\n")


def time_cases(checkout: str) -> None:
    """Read cases, and print a list with the seconds and the peak memory of each, or a remark."""
    sys.path.insert(0, checkout)
    stub_dassl()
    print(json.dumps([time_case(case) for case in json.load(sys.stdin)]))


def time_case(case: dict) -> dict:
    from clip.model import CLIP, convert_weights

    clip_model = CLIP(*case["sizes"], design(case["length"]))
    convert_weights(clip_model)
    resolution = case["sizes"][1]
    model = build(case, clip_model, resolution)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("prompt_learner" in name or "learnable_linear" in name)
    model.to("cuda").train(not case["tests"])
    images = torch.randn(case["images"], 3, resolution, resolution, device="cuda")
    labels = torch.randint(len(case["classnames"]), (len(images),), device="cuda")
    optimiser = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-3)

    def step() -> float:
        start = time.perf_counter()
        if case["tests"]:
            with torch.no_grad():
                for _ in range(case["tests"]):
                    model(images)
        else:
            loss = model(images, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    try:
        for _ in range(3):
            step()
        torch.cuda.reset_peak_memory_stats()
        times = [step() for _ in range(case["repeats"])]
    except torch.cuda.OutOfMemoryError:
        return dict(times=[], peak_bytes=None, remark="out of memory")
    return dict(times=times, peak_bytes=torch.cuda.max_memory_allocated(), remark="")


if __name__ == "__main__":
    if sys.argv[1] == "--time":
        time_cases(sys.argv[2])
    else:
        main(*sys.argv[1:])
