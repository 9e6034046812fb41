"""Golden data: what commands, configurations and runs come to, one JSON file a subject in this folder.

    python -m tests.golden.freeze [SUBJECT ...]

writes them anew, from the repository's root. Do so only for a change that is meant to change them, and read the diff.
Everything here goes through the surfaces that users have: command lines, YAML names, files on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import minidassl  # noqa: F401  (answers to the name "dassl" where upstream is not importable)

import numpy as np
import PIL
import torch
import torchvision
from dassl.engine import TRAINER_REGISTRY

import train
import trainers
from scripts import launch
from tests.helpers.runs import small_run
from trainers.config import build_cfg, default_cfg
from trainers.prompting.methods import METHODS as DECLARED
from trainers.records import flatten

HERE = Path(__file__).parent

# --- command lines of the launcher

METHODS = (
    *("ZeroshotCLIP", "ZeroshotCLIP2", "CoOp", "CoCoOp", "VPT", "LanguagePrompting", "IVLP", "IVLP_BMIP_size"),
    *("MaPLe", "BMIP", "PromptSRC", "CoPrompt", "PromptSRC_BMIP", "CoPrompt_BMIP"),
)
REAL = "--data /data"
# Without the method, which comes after the protocol. WEIGHTS is a folder with what the authors' scripts leave.
LAUNCHES = (
    *(f"{name} digits 1" for name in ("base2new_train", "base2new_test", "base2new", "class_ratio")),
    *(f"{name} eurosat 1 {REAL}" for name in ("base2new_train", "base2new_test", "base2new", "class_ratio")),
    f"base2new_train imagenet 1 {REAL}",
    "base2new_train digits 2 tiny_joint --shots 4 --force OPTIM.LR 0.1",
    *("open_world symbols 1", "open_world symbols_tilt 1"),
    *(f"open_world eurosat 1 {REAL}", f"open_world imagenet_a 1 {REAL}"),
    *("xd_train symbols 1", f"xd_train {REAL}", "xd_test digits 1", f"xd_test eurosat 1 {REAL}"),
    f"xd_test dtd 1 --source eurosat {REAL}",
    *("dg_test symbols 1", f"dg_test imagenet 1 {REAL}"),
    *("few_shot digits", f"few_shot eurosat {REAL}", f"few_shot oxford_pets 1 --shots 1 {REAL}"),
    *(f"few_shot imagenet 1 {REAL}", f"few_shot eurosat 1 --shots 4 {REAL}"),
    f"few_shot eurosat 1 --n-ctx 4 --csc True --position front {REAL}",
    *("few_shot_test digits", f"few_shot_test eurosat {REAL}", "zeroshot digits", f"zeroshot eurosat 1 {REAL}"),
    *("reproduce digits 1 --weights WEIGHTS", f"reproduce eurosat 1 --weights WEIGHTS {REAL}"),
    *("reproduce_xd digits 1 --weights WEIGHTS", f"reproduce_xd eurosat 1 --weights WEIGHTS {REAL}"),
    *("reproduce_few_shot digits --weights WEIGHTS", f"reproduce_few_shot eurosat --weights WEIGHTS {REAL}"),
)
REFUSED = "refused"


def launched(call: str, method: str) -> list[str] | str:
    """The flags of the train.py commands that `--dry-run` prints, or `REFUSED`."""
    protocol, *words = call.split()
    with contextlib.ExitStack() as stack:
        weights = os.path.realpath(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("base/seed1", "seed1", "seed2", "seed3"):
            os.makedirs(os.path.join(weights, name))
        stack.enter_context(mock.patch.dict(os.environ)).pop("DATA", None)
        output = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        words = [weights if word == "WEIGHTS" else word for word in words]
        status = launch.main([protocol, method, *words, "--dry-run"])
    if status:
        assert status == 2, f"{call}: exit status {status}"
        return REFUSED
    lines = []
    for line in output.getvalue().splitlines():
        python, program, *flags = shlex.split(line)
        assert (python, program) == (sys.executable, "train.py")
        lines.append(shlex.join(flags).replace(weights, "WEIGHTS"))
    return lines


def freeze_launch() -> dict[str, dict[str, str]]:
    """By call: numbered commands, and for every method its trainer/configuration and the numbers of its commands."""
    frozen = {}
    for call in LAUNCHES:
        numbers: dict[str, str] = {}
        methods = {}
        for method in METHODS:
            lines = launched(call, method)
            if lines == REFUSED:
                methods[method] = REFUSED
                continue
            last = train.parse_args(shlex.split(lines[-1]))
            trainer, cfg = last.trainer, Path(last.config_file).stem
            for line in lines:
                line = line.replace(f"--trainer {trainer} ", "--trainer {trainer} ")
                line = line.replace(f"/{trainer}/{cfg}", "/{trainer}/{cfg}")
                numbers.setdefault(line, str(len(numbers) + 1))
                methods[method] = f"{methods.get(method, f'{trainer}/{cfg}')} {numbers[line]}"
        frozen[call] = {**{number: line for line, number in numbers.items()}, **methods}
    return frozen


def frozen_lines(entries: Mapping[str, str], method: str) -> list[str] | str:
    """The commands of one method in a call's golden data, or `REFUSED`."""
    if entries[method] == REFUSED:
        return REFUSED
    name, *numbers = entries[method].split()
    trainer, cfg = name.split("/")
    return [entries[number].replace("{trainer}", trainer).replace("{cfg}", cfg) for number in numbers]


