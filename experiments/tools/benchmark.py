"""The work of `scripts/tools/benchmark.py`: what is measured, how, and the table."""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
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
from trainers.prompting.core.memory import peak_memory
from trainers.prompting.core.prompted_clip import AUTOMATIC, PromptedCLIP
from trainers.prompting.core.summary import SIZES, clip_of_size
from trainers.prompting.learners.bmip import METHOD, VARIANTS, BMIPLearner

from . import authors
from .launches import Launches, fake_gpu, without_data
from .straightforward_bmip import StraightforwardBMIP

OURS, STRAIGHTFORWARD, PLAIN = MODELS = ("ours", "straightforward", "plain CLIP")
AUTHORS = "authors' code"
CHECKOUT = "BMIP_ROOT"  # environment variable that names the authors' repository
TRAIN, TEST, IMAGES = WORKS = ("train", "test", "images")
BATCH = {TRAIN: 4, TEST: 32, IMAGES: 32}
TEST_BATCHES = 4
UNCHUNKED = 10**9
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

    With `graph`, on CUDA, everything but the optimiser is recorded once and replayed.
    """

    model: str
    precision: str = "fp32"
    chunk: int = AUTOMATIC
    graph: bool = False


Case = tuple[Task, list[Entry]]


def standard_cases(device: str, backbone: str) -> list[Case]:
    """The tables of docs/PERFORMANCE.md; the first entry of a case is what the others are compared with."""

    def cases(work: str, variant: str, classes: Sequence[int], entries: list[Entry]) -> list[Case]:
        return [(Task(work, variant, number, BATCH[work], backbone), entries) for number in classes]

    found = []
    if device == "cpu":
        all_models = [Entry(model) for model in MODELS]
        for variant in VARIANTS:
            found += cases(TRAIN, variant, (5, 50, 200), all_models)
            found += cases(TEST, variant, (50, 500), all_models)
            found += cases(IMAGES, variant, (50,), [Entry(OURS), Entry(PLAIN)])
            found += cases(TRAIN, variant, (50,), [Entry(OURS, "bf16"), Entry(OURS), Entry(PLAIN, "bf16")])
            found += cases(
                TRAIN, variant, (1000,), [Entry(OURS, chunk=chunk) for chunk in (AUTOMATIC, 100, UNCHUNKED)]
            )
        return found

    def with_graphs(precision: str) -> list[Entry]:
        pairs = ((Entry(model, precision), Entry(model, precision, graph=True)) for model in MODELS)
        # The straightforward step indexes by a tensor on the CPU, which a graph cannot record.
        return [entry for pair in pairs for entry in pair if not (entry.graph and entry.model == STRAIGHTFORWARD)]

    for entries in (with_graphs("fp16"), [Entry(model, "bf16") for model in MODELS]):
        found += cases(TRAIN, "paper", (5, 50, 200, 1000), entries)
        found += cases(TEST, "paper", (50, 500), entries)
    for work in (TRAIN, TEST):
        found += cases(work, "paper", (50,), with_graphs("fp32"))
    found += cases(TRAIN, "paper", (1000,), [Entry(OURS), Entry(OURS, chunk=UNCHUNKED)])
    # The variant and the precision that the authors train.
    theirs = [Entry(OURS, "fp16"), Entry(OURS, "fp16", graph=True)]
    found += cases(TRAIN, "released", (5, 50, 200, 1000), theirs)
    return found + cases(TEST, "released", (50, 500), theirs)


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
        return PromptedCLIP(clip_model, learner, names, precision, entry.chunk).to(device)
    return StraightforwardBMIP(clip_model, learner, names).to(device)


def make_step(task: Task, entry: Entry, device: str) -> Callable[[int], None]:
    """The work as a function of the number of batches to test."""
    return step_of(make_model(task, entry, device), task, entry, device)


def step_of(model: nn.Module, task: Task, entry: Entry, device: str) -> Callable[[int], None]:
    """`make_step` of a model."""
    model.train(task.work == TRAIN)
    precision = PRECISIONS[entry.precision]
    visual = model.image_encoder if entry.model == AUTHORS else model.clip_model.visual
    images = torch.randn(task.batch, 3, *[visual.input_resolution] * 2, device=device)
    labels = torch.randint(task.classes, (task.batch,), device=device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = build_optimizer(trained, optim_settings(NAME="sgd"))

    def gradients(_: int) -> None:
        optimiser.zero_grad()
        loss = model(images, labels) if entry.model == AUTHORS else F.cross_entropy(model(images), labels)
        loss.backward()

    @torch.no_grad()
    def test(batches: int) -> None:
        # A new state of the parameters, as before every evaluation: class features are computed again.
        for parameter in trained:
            parameter.add_(0)
        for _ in range(batches):
            model(images)

    @torch.no_grad()
    def encode_images(batches: int) -> None:
        encode = model.encode_image if entry.model == OURS else visual
        for _ in range(batches if task.work == TEST else 1):
            encode(images.to(precision.stream if entry.model == OURS else precision.matmul))

    only_images = entry.model == PLAIN or task.work == IMAGES
    work = encode_images if only_images else {TRAIN: gradients, TEST: test}[task.work]
    if entry.graph:
        work = _recorded(work)

    def train(_: int) -> None:
        work(1)
        optimiser.step()

    return train if task.work == TRAIN and not only_images else work


def _recorded(work: Callable[[int], None]) -> Callable[[int], None]:
    """The same kernels on the same memory, launched as one; of as many batches as a test has."""
    work(1)
    # The allocator of a graph must start from blocks that nothing else waits for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(CUDA_WARM_UP):
            work(1)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work(TEST_BATCHES)

    def replay(_: int) -> None:
        graph.replay()

    replay.work = work  # holds the memory that the graph reads
    return replay


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
    """Floating-point operations per second of a square matrix product, large enough to fill the device."""
    size = 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(PRECISIONS[precision].matmul) for _ in range(2))
    return 2 * size**3 / _fastest(lambda _: left @ right)


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


class Row:
    """A process of its own for an entry, among those that end together, and the record of what is known of it."""

    def __init__(self, task: Task, entry: Entry, device: str, processes: ExitStack):
        self.name = _name(task, entry)
        self.record = {**task._asdict(), **entry._asdict()}
        self.record["product_flop_per_second"] = product_speed(entry.precision, device)
        self.record |= dict(times=[], peak_bytes=None, flop=None, launches=None, remark="")
        self.process = processes.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
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
        except (BrokenProcessPool, torch.cuda.OutOfMemoryError):
            # The first: the system killed it, which it does for memory.
            self.record["remark"] = "out of memory"
        except Exception as error:
            if not self.record["graph"]:
                raise RuntimeError(f"{self.name} failed: {error}") from error
            self.record["remark"] = "cannot be recorded"
        return None


def _build(task: Task, entry: Entry, device: str) -> None:
    """Make the step that `_time` runs in this process, and allocate what it uses again and again."""
    global _step
    use_tf32(False)
    _step = make_step(task, entry, device)
    for _ in range(1 if device == "cpu" else CUDA_WARM_UP):
        time_of(_step)


def _time(device: str) -> tuple[float, int]:
    """Seconds of a step or a test, and the peak memory in bytes: on CUDA its own, on a CPU that of the process."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    return time_of(_step, TEST_BATCHES), peak_memory(torch.device(device))


