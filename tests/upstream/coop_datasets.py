"""Build data sets with CoOp's own loaders in a process of its own: python coop_datasets.py CHECKOUT ROOT < requests.

A request is a line of JSON: name, module (its file in CoOp), seed, shots, subset, and `forget`, the files and folders
below ROOT to delete before.
The answer is a line of JSON: the three lists of [path below ROOT, label, class name].
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def facts_of(dataset, root: object) -> list:
    """The three lists of a data set, as JSON has them."""
    return [
        [[os.path.relpath(item.impath, root), item.label, item.classname] for item in items or []]
        for items in (dataset.train_x, dataset.val, dataset.test)
    ]


def main(checkout: str, root: str) -> None:
    # CoOp's `datasets` must win over this project's, so the stand-in for Dassl is loaded from its own folder.
    sys.path.insert(0, checkout)
    spec = importlib.util.spec_from_file_location("minidassl", REPOSITORY / "minidassl" / "__init__.py")
    sys.modules["minidassl"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.utils import set_random_seed
    from yacs.config import CfgNode

    # The order in which a file system lists a folder is not CoOp's choice; sorted, it can be compared.
    listed = os.listdir
    os.listdir = lambda *args: sorted(listed(*args))
    answers = sys.stdout
    for line in sys.stdin:
        request = json.loads(line)
        for path in request["forget"]:
            target = Path(root) / path
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        dataset = {"ROOT": root, "NUM_SHOTS": request["shots"], "SUBSAMPLE_CLASSES": request["subset"]}
        cfg = CfgNode({"SEED": request["seed"], "DATASET": CfgNode(dataset)})
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(f"datasets.{request['module']}")
            set_random_seed(request["seed"])
            built = DATASET_REGISTRY.get(request["name"])(cfg)
        print(json.dumps(facts_of(built, root)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
