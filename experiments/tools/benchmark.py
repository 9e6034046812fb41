"""The work of `scripts/tools/benchmark.py`: what is measured, how, and the table."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import gc
import itertools
import json
import math
import multiprocessing
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from minidassl.own.files import write_whole
from minidassl.own.optim import build_optimizer, optim_settings

import torch
from tabulate import tabulate
from torch import nn
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop, sdpa_flop
from tqdm import tqdm

from trainers.prompting.api.recipe import configure
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, use_tf32
from trainers.prompting.core.cuda_graph import OFF, ON, RecordedTests
from trainers.prompting.core.memory import peak_memory
from trainers.prompting.core.prompted_clip import AUTOMATIC, PromptedCLIP
from trainers.prompting.core.summary import SIZES, clip_of_size
from trainers.prompting.learners.bmip import METHOD, VARIANTS, BMIPLearner
from trainers.prompting.objectives.cross_entropy import CrossEntropy
from trainers.prompting.objectives.training_step import TrainingStep
from trainers.run import repeat_to_the_bit

from . import authors
from .launches import Launches, fake_gpu, without_data
from .straightforward_bmip import StraightforwardBMIP

OURS, STRAIGHTFORWARD, PLAIN = MODELS = ("ours", "straightforward", "plain CLIP")
AUTHORS = "authors' code"
CHECKOUT = "BMIP_ROOT"  # environment variable that names the authors' repository
TRAIN, TEST, IMAGES = WORKS = ("train", "test", "images")
BATCH = {TRAIN: 4, TEST: 32, IMAGES: 32}
GPU_TEST_BATCH = 100  # as in the recipes; on a CPU a test would take minutes
TEST_BATCHES = 4
UNCHUNKED = 10**9
NO_TIME = "no time left"
COUNTED = ("flop", "bytes", "launches")
CUDA_WARM_UP = 3  # steps: the allocator's blocks, the libraries' handles and choices of kernels


class Task(NamedTuple):
    """What is timed: "train", a step; "test", four batches and the class features; "images", features of a batch."""

    work: str
    variant: str
    classes: int
    batch: int
    backbone: str


class Entry(NamedTuple):
    """Who does it: a model, in a precision; `chunk` classes hold their activations at once, 0 is automatic.

    With `graph`, on CUDA, the step or the image tower of a test is recorded (MODEL.CUDA_GRAPH).
    """

    model: str
    precision: str = "fp32"
    chunk: int = AUTOMATIC
    graph: bool = False


Case = tuple[Task, list[Entry]]


def standard_cases(device: str, backbone: str) -> list[Case]:
    """The tables of docs/PERFORMANCE.md."""
    return cpu_cases(backbone) if device == "cpu" else gpu_cases(backbone)


def _cases(
    work: str, variant: str, classes: Sequence[int], backbone: str, entries: list[Entry], batch: int | None = None
) -> list[Case]:
    """The first entry of a case is what the others are compared with."""
    return [(Task(work, variant, number, batch or BATCH[work], backbone), entries) for number in classes]


def cpu_cases(backbone: str) -> list[Case]:
    found, all_models = [], [Entry(model) for model in MODELS]
    for variant in VARIANTS:
        for work, classes, entries in (
            (TRAIN, (5, 50, 200), all_models),
            (TEST, (50, 500), all_models),
            (IMAGES, (50,), [Entry(OURS), Entry(PLAIN)]),
            (TRAIN, (50,), [Entry(OURS, "bf16"), Entry(OURS), Entry(PLAIN, "bf16")]),
            (TRAIN, (1000,), [Entry(OURS, chunk=chunk) for chunk in (AUTOMATIC, 100, UNCHUNKED)]),
        ):
            found += _cases(work, variant, classes, backbone, entries)
    return found


def gpu_cases(backbone: str) -> list[Case]:
    """The most important first: the minutes of a device may end before the list does."""
    sizes, every = (5, 50, 200, 1000), [Entry(OURS, "fp16", graph=True), *(Entry(model, "fp16") for model in MODELS)]
    found = _cases(TRAIN, "paper", sizes, backbone, every)
    found += _cases(TEST, "paper", (50, 500), backbone, every, GPU_TEST_BATCH)
    found += _cases(IMAGES, "paper", (50,), backbone, image_entries("fp16"), GPU_TEST_BATCH)
    for precision in ("amp", "bf16"):
        ours = [Entry(OURS, precision, graph=True), Entry(OURS, precision)]
        found += _cases(TRAIN, "paper", sizes, backbone, ours)
    found += _cases(TRAIN, "released", sizes, backbone, [Entry(OURS, "fp16", graph=True)])
    ours = [Entry(OURS, graph=True), Entry(OURS), Entry(STRAIGHTFORWARD)]
    found += _cases(TRAIN, "paper", (50, 1000), backbone, ours)
    for precision in ("bf16", "amp", "fp32"):
        found += _cases(IMAGES, "paper", (50,), backbone, image_entries(precision), GPU_TEST_BATCH)
    for precision in ("amp", "bf16"):
        every = [Entry(OURS, precision, graph=True), *(Entry(model, precision) for model in MODELS)]
        found += _cases(TEST, "paper", (50, 500), backbone, every, GPU_TEST_BATCH)
        found += _cases(TRAIN, "paper", sizes, backbone, every[2:])
    return found


def image_entries(precision: str) -> list[Entry]:
    return [Entry(model, precision, graph=graph) for model in (OURS, PLAIN) for graph in (True, False)]


def chosen_cases(args: argparse.Namespace) -> list[Case]:
    """Every combination of the options, each against both baselines in its own precision."""
    cases = []
    for work, variant, classes, precision in itertools.product(args.work, args.variant, args.classes, args.precision):
        models = (OURS, PLAIN) if work == IMAGES or args.no_straightforward else MODELS
        entries = [Entry(model, precision, args.chunk) for model in models]
        cases.append((Task(work, variant, classes, BATCH[work], args.backbone), entries))
    return cases


def class_names(number: int) -> list[str]:
    """ImageNet's class names in a fixed random order, again and again."""
    from torchvision.models import ResNet50_Weights

    names = list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    random.Random(0).shuffle(names)
    return list(itertools.islice(itertools.cycle(names), number))