def _count(task: Task, entry: Entry, device: str) -> int:
    """Operations of a batch. It comes last: counting takes memory of its own."""
    step = make_step(task, entry._replace(graph=False), device)
    with count_flop() as counter:
        step(1)
    return counter.get_total_flops()


def count_launches(task: Task, entry: Entry) -> int:
    """Launches of a training step, of a test, or of a batch of images."""
    model = make_model(task, entry, "meta" if task.backbone in SIZES else "cpu")
    with fake_gpu() as mode:
        step = step_of(without_data(model, mode), task, entry._replace(graph=False), "cpu")
        step(1)
        with Launches() as launches:
            step(TEST_BATCHES)
    return launches.total


def measure(task: Task, entries: Sequence[Entry], device: str, repeats: int) -> list[dict[str, Any]]:
    """One record per entry, in seconds and bytes; without numbers, but with a remark, where an entry had no room.

    Raises:
        RuntimeError: an entry failed for another reason.
    """
    # Models that live together share the memory, too, which is scarce on CUDA.
    together = [entries] if device == "cpu" else [[entry] for entry in entries]
    records = [record for some in together for record in _measure_in_turns(task, some, device, repeats)]
    first = records[0]["seconds"]
    for record in records:
        record["ratio"] = record["seconds"] / first if record["seconds"] and first else None
    return records