# --- configurations


def defaults() -> dict[str, str]:
    """Type and value of every key of the default configuration."""
    trainers.register_all()
    return {key: f"{type(value).__name__} {value!r}" for key, value in flatten(default_cfg()).items()}


def freeze_defaults() -> dict[str, dict[str, str]]:
    return {"defaults": dict(sorted(defaults().items()))}


def recipe(name: str) -> dict[str, str]:
    """What TRAINER/CFG, as `--config-file`, sets beside the default configuration, the data set's and its own name."""
    trainers.register_all()
    trainer, cfg = name.split("/")
    data = "digits" if cfg.startswith("tiny") else "eurosat"
    flags = ["--trainer", trainer, "--dataset-config-file", f"configs/datasets/{data}.yaml"]
    built = flatten(build_cfg(train.parse_args([*flags, "--config-file", f"configs/trainers/{name}.yaml"])))
    assert (built.pop("TRAINER.NAME"), built.pop("TRAINER.RECIPE")) == (trainer, cfg)
    built.pop("DATASET.NAME")
    default = flatten(default_cfg())
    return {key: repr(value) for key, value in sorted(built.items()) if repr(value) != repr(default.get(key))}


# A recipe that is less like the others is written out.
MOST_DIFFERENCES = 6


def freeze_recipes() -> dict[str, dict[str, Any]]:
    """By recipe the keys that it sets, or `as` a recipe that is written out and those that differ; null: not set."""
    written, frozen = {}, {}
    for path in sorted(Path("configs/trainers").glob("*/*.yaml")):
        name = f"{path.parent.name}/{path.stem}"
        keys = recipe(name)
        likenesses = [{"as": other, **differences(keys, others)} for other, others in written.items()]
        frozen[name] = min(likenesses, key=len, default=keys)
        if len(frozen[name]) > MOST_DIFFERENCES:
            frozen[name] = written[name] = keys
    return {"recipes": frozen}


def differences(keys: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str | None]:
    """What turns `others` into `keys`."""
    return {key: keys.get(key) for key in sorted({*keys, *others}) if keys.get(key) != others.get(key)}


def frozen_recipe(recipes: Mapping[str, Mapping[str, str | None]], name: str) -> dict[str, str]:
    """The keys that a recipe sets in the golden data."""
    own = dict(recipes[name])
    keys = {**(recipes[own.pop("as")] if "as" in own else {}), **own}
    return {key: value for key, value in keys.items() if value is not None}


# --- runs on the small CLIP