def with_authors(case: Case) -> Case:
    """The case, and last the authors' model in the precisions of ours that it has."""
    task, entries = case
    theirs = [Entry(AUTHORS, entry.precision) for entry in entries if entry.model == OURS and not entry.graph]
    theirs = [entry for entry in dict.fromkeys(theirs) if entry.precision in authors.PRECISIONS]
    return task, [*entries, *(theirs if task.work != IMAGES and task.backbone in SIZES else [])]


def make_model(task: Task, entry: Entry, device: str) -> nn.Module:
    """The entry's model of random weights, with the prompts as its only trainable parameters."""
    torch.manual_seed(0)
    names = class_names(task.classes)
    if entry.model == AUTHORS:
        return authors.make_model(os.environ[CHECKOUT], SIZES[task.backbone], names, entry.precision).to(device)
    with torch.device(device):
        clip_model = clip_of_size(task.backbone).to(device)
        learner = BMIPLearner(configure(METHOD, {"variant": task.variant}, task.backbone), clip_model)
    precision = PRECISIONS[entry.precision]
    cast_matmul_weights(clip_model, precision.matmul)
    if entry.model == OURS:
        return PromptedCLIP(clip_model, learner, names, precision, entry.chunk, ON if entry.graph else OFF).to(device)
    return StraightforwardBMIP(clip_model, learner, names).to(device)


def make_step(task: Task, entry: Entry, device: str) -> Callable[[int], None]:
    """The work as a function of the number of batches to test."""
    return step_of(make_model(task, entry, device), task, entry, device)


