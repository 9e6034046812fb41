"""Run a checkout's own train.py: python run_checkout.py stand-in|upstream CLIP train.py ARGUMENTS, in its folder.

CLIP is a state dict that stands for every backbone that the trainers would download. On upstream Dassl, what breaks on
current torch is mended: its warm-up passes an argument that is gone, and its files are no plain data. Casts to half
precision do nothing, for versions of torch that lack it on the CPU.
"""

from __future__ import annotations

import inspect
import os
import runpy
import sys
import warnings
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def mend_upstream() -> None:
    from torch.optim import lr_scheduler

    base = lr_scheduler.LRScheduler
    if "verbose" not in inspect.signature(base.__init__).parameters:
        original = base.__init__
        base.__init__ = lambda self, optimizer, last_epoch=-1, *verbose: original(self, optimizer, last_epoch)
    load = torch.load
    torch.load = lambda *args, **kwargs: load(*args, **{"weights_only": False, **kwargs})


def main(side: str, weights: str, script: str, *arguments: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.Tensor.half = lambda tensor: tensor
    torch.nn.Module.half = lambda module: module
    here = os.getcwd()
    sys.path[:] = [here, *(path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent)]
    from clip import clip

    assert Path(clip.__file__).is_relative_to(here), "another package answers to the name clip"
    clip._download = lambda url, root="": weights
    if side == "upstream":
        mend_upstream()
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
    else:
        sys.path.append(str(REPOSITORY))
        from minidassl.__main__ import main as run_on_standin

        run_on_standin([script, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