# Two epochs, for PromptSRC's average over them.
AVERAGE = "TRAINER.PROMPTSRC.GPA_MEAN 1.5"
# TRAINER/CFG and options, beside TRAINER/tiny of all trainers.
RUNS = (
    *("IVLP/tiny_language_only", "IVLP/tiny_bmip_size", "BMIP/tiny TRAINER.BMIP.VARIANT released"),
    *(f"BMIP/tiny TRAINER.BMIP.AGGREGATION {name}" for name in ("addition", "attention", "joint", "none")),
    *(f"BMIP/tiny TRAINER.BMIP.AGGREGATION {name}" for name in ("l2v", "v2l")),
    *(f"BMIP/tiny TRAINER.OBJECTIVE self_regulation {AVERAGE}", "BMIP/tiny_consistency"),
    "BMIP/tiny SHARE.SHARE_PARAMETER_TEXT False SHARE.SHARE_PARAMETER_VISUAL False",
    "CoOp/tiny TRAINER.COOP.CSC True TRAINER.COOP.CTX_INIT '' TRAINER.COOP.N_CTX 4",
)
AVERAGED = ("PromptSRC", "PromptSRC_BMIP")


def run(name: str, root: str, folder: Path, *flags: str) -> str:
    """The log of a `small_run`; `name` is TRAINER/CFG and options."""
    recipe_name, *options = shlex.split(name)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = train.main(small_run(recipe_name, root, folder, flags, options))
    assert status == 0, f"{name}: exit status {status}"
    return output.getvalue()


def weights(name: str, root: str, folder: Path) -> dict[str, Any]:
    """The checkpoint after two epochs: its path in the run's folder, a hash, the losses, and each tensor in short."""
    log = run(f"{name} TEST.NO_TEST True", root, folder)
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/model*"))]
    found: dict[str, Any] = {"files": files, "losses": [float(loss) for loss in re.findall(r"loss (\S+) \(", log)]}
    if files:
        state = torch.load(folder / files[-1], weights_only=True)["state_dict"]
        digest = hashlib.sha256()
        for key, tensor in sorted(state.items()):
            digest.update(f"{key} {tuple(tensor.shape)} ".encode() + tensor.contiguous().numpy().tobytes())
        found["sha256"] = digest.hexdigest()
        found["tensors"] = {key: in_short(tensor) for key, tensor in sorted(state.items())}
    return found


def in_short(tensor: torch.Tensor) -> str:
    """Shape, Euclidean norm, and the product with a wave, which tells an order of the values from others."""
    flat = tensor.double().flatten()
    wave = flat @ torch.arange(len(flat), dtype=torch.float64).cos()
    return f"{'x'.join(map(str, tensor.shape))} {flat.norm():.6g} {wave:.6g}"


def environment() -> str:
    """What the last bits of a training run on a CPU depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    information = cpuinfo.read_text() if cpuinfo.is_file() else ""
    vendor = re.search(r"vendor_id\s*: (\S+)", information)
    processor = vendor[1] if vendor else f"{platform.system()} {platform.machine()}"
    vectors = sorted(set(re.findall(r"\b(?:avx|amx|fma)\w*", information)))
    versions = f"torch {torch.__version__} torchvision {torchvision.__version__} numpy {np.__version__}"
    pillow, capability = f"pillow {PIL.__version__}", torch.backends.cpu.get_cpu_capability()
    return " ".join([versions, pillow, processor, capability, *vectors])


def freeze_weights() -> dict[str, dict[str, Any]]:
    trainers.register_all()
    each = [f"{name}/tiny{' ' + AVERAGE if name in AVERAGED else ''}" for name in TRAINER_REGISTRY.registered_names()]
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: weights(name, folder, Path(folder) / name) for name in sorted([*each, *RUNS])}
    return {"environment": {"hashes of": environment()}, "runs": runs}


# --- records


def record(name: str, root: str, folder: Path) -> dict[str, str]:
    """Fields of result.json and types of their values: of TRAINER/CFG, or of a test of its model on all classes."""
    trained, *eval_only = name.split()
    if eval_only:
        run(f"{trained} TEST.NO_TEST True", root, folder / "trained")
        flags = (*eval_only, "--model-dir", str(folder / "trained"))
        run(f"{trained} DATASET.SUBSAMPLE_CLASSES all", root, folder, *flags)
    else:
        run(name, root, folder)
    return fields(json.loads((folder / "result.json").read_text()))


def fields(value: Any, path: str = "") -> dict[str, str]:
    """Types by path; of lists, those of the first element. A configuration's keys are golden data of their own."""
    found = {path: type(value).__name__} if path else {}
    if isinstance(value, dict) and path != "configuration":
        for key, child in value.items():
            found.update(fields(child, f"{path}.{key}" if path else key))
    elif isinstance(value, list) and value:
        found.update(fields(value[0], f"{path}[]"))
    return found


