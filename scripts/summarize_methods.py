"""What each method of the comparison trains, as a Markdown table: python scripts/summarize_methods.py [BACKBONE]

Sizes only: neither weights nor data are needed. One method's tensors: python train.py ... --summary
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from launch import METHODS, ROOT
from tabulate import tabulate

import train
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import build_cfg
from trainers.prompting.released import prompt_sizes
from trainers.prompting.summary import SIZES, clip_of_size, trained_numbers


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", nargs="?", default="ViT-B/16", choices=[*SIZES, "tiny"])
    backbone = parser.parse_args(argv).backbone
    trainers.register_all()
    clip_model = clip_of_size(backbone)
    rows = []
    for name, method in METHODS.items():
        cfg = method.tiny if backbone == "tiny" else method.cfg
        args = [
            "--trainer",
            method.trainer,
            "--config-file",
            str(ROOT / f"configs/trainers/{method.trainer}/{cfg}.yaml"),
        ]
        args += ["--dataset-config-file", str(ROOT / "configs/datasets/imagenet.yaml"), "--backbone", backbone]
        learner = TRAINER_REGISTRY.get(method.trainer).build_learner(build_cfg(train.parse_args(args)), clip_model)
        sizes = prompt_sizes(learner.state_dict())
        prompts = [
            f"{sizes[f'{tower}_length']} in {sizes[f'{tower}_depth']}" if f"{tower}_depth" in sizes else ""
            for tower in ("text", "vision")
        ]
        number, share = trained_numbers(learner, clip_model)
        rows.append([name, cfg, *prompts, f"{number:,}", f"{share:.4f} %"])
    headers = ["method", "configuration", "text prompts", "vision prompts", "trained numbers", "of CLIP"]
    print(
        tabulate(
            rows, headers=headers, tablefmt="github", colalign=["left"] * 4 + ["right"] * 2, disable_numparse=True
        )
    )


if __name__ == "__main__":
    main()