def _measure_in_turns(task: Task, entries: Sequence[Entry], device: str, repeats: int) -> list[dict[str, Any]]:
    with ExitStack() as processes:
        rows = [Row(task, entry, device, processes) for entry in entries]
        # On a CPU a test is long enough to be run once.
        for _ in range(1 if task.work == TEST and device == "cpu" else repeats):
            for row in rows:
                answer = row.ask(_time, device)
                if answer:
                    row.record["times"].append(round(answer[0], 6))
                    # The memory of a graph is set aside before.
                    row.record["peak_bytes"] = None if row.record["graph"] else answer[1]
        for row, entry in zip(rows, entries):
            # One batch is counted, and a test is not four times its first batch.
            row.record["flop"] = None if task.work == TEST else row.ask(_count, task, entry, device)
            row.record["launches"] = row.ask(count_launches, task, entry)
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


def table(records: Sequence[dict[str, Any]]) -> str:
    """GitHub's Markdown; a ratio is a time over that of the case's first line."""
    fastest: dict[str, float] = {}
    for record in records:
        speed = record["product_flop_per_second"]
        fastest[record["precision"]] = max(speed, fastest.get(record["precision"], 0))
    rows = []
    counted = any(record.get("launches") for record in records)  # older files have none
    for record in records:
        chunk = {AUTOMATIC: "auto", UNCHUNKED: "all"}.get(record["chunk"], record["chunk"])
        seconds, peak, ratio, flop = (record[key] for key in ("seconds", "peak_bytes", "ratio", "flop"))
        rows.append(
            [
                *(record[key] for key in ("work", "variant", "classes", "batch")),
                record["model"] + (", as a graph" if record.get("graph") else ""),
                record["precision"],
                chunk if record["model"] == OURS and record["work"] == TRAIN else "",
                f"{seconds:.{3 if seconds >= 0.1 else 4}f}" if seconds else record["remark"],
                f"{peak / 2**30:.2f}" if peak else "",
                f"{ratio:.2f}" if ratio else "",
                f"{flop / 1e9:.0f}" if flop else "",
                f"{flop / fastest[record['precision']] / seconds:.0%}" if flop else "",
                *([record.get("launches") or ""] if counted else []),
            ]
        )
    headers = ["work", "variant", "classes", "batch", "model", "precision", "chunk", "seconds", "peak GiB", "ratio"]
    headers += ["GFLOP", "of limit", *(["launches"] if counted else [])]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def machine(device: str) -> dict[str, str]:
    """What the numbers depend on."""
    on_cuda = device != "cpu"
    precisions = ("fp32", "bf16", "fp16") if on_cuda else ("fp32", "bf16")
    return {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if on_cuda else _cpu_name(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        **{f"{name} product": f"{product_speed(name, device) / 1e9:.0f} GFLOP/s" for name in precisions},
        **({"copy": f"{copy_speed(device) / 1e9:.0f} GB/s"} if on_cuda else {}),
        "system": platform.platform(),
    }


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
        content = json.loads(args.show.read_text())
        print(_line(content["machine"]), table(content["records"]), sep="\n\n")
        return
    use_tf32(False)
    facts, records = machine(args.device), []
    print(_line(facts))
    if args.work:
        cases = chosen_cases(args)
    else:
        cases = [case for case in standard_cases(args.device, args.backbone) if case[0].work in args.standard]
    if args.authors:
        os.environ[CHECKOUT] = str(args.authors)
        cases = [with_authors(case) for case in cases]
    if args.profile:
        for task, (entry, *_) in cases:
            print(_name(task, entry), profile(task, entry, args.device), sep="\n\n")
        return
    for task, entries in tqdm(cases, desc="cases"):
        records += measure(task, entries, args.device, args.repeats)
        if args.json:
            # After every case, so that an interruption loses no result.
            write_whole(args.json, json.dumps({"machine": facts, "records": records}, indent=2) + "\n")
    print("", table(records), sep="\n")


def _line(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in facts.items())