def step_of(model: nn.Module, task: Task, entry: Entry, device: str) -> Callable[[int], None]:
    """`make_step` of a model."""
    model.train(task.work == TRAIN)
    if task.work != TRAIN:
        model.requires_grad_(False)
    precision = PRECISIONS[entry.precision]
    learner, visual = (
        (model.prompt_learner, model.image_encoder)
        if entry.model == AUTHORS
        else (model.learner, model.clip_model.visual)
    )
    images = torch.randn(task.batch, 3, *[visual.input_resolution] * 2, device=device)
    labels = torch.randint(task.classes, (task.batch,), device=device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = build_optimizer(trained, optim_settings(NAME="sgd")) if trained else None
    recorded = RecordedTests()

    def train(_: int) -> None:
        optimiser.zero_grad()
        loss = model(images, labels) if entry.model == AUTHORS else F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def test(batches: int) -> None:
        # A new state of the parameters, as before every evaluation: class features are computed again.
        for parameter in learner.parameters():
            parameter.add_(0)
        for _ in range(batches):
            model(images)

    @torch.no_grad()
    def encode_images(batches: int) -> None:
        for _ in range(batches if task.work == TEST else 1):
            if entry.model == OURS:
                model.image_features(images)
            elif entry.graph:
                recorded(visual, images.to(precision.matmul), None, {})
            else:
                visual(images.to(precision.matmul))

    if entry.model == PLAIN or task.work == IMAGES:
        return encode_images
    if task.work == TEST:
        return test
    if entry.model != OURS:
        return train
    step = TrainingStep(model, CrossEntropy(), optimiser, ON if entry.graph else OFF)
    return lambda _: step([images], labels)


def time_of(step: Callable[[int], Any], batches: int = 1) -> float:
    """Seconds of a number of batches."""
    start = time.perf_counter()
    step(batches)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def count_flop() -> FlopCounterMode:
    """A context that counts the floating-point operations of matrix products, convolutions and attention."""
    # Some releases of PyTorch have no formulas for the fused attention on a CPU, and count it as nothing.
    flop_registry.setdefault(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, sdpa_flop)
    flop_registry.setdefault(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward, sdpa_backward_flop)
    return FlopCounterMode(display=False)


def product_speed(precision: str, device: str) -> float:
    """Floating-point operations per second of a square matrix product, large enough to fill the device.

    A CPU's changes with what else it does, so it is measured again and again.
    """
    return _product_speed(precision, device) if device == "cpu" else _product_speed_once(precision, device)


def _product_speed(precision: str, device: str) -> float:
    size = 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(PRECISIONS[precision].matmul) for _ in range(2))
    return 2 * size**3 / _fastest(lambda _: left @ right)


_product_speed_once = functools.cache(_product_speed)