def freeze_records() -> dict[str, dict[str, Any]]:
    names = ("BMIP/tiny", "BMIP/tiny --eval-only", "CoOp/tiny", "CoOp/tiny --eval-only", "ZeroshotCLIP/tiny")
    with tempfile.TemporaryDirectory() as folder:
        return {"records": {name: record(name, folder, Path(folder) / name) for name in names}}


# --- launches

# As many layers and image tokens as ViT-B/16 has; the widths change no number of launches.
WIDE = dict(vision_layers=12, transformer_layers=12, vision_patch_size=16, image_resolution=224)
# Methods and settings; steps by all precisions and numbers of classes that are given goals.
COUNTED = {
    **{f"{name} train 5": (name, {}) for name in DECLARED if not name.startswith("ZeroshotCLIP")},
    **{f"BMIP train {classes}": ("BMIP", {}) for classes in (50, 200, 1000)},
    **{f"BMIP released train {classes}": ("BMIP", {"variant": "released"}) for classes in (5, 1000)},
    **{f"BMIP train 5 {precision}": ("BMIP", {}) for precision in ("fp16", "amp")},
    "BMIP test 50": ("BMIP", {}),
    "BMIP images": ("BMIP", {}),
}


def launches(name: str) -> int:
    """Operations of a step that a GPU is given to do: `METHOD [VARIANT] WORK CLASSES [PRECISION]`."""
    from conftest import CLASSNAMES, make_clip
    from helpers.steps import make_step

    from experiments.tools.benchmark import class_names
    from experiments.tools.launches import Launches, fake_gpu

    method, settings = COUNTED[name]
    words = name.split()
    numbers = [int(word) for word in words if word.isdecimal()]
    precision = words[-1] if words[-1] in ("fp16", "amp") else "fp32"
    names = class_names(numbers[0]) if numbers and numbers[0] != 5 else CLASSNAMES
    batch = 32 if "train" not in words else 4
    options = dict(precision=precision, classnames=names, batch=batch, recipe="ViT-B/16")
    step = make_step(make_clip(**WIDE), method, settings, **options)
    with fake_gpu() as mode:
        step.forget_data(mode, "cpu")
        work = {"train": step.train, "test": step.test, "images": step.encode_images}
        run = next(work[word] for word in words if word in work)
        run()
        # Testing again would find the class features.
        step.model._kept = None
        with Launches() as counter:
            run()
    return counter.total


def freeze_launches() -> dict[str, dict[str, Any]]:
    return {
        "environment": {"torch": torch.__version__.split("+")[0]},
        "launches": {name: launches(name) for name in COUNTED},
    }


# --- files

SUBJECTS: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
    "launch": freeze_launch,
    "defaults": freeze_defaults,
    "recipes": freeze_recipes,
    "weights": freeze_weights,
    "records": freeze_records,
    "launches": freeze_launches,
}


def golden(subject: str) -> dict[str, dict[str, Any]]:
    return json.loads((HERE / f"{subject}.json").read_text())


def write(subject: str, data: Mapping[str, Mapping[str, Any]]) -> None:
    """One line an entry."""
    sections = []
    for title, entries in data.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
        sections.append(f" {json.dumps(title)}: {{\n" + ",\n".join(lines) + "\n }")
    (HERE / f"{subject}.json").write_text("{\n" + ",\n".join(sections) + "\n}\n")


def main() -> None:
    torch.set_num_threads(1)
    sys.path.append(str(HERE.parent))
    for subject in sys.argv[1:] or SUBJECTS:
        write(subject, SUBJECTS[subject]())


if __name__ == "__main__":
    main()
