"""The stand-in against a real Dassl: same numbers, same bits, same lines.

Runs only where the environment variable ``DASSL_ROOT`` names a folder that holds upstream's ``dassl`` package (a
checkout of Dassl.pytorch 0.6.3), in an interpreter that has what upstream imports (gdown, scipy, wilds…).

This file is also the program that is compared: it is run twice, once where ``dassl`` is upstream and once where it is
the stand-in, writes down what it sees, and the tests compare the two records.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DASSL_ROOT = os.environ.get("DASSL_ROOT", "")

pytestmark = pytest.mark.skipif(
    not DASSL_ROOT, reason="set DASSL_ROOT to a checkout of Dassl.pytorch to compare with it"
)

TRANSFORMS = ["random_resized_crop", "random_flip", "randaugment", "normalize"]
CHOICES = [[], *([name] for name in TRANSFORMS), TRANSFORMS, ["random_resized_crop", "random_flip", "normalize"]]

OPTIMIZERS = ("adam", "amsgrad", "sgd", "rmsprop", "adamw")
CONSTANT = {"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}
SCHEDULES = [
    {"LR_SCHEDULER": name, "STEPSIZE": step, **warmup}
    for name, step in (("cosine", (-1,)), ("multi_step", (3, 6)), ("single_step", (-1,)), ("single_step", (4,)))
    for warmup in (
        {},
        CONSTANT,
        {**CONSTANT, "WARMUP_EPOCH": 2},
        {**CONSTANT, "WARMUP_EPOCH": 3, "WARMUP_TYPE": "linear"},
        {**CONSTANT, "WARMUP_RECOUNT": False},
    )
]


def describe(options: dict) -> str:
    return " ".join(str(value) for value in options.values())


# ------------------------------------------------------------------------------------- what both interpreters record


def mend_upstream() -> None:
    """Let upstream run on current torch and NumPy: its warm-up's third constructor argument, and a type's old name."""
    import numpy as np
    from torch.optim.lr_scheduler import LRScheduler

    original = LRScheduler.__init__
    LRScheduler.__init__ = lambda self, optimizer, last_epoch=-1, *verbose: original(self, optimizer, last_epoch)
    np.int = int


def flatten(node, prefix: str = "") -> dict:
    flat = {}
    for key, value in node.items():
        nested = flatten(value, f"{prefix}{key}.") if hasattr(value, "items") else {f"{prefix}{key}": repr(value)}
        flat.update(nested)
    return flat


def record_config() -> dict:
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    return {"values": flatten(cfg), "text": str(cfg)}


def record_transforms() -> dict:
    import numpy as np
    from dassl.config import get_cfg_default
    from dassl.data.transforms import build_transform
    from dassl.utils import set_random_seed
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 50, 3), dtype=np.uint8)
    record = {}
    for choices in CHOICES:
        seen = record[" ".join(choices)] = []
        for interpolation in ("bilinear", "bicubic", "nearest"):
            cfg = get_cfg_default()
            cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION, cfg.INPUT.TRANSFORMS = (32, 32), interpolation, choices
            image = Image.fromarray(pixels)
            for is_train in (True, False):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    transform = build_transform(cfg, is_train=is_train)
                set_random_seed(3)
                pixels_seen = [transform(image).numpy().tobytes().hex()[:20000:7] for _ in range(6)]
                seen.append([interpolation, is_train, printed.getvalue(), pixels_seen])
    return record


def record_evaluation() -> dict:
    import torch
    from dassl.config import get_cfg_default
    from dassl.evaluation import build_evaluator

    torch.manual_seed(0)
    cfg = get_cfg_default()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        evaluator = build_evaluator(cfg)
        for _ in range(2):
            evaluator.reset()
            for _ in range(30):
                evaluator.process(torch.randn(50, 5), torch.randint(0, 4, (50,)))
            results = evaluator.evaluate()
    return {
        "printed": printed.getvalue(),
        "keys": list(results),
        "values": [float(value) for value in results.values()],
        "counts": [evaluator._correct, evaluator._total],
    }


def record_schedules() -> dict:
    import torch
    from dassl.config import get_cfg_default
    from dassl.optim import build_lr_scheduler, build_optimizer

    record = {}
    for options in SCHEDULES:
        cfg = get_cfg_default().OPTIM
        cfg.merge_from_list(["NAME", "sgd", "LR", 0.002, *(part for item in options.items() for part in item)])
        optimizer = build_optimizer(torch.nn.Linear(1, 1), cfg)
        scheduler = build_lr_scheduler(optimizer, cfg)
        rates = []
        for _ in range(10):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        record[describe(options)] = [*rates, optimizer.param_groups[0]["lr"]]
    return record


def record_optimisers() -> dict:
    import torch
    from dassl.config import get_cfg_default
    from dassl.optim import build_optimizer

    record = {}
    for name in OPTIMIZERS:
        torch.manual_seed(0)
        cfg = get_cfg_default().OPTIM
        cfg.merge_from_list(["NAME", name, "LR", 0.05, "WEIGHT_DECAY", 0.1])
        model = torch.nn.Linear(4, 3)
        model.bias.requires_grad_(False)
        optimizer = build_optimizer(model, cfg)
        for _ in range(12):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).pow(2).sum().backward()
            optimizer.step()
        record[name] = {
            "weight": model.weight.tolist(),
            "indices": optimizer.state_dict()["param_groups"][0]["params"],
        }
    return record


def record_few_shots() -> list:
    from dassl.data.datasets import DatasetBase, Datum

    labels = random.Random(0).choices(range(6), k=60)
    items = [Datum(__file__, label, classname=str(label)) for label in labels]
    dataset = DatasetBase(train_x=items, val=items, test=items)
    places = {id(item): number for number, item in enumerate(items)}
    record = []
    for shots, repeat in ((1, False), (4, False), (16, False), (16, True)):
        random.seed(shots)
        sampled = dataset.generate_fewshot_dataset(items, num_shots=shots, repeat=repeat)
        record.append([places[id(item)] for item in sampled])
    return [record, dataset.num_classes, dataset.classnames]


def record_small_things() -> dict:
    import torch
    from dassl.metrics import compute_accuracy
    from dassl.utils import MetricMeter, Registry, check_availability

    def message(call) -> str:
        try:
            call()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    registry = Registry("THING")
    registry.register(MetricMeter)
    meter = MetricMeter()
    meter.update({"loss": 1.23456, "acc": torch.tensor(50.0)})
    meter.update({"loss": 2.0})
    torch.manual_seed(0)
    return {
        "meter": str(meter),
        "duplicate": message(lambda: registry.register(MetricMeter)),
        "missing": message(lambda: registry.get("zzz")),
        "available": message(lambda: check_availability("a", ["a"])),
        "unavailable": message(lambda: check_availability("b", ["a"])).split(":")[0],
        "top-1": compute_accuracy(torch.randn(40, 5), torch.randint(0, 5, (40,)))[0].tolist(),
    }


WARM = ("OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
RUNS = {"last step": (), "warm-up": WARM, "best_val": ("TEST.FINAL_MODEL", "best_val")}


def record_training(folder: Path) -> dict:
    import torch
    from dassl.utils import set_random_seed
    from helpers.toy import toy_cfg, toy_trainer

    record = {}
    for name, options in RUNS.items():
        output = folder / name
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            set_random_seed(1)
            trainer = toy_trainer("dassl")(toy_cfg("dassl", folder, "TRAIN.PRINT_FREQ", 10, *options, name=name))
            trainer.train()
        record[name] = {
            "lines": printed.getvalue().replace(str(output), "OUT").splitlines(),
            "weights": trainer.model[2].weight.tolist(),
            "files": sorted(path.relative_to(output).as_posix() for path in (output / "head").iterdir()),
            "generators": [random.random(), torch.rand(1).item()],
        }
    return record


def record_mixed_in_resume(folder: Path) -> dict:
    """Our checkpointing in front of whatever TrainerX is here: stopped and resumed against uninterrupted."""
    import minidassl
    from minidassl.own.checkpointing import Checkpointing
    from minidassl.own.optim import build_lr_scheduler, build_optimizer

    from dassl.engine import TrainerX
    from dassl.utils import set_random_seed
    from helpers.toy import Killed, toy_cfg, toy_trainer

    class Mixed(Checkpointing, toy_trainer("dassl")):
        def build_model(self):
            super().build_model()
            self.optim = build_optimizer(self.model, self.cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
            self._optims["head"], self._scheds["head"] = self.optim, self.sched

    def run(name: str, options, kill_at=None, seed=1) -> list:
        set_random_seed(seed)
        trainer = Mixed(toy_cfg("dassl", folder, *options, name=name))
        trainer.kill_at = kill_at
        with contextlib.suppress(Killed):
            trainer.train()
        momentum = [state["momentum_buffer"].tolist() for state in trainer.optim.state_dict()["state"].values()]
        return [trainer.model[2].weight.tolist(), momentum, trainer.best_result, trainer.sched.state_dict()]

    record = {"choice": minidassl.CHOICE, "trainer": TrainerX.__module__}
    with contextlib.redirect_stdout(io.StringIO()):
        for name, options in RUNS.items():
            whole = run(f"{name} whole", options)
            run(f"{name} parts", options, kill_at=2)
            resumed = run(f"{name} parts", options, seed=99)
            files = sorted(path.name for path in (folder / f"{name} parts" / "head").iterdir())
            record[name] = {"equal": whole == resumed, "files": files}
    return record


def main(side: str, folder: str) -> None:
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(__file__)]
    if side == "upstream":
        sys.path.insert(0, DASSL_ROOT)
        mend_upstream()
    sys.path[1:1] = [str(REPOSITORY), str(REPOSITORY / "tests")]
    if side == "standin":
        import minidassl  # noqa: F401
    import dassl

    warnings.simplefilter("ignore")
    work = Path(folder)
    record = {
        "dassl": dassl.__file__,
        "config": record_config(),
        "transforms": record_transforms(),
        "evaluation": record_evaluation(),
        "schedules": record_schedules(),
        "optimisers": record_optimisers(),
        "few shots": record_few_shots(),
        "small things": record_small_things(),
        "training": record_training(work / "training"),
        "mixed in": record_mixed_in_resume(work / "mixed"),
    }
    (work / "record.json").write_text(json.dumps(record))


# ------------------------------------------------------------------------------------------------------- comparison


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> dict:
    found = {}
    for side in ("upstream", "standin"):
        work = tmp_path_factory.mktemp(side)
        environment = {**os.environ, "DASSL_ROOT": DASSL_ROOT if side == "upstream" else "", "OUTDATED_IGNORE": "1"}
        environment["PYTHONPATH"] = ""
        done = subprocess.run(
            [sys.executable, __file__, side, str(work)], capture_output=True, text=True, env=environment, cwd=work
        )
        assert done.returncode == 0, f"{side}: {done.stderr[-4000:]}"
        found[side] = {**json.loads((work / "record.json").read_text()), "work": work}
    assert Path(found["upstream"]["dassl"]).resolve().is_relative_to(Path(DASSL_ROOT).resolve())
    assert "minidassl" in found["standin"]["dassl"]
    return found


def both(records: dict, key: str) -> tuple:
    return records["upstream"][key], records["standin"][key]


def test_every_default_is_the_same_and_only_other_methods_nodes_are_absent(records):
    theirs, ours = (config["values"] for config in both(records, "config"))
    del ours["DATALOADER.CACHE_GB"]  # the stand-in's own
    del ours["OPTIM.EPS"]  # of forks of Dassl
    assert {key: theirs[key] for key in ours} == ours
    assert {key.split(".")[0] for key in set(theirs) - set(ours)} == {"TRAINER"}


@pytest.mark.parametrize("choices", [" ".join(choices) for choices in CHOICES])
def test_transforms_print_the_same_and_give_the_same_bits(records, choices):
    theirs, ours = (record[choices] for record in both(records, "transforms"))
    assert len(ours) == 6
    assert ours == theirs


def test_the_evaluator_prints_the_same_and_finds_the_same(records):
    theirs, ours = both(records, "evaluation")
    assert ours.pop("values") == pytest.approx(theirs.pop("values"), rel=1e-12)
    assert ours == theirs


@pytest.mark.parametrize("schedule", [describe(options) for options in SCHEDULES])
def test_learning_rates_are_the_same_to_the_bit(records, schedule):
    theirs, ours = both(records, "schedules")
    assert ours[schedule] == theirs[schedule]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_take_the_same_steps(records, name):
    theirs, ours = (record[name] for record in both(records, "optimisers"))
    assert ours["indices"] == theirs["indices"]
    assert ours["weight"] == theirs["weight"]


@pytest.mark.parametrize("key", ["few shots", "small things"])
def test_few_shots_and_helpers_agree(records, key):
    theirs, ours = both(records, key)
    assert ours == theirs


def comparable(lines: list[str]) -> list[str]:
    """Log lines with times masked, without those on checkpoints, which differ by design."""
    kept = [line for line in lines if not re.match(r"Checkpoint saved to|Load |Loading weights to", line)]
    line_times = r"time \d+\.\d{3} \(\d+\.\d{3}\) data \d+\.\d{3} \(\d+\.\d{3}\)"
    masked = [re.sub(line_times, "TIMES", line) for line in kept]
    return [re.sub(r"(eta|Elapsed:) \d:\d\d:\d\d$", r"\1 TIME", line) for line in masked]


@pytest.mark.parametrize("name", RUNS)
def test_a_training_run_prints_the_same_lines_and_ends_with_the_same_weights(records, name):
    theirs, ours = (training[name] for training in both(records, "training"))
    assert comparable(ours["lines"]) == comparable(theirs["lines"])
    assert sum(line.startswith("epoch [") for line in ours["lines"]) == 12
    assert ours["weights"] == theirs["weights"]
    assert ours["generators"] == theirs["generators"]
    assert ours["files"] == theirs["files"]


@pytest.mark.parametrize("side", ["upstream", "standin"])
def test_our_checkpointing_resumes_exactly_in_front_of_either(records, side):
    record = records[side]["mixed in"]
    assert record["choice"].startswith("Dassl: upstream 0.6.3 at" if side == "upstream" else "Dassl: built-in")
    assert record["trainer"].startswith("dassl." if side == "upstream" else "minidassl.")
    for name in RUNS:
        best = ["model-best.pth.tar"] if name == "best_val" else []
        assert record[name] == {"equal": True, "files": ["checkpoint", *best, "model.pth.tar-4"]}


@pytest.mark.parametrize("name", ["last step", "warm-up"])
def test_upstreams_checkpoints_are_read(records, name):
    from minidassl.own.checkpoint import load_checkpoint

    path = records["upstream"]["work"] / "training" / name / "head" / "model.pth.tar-4"
    checkpoint = load_checkpoint(path)
    assert checkpoint["epoch"] == 4
    assert checkpoint["state_dict"]["2.weight"].tolist() == records["upstream"]["training"][name]["weights"]
    # With warm-up, upstream pickles live schedulers: nothing but the weights is taken from such a file.
    assert (checkpoint["scheduler"] is None) is (name == "warm-up")


if __name__ == "__main__":
    main(*sys.argv[1:])