def copy_speed(device: str) -> float:
    """Bytes per second, read and written, of a large copy within a CUDA device's memory."""
    source = torch.empty(2**32, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return 2 * len(source) / _fastest(lambda _: target.copy_(source))


def _fastest(work: Callable[[int], Any]) -> float:
    """Seconds of the fastest call in half a second."""
    times, end = [time_of(work)], time.perf_counter() + 0.5
    while time.perf_counter() < end:
        times.append(time_of(work))
    return min(times)


class Processes(ExitStack):
    """The processes of the rows, which end together.

    On a CPU each row has its own, whose peak is the row's memory. On CUDA, where to start one takes longer than to
    measure, ours share one, the authors' another, and the baselines a third: their settings of PyTorch differ.
    """

    def __init__(self, device: str, raises: bool = True):
        super().__init__()
        self.device, self.raises = device, raises
        self.shared: dict[bool | None, ProcessPoolExecutor] = {}

    def of(self, entry: Entry) -> ProcessPoolExecutor:
        side = {OURS: True, AUTHORS: False}.get(entry.model)
        found = self.shared.get(side)
        if found is None:
            found = self.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            if self.device != "cpu":
                self.shared[side] = found
        return found

    def forget(self, process: ProcessPoolExecutor) -> None:
        """End a process, and begin another one for the next row."""
        process.shutdown(wait=False)
        self.shared = {side: shared for side, shared in self.shared.items() if shared is not process}


class Row:
    """An entry and its process, and the record of what is known of it."""

    def __init__(self, task: Task, entry: Entry, device: str, processes: Processes, remark: str = ""):
        self.name, self.processes = _name(task, entry), processes
        self.record = {**task._asdict(), **entry._asdict()}
        self.record |= dict(times=[], peak_bytes=None, remark=remark, **dict.fromkeys(COUNTED))
        self.record["product_flop_per_second"] = None
        self.process = None
        if remark:
            return
        self.process = processes.of(entry)
        self.record["product_flop_per_second"] = product_speed(entry.precision, device)
        self.ask(_build, task, entry, device)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The value of a function in the process; None, and a remark in the record, where it had no room.

        Raises:
            RuntimeError: it failed for another reason.
        """
        if self.record["remark"]:
            return None
        try:
            return self.process.submit(function, *arguments).result()
        except (BrokenProcessPool, torch.cuda.OutOfMemoryError) as error:
            # On a CPU the first has one cause: the system killed it, which it does for memory.
            is_crash = isinstance(error, BrokenProcessPool) and self.processes.device != "cpu"
            self.record["remark"] = "failed" if is_crash else "out of memory"
            if isinstance(error, BrokenProcessPool):
                self.processes.forget(self.process)
        except Exception as error:
            if self.processes.raises and not self.record["graph"]:
                raise RuntimeError(f"{self.name} failed: {error}") from error
            self.record["remark"] = "cannot be recorded" if self.record["graph"] else "failed"
            print(f"{self.name}: {error}", file=sys.stderr)
            # A device may answer nothing any more in a process in which something failed.
            self.processes.forget(self.process)
        return None

    def end(self) -> None:
        """Free the memory of the step, whatever became of it."""
        if self.process is not None and self.record["remark"] == "out of memory":
            with contextlib.suppress(BrokenProcessPool):
                self.process.submit(_end, self.processes.device).result()
        self.ask(_end, self.processes.device)


def _build(task: Task, entry: Entry, device: str) -> None:
    """Make the step that `_time` runs in this process, and allocate what it uses again and again."""
    global _step
    use_tf32(False)
    if entry.model == OURS and device != "cpu":
        repeat_to_the_bit()  # as train.py does
    _step = make_step(task, entry, device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(1 if device == "cpu" else CUDA_WARM_UP):
        time_of(_step)


def _time(device: str) -> tuple[float, int]:
    """Seconds of a step or a test, and the peak memory in bytes: on CUDA that of steps, on a CPU of the process."""
    return time_of(_step, TEST_BATCHES), peak_memory(torch.device(device))


def _end(device: str) -> None:
    """Free the memory of the step, which another row may need."""
    global _step
    _step = None
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def _count(work: str, device: str) -> dict[str, int]:
    """Operations of a step, or of a test; on CUDA also its launches, and the bytes that they read and write.

    It comes last: counting takes memory of its own.
    """
    if work == TEST and device == "cpu":
        return {}  # a test is long there, and one batch of it is not a quarter
    with count_flop() as counter, Launches() as launches:
        _step(TEST_BATCHES)
    counted = {"flop": counter.get_total_flops()}
    return counted if device == "cpu" else {**counted, "bytes": launches.bytes, "launches": launches.total}


def count_launches(task: Task, entry: Entry) -> dict[str, int]:
    """Launches of a training step, of a test, or of a batch of images, on a machine without a GPU."""
    model = make_model(task, entry, "meta" if task.backbone in SIZES else "cpu")
    with fake_gpu() as mode:
        step = step_of(without_data(model, mode), task, entry._replace(graph=False), "cpu")
        step(1)
        with Launches() as launches:
            step(TEST_BATCHES)
    return {"launches": launches.total}


def measure(
    task: Task,
    entries: Sequence[Entry],
    device: str,
    repeats: int,
    processes: Processes | None = None,
    end: float = math.inf,
) -> list[dict[str, Any]]:
    """One record per entry, in seconds and bytes; without numbers, but with a remark, where an entry had no room.

    Args:
        processes: to be used again; None: new ones, which end.
        end: no row begins after this `time.monotonic`; it has a remark.

    Raises:
        RuntimeError: an entry failed for another reason.
    """
    # On a CPU, models take turns; on CUDA they share the memory, which is scarce, if they live together.
    together = [entries] if device == "cpu" else [[entry] for entry in entries]
    records: list[dict[str, Any]] = []
    for some in together:
        # On a CPU processes end with their rows.
        keep = processes if processes and device != "cpu" else None
        with contextlib.nullcontext(keep) if keep else Processes(device, not processes or processes.raises) as used:
            records += _measure_in_turns(task, some, device, repeats, used, end)
    first = records[0]["seconds"]
    eager = {(record["model"], record["precision"]): record for record in records if not record["graph"]}
    for record in records:
        same = eager.get((record["model"], record["precision"]))
        if record["graph"] and same:
            # A recording repeats the operations of the step, out of sight.
            record |= {name: same[name] for name in COUNTED}
        record["ratio"] = record["seconds"] / first if record["seconds"] and first else None
    return records


def _measure_in_turns(
    task: Task, entries: Sequence[Entry], device: str, repeats: int, processes: Processes, end: float
) -> list[dict[str, Any]]:
    rows = [Row(task, entry, device, processes, "" if time.monotonic() < end else NO_TIME) for entry in entries]
    # On a CPU a test is long enough to be run once.
    for _ in range(1 if task.work == TEST and device == "cpu" else repeats):
        for row in rows:
            answer = row.ask(_time, device)
            if answer:
                row.record["times"].append(round(answer[0], 6))
                row.record["peak_bytes"] = answer[1]
    for row, entry in zip(rows, entries):
        if not entry.graph:
            row.record |= row.ask(_count, task.work, device) or {}
        if device == "cpu":
            row.record |= row.ask(count_launches, task, entry) or {}
        row.end()
        row.record["seconds"] = None if row.record["remark"] else min(row.record["times"])
    return [row.record for row in rows]


def _name(task: Task, entry: Entry) -> str:
    return " ".join(map(str, (*task, entry.model, entry.precision)))


def profile(task: Task, entry: Entry, device: str) -> str:
    """Which operations a step spends its time in, as a table."""
    step = make_step(task, entry, device)
    time_of(step)
    with torch.profiler.profile() as profiler:
        time_of(step)

    def microseconds(operation: Any) -> float:
        return operation.self_cpu_time_total if device == "cpu" else operation.self_device_time_total

    # With CUDA the kernels stand beside the operations that launch them, and would count twice.
    operations = [operation for operation in profiler.key_averages() if operation.device_type == DeviceType.CPU]
    operations.sort(key=microseconds, reverse=True)
    total = sum(map(microseconds, operations))
    lines = [[operation.key, operation.count, f"{microseconds(operation) / total:.1%}"] for operation in operations]
    return tabulate(lines[:10], ["operation", "calls", "share of the step"], tablefmt="github")


def table(content: Mapping[str, Any]) -> str:
    """The records of a file of `measure_all`, as Markdown; a ratio is a time over that of the case's first line."""
    records, fastest = content["records"], {}
    copied = float(content["machine"].get("copy", "inf").split()[0]) * 1e9  # bytes per second
    for record in records:
        speed = record["product_flop_per_second"] or 0
        fastest[record["precision"]] = max(speed, fastest.get(record["precision"], 0))
    rows = []
    shown = [name for name in COUNTED if any(record.get(name) for record in records)]
    for record in records:
        chunk = {AUTOMATIC: "auto", UNCHUNKED: "all"}.get(record["chunk"], record["chunk"])
        seconds, peak, ratio = (record[key] for key in ("seconds", "peak_bytes", "ratio"))
        flop, moved, launches = (record.get(name) for name in COUNTED)  # older files lack some
        limits = [flop / fastest[record["precision"]] if flop else 0]
        limits += [moved / copied] if moved else []
        rows.append(
            [
                *(record[key] for key in ("work", "variant", "classes", "batch")),
                record["model"] + (", as a graph" if record.get("graph") else ""),
                record["precision"],
                chunk if record["model"] == OURS and record["work"] == TRAIN else "",
                f"{seconds:.{3 if seconds >= 0.1 else 4}f}" if seconds else record["remark"],
                f"{peak / 2**30:.2f}" if peak else "",
                f"{ratio:.2f}" if ratio else "",
                *([f"{flop / 1e9:.0f}" if flop else ""] if "flop" in shown else []),
                *([f"{moved / 1e9:.1f}" if moved else ""] if "bytes" in shown else []),
                f"{max(limits) / seconds:.0%}" if seconds and max(limits) else "",
                *([launches or ""] if "launches" in shown else []),
            ]
        )
    headers = ["work", "variant", "classes", "batch", "model", "precision", "chunk", "seconds", "peak GiB", "ratio"]
    headers += [{"flop": "GFLOP", "bytes": "GB"}[name] for name in shown if name != "launches"]
    headers += ["of limit", *(["launches"] if "launches" in shown else [])]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def machine(device: str) -> dict[str, str]:
    """What the numbers depend on."""
    on_cuda = device != "cpu"
    precisions = ("fp32", "bf16", "fp16") if on_cuda else ("fp32", "bf16")
    facts = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if on_cuda else _cpu_name(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        **{f"{name} product": f"{product_speed(name, device) / 1e9:.0f} GFLOP/s" for name in precisions},
        **({"copy": f"{copy_speed(device) / 1e9:.0f} GB/s"} if on_cuda else {}),
        "system": platform.platform(),
    }
    if on_cuda:
        torch.cuda.empty_cache()  # for the rows
    return facts


def _cpu_name() -> str:
    """Model and, where Linux tells, what decides the speed of bf16."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    model = re.search(r"model name\s*: (.*)", text)
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if f" {unit} " in text]
    return " ".join([model[1] if model else platform.processor(), *units])


def run(args: argparse.Namespace) -> None:
    """Measure and print what the flags of `scripts/tools/benchmark.py` ask for."""
    args.standard, args.variant = args.standard or WORKS, args.variant or VARIANTS
    for flag, known in (("standard", WORKS), ("work", WORKS), ("variant", VARIANTS), ("precision", PRECISIONS)):
        if unknown := {*(getattr(args, flag) or ())} - {*known}:
            sys.exit(f"error: --{flag} is {', '.join(sorted(unknown))}; choose of {', '.join(known)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device is cuda, but PyTorch sees no CUDA device; use cpu")
    if args.show:
        print(shown(json.loads(args.show.read_text())))
        return
    if args.work:
        cases = chosen_cases(args)
    else:
        cases = [case for case in standard_cases(args.device, args.backbone) if case[0].work in args.standard]
    if args.authors:
        os.environ[CHECKOUT] = str(args.authors)
        cases = [with_authors(case) for case in cases]
    if args.profile:
        for task, (entry, *_) in cases:
            # A replay does not show which operations its kernels are of.
            entry = entry._replace(graph=False)
            print(_name(task, entry), profile(task, entry, args.device), sep="\n\n")
        return
    content = {"machine": machine(args.device)}
    print(_line(content["machine"]))
    measure_all(content, cases, args.device, args.repeats, args.json)
    print("", table(content), sep="\n")


def measure_all(
    content: dict[str, Any],
    cases: Sequence[Case],
    device: str,
    repeats: int,
    file: Path | None = None,
    end: float = math.inf,
) -> None:
    """Add the `records` of some cases to the content of a file, and write it after each of them.

    Args:
        content: with what else the file holds, such as the facts of `machine`.
        end: see `measure`. With one, a row that fails has a remark, and the others go on.
    """
    content["records"] = []
    with Processes(device, raises=end == math.inf) as kept:
        for task, entries in tqdm(cases, desc="cases"):
            content["records"] += measure(task, entries, device, repeats, kept, end)
            if file:
                write_whole(file, json.dumps(content, indent=2) + "\n")


def shown(content: Mapping[str, Any]) -> str:
    """The content of a file of `measure_all`, as Markdown."""
    return "\n\n".join([_line(content["machine"]), *filter(None, [content.get("tests")]), table(content)])


def _line(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in facts.items())
