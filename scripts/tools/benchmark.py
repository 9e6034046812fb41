"""Time and memory of training and testing, against two baselines in the same run.

    python scripts/tools/benchmark.py                                            # both tables of docs/PERFORMANCE.md
    python scripts/tools/benchmark.py --standard train                           # one of them
    python scripts/tools/benchmark.py --work train --classes 1000 --precision fp16 --device cuda --json out.json
    python scripts/tools/benchmark.py --show out.json                            # the table of an earlier run

The baselines are BMIP as the field writes it (`straightforward_bmip.py`: full padding, attention twice, nothing used
again) and plain CLIP (`encode_image` of the same images alone: the floor). Weights are random, in the shapes of
ViT-B/16, on which no time depends; class names are ImageNet's, as torchvision ships them. On a CPU every column has a
process of its own, whose peak is its memory, and they take turns step by step, so a machine whose speed changes slows
all of them alike. On CUDA they run one after another, and memory is the allocator's peak. Times are the fastest of the
repeats. "of limit" is the time that the matrix products and attention of a step would take at the speed of one large
product of the same type, the fastest of those measured before each case, as a share of the time that the step takes.
On CUDA the host launches thousands of kernels for a step, which may take longer than what they do. "As a graph" is a
step whose launches were recorded once, and are given to the device as one (torch.cuda.CUDAGraph): its own time.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import json
import multiprocessing
import multiprocessing.connection
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.tools.straightforward_bmip import StraightforwardBMIP
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights, use_tf32
from trainers.prompting.core.memory import free_memory, peak_memory
from trainers.prompting.core.openai_clip import CLIP
from trainers.prompting.core.prompted_clip import AUTOMATIC, PromptedCLIP
from trainers.prompting.learners.bmip import VARIANTS, BMIPConfig, BMIPLearner

# Arguments of `clip.model.CLIP`; "tiny" is there to try the script.
BACKBONES = {
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "tiny": (64, 32, 9, 64, 8, 77, 49408, 64, 1, 9),
}
OURS, STRAIGHTFORWARD, PLAIN = "ours", "straightforward", "plain CLIP"
TRAIN, TEST, IMAGES = "train", "test", "images"
TEST_BATCHES = 4
UNCHUNKED = 10**9
OUT_OF_MEMORY = "out of memory"
COUNT = "count"
CUDA_WARM_UP = 3  # steps: the allocator's blocks, the libraries' handles and choices of kernels
# What the straightforward step holds for the gradient in fp32, as this script measures it; more than is free kills.
STRAIGHTFORWARD_BYTES_PER_CLASS = 45e6


class Task(NamedTuple):
    """What is timed: "train", a step; "test", four batches and the class features; "images", features of a batch."""

    work: str
    variant: str
    classes: int
    batch: int
    backbone: str = "ViT-B/16"


class Entry(NamedTuple):
    """Who does it: a model, in a precision; `chunk` classes hold their activations at once, 0 is automatic.

    With `graph`, on CUDA, everything but the optimiser is recorded once and replayed.
    """

    model: str
    precision: str = "fp32"
    chunk: int = AUTOMATIC
    graph: bool = False


def standard_cases(device: str, backbone: str) -> list[tuple[Task, list[Entry]]]:
    """The tables of docs/PERFORMANCE.md; the first entry of a case is what the others are compared with."""
    cases = _cases_for_cpu() if device == "cpu" else _cases_for_cuda()
    return [(task._replace(backbone=backbone), entries) for task, entries in cases]


def _cases_for_cuda() -> list[tuple[Task, list[Entry]]]:
    def against_both(precision: str) -> list[Entry]:
        entries = [Entry(model, precision) for model in (OURS, STRAIGHTFORWARD, PLAIN)]
        # The straightforward step indexes by a tensor on the CPU, which a graph cannot record.
        graphs = [entry._replace(graph=True) for entry in entries if entry.model != STRAIGHTFORWARD]
        return sorted([*entries, *(graphs if precision != "bf16" else [])], key=lambda entry: entry.model != OURS)

    cases = []
    for precision in ("fp16", "bf16"):
        cases += [(Task(TRAIN, "paper", classes, 4), against_both(precision)) for classes in (5, 50, 200, 1000)]
        cases += [(Task(TEST, "paper", classes, 32), against_both(precision)) for classes in (50, 500)]
    cases += [(Task(work, "paper", 50, batch), against_both("fp32")) for work, batch in ((TRAIN, 4), (TEST, 32))]
    cases += [(Task(TRAIN, "paper", 1000, 4), [Entry(OURS), Entry(OURS, chunk=UNCHUNKED)])]
    # The variant and the precision that the authors train, for tests/upstream/authors_speed.py.
    theirs = [Entry(OURS, "fp16"), Entry(OURS, "fp16", graph=True)]
    cases += [(Task(TRAIN, "released", classes, 4), theirs) for classes in (5, 50, 200, 1000)]
    cases += [(Task(TEST, "released", classes, 32), theirs) for classes in (50, 500)]
    return cases


def _cases_for_cpu() -> list[tuple[Task, list[Entry]]]:
    against_both = [Entry(OURS), Entry(STRAIGHTFORWARD), Entry(PLAIN)]
    cases = []
    for variant in VARIANTS:
        cases += [(Task(TRAIN, variant, classes, 4), against_both) for classes in (5, 50, 200)]
        cases += [(Task(TEST, variant, classes, 32), against_both) for classes in (50, 500)]
        cases += [(Task(IMAGES, variant, 50, 32), [Entry(OURS), Entry(PLAIN)])]
        cases += [(Task(TRAIN, variant, 50, 4), [Entry(OURS, "bf16"), Entry(OURS), Entry(PLAIN, "bf16")])]
        chunks = [Entry(OURS), Entry(OURS, chunk=100), Entry(OURS, chunk=UNCHUNKED)]
        cases += [(Task(TRAIN, variant, 1000, 4), chunks)]
    return cases


def chosen_cases(args: argparse.Namespace) -> list[tuple[Task, list[Entry]]]:
    """Every combination of the options, each against both baselines in its own precision."""
    cases = []
    for work, variant, classes in itertools.product(args.work, args.variant, args.classes):
        task = Task(work, variant, classes, args.batch or (4 if work == TRAIN else 32), args.backbone)
        for precision in args.precision:
            models = (OURS, PLAIN) if work == IMAGES or args.no_straightforward else (OURS, STRAIGHTFORWARD, PLAIN)
            cases.append((task, [Entry(model, precision, args.chunk) for model in models]))
    return cases


def class_names(number: int) -> list[str]:
    """ImageNet's class names in a fixed random order, again and again."""
    from torchvision.models import ResNet50_Weights

    names = list(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    random.Random(0).shuffle(names)
    return list(itertools.islice(itertools.cycle(names), number))


def make_step(task: Task, entry: Entry, device: torch.device) -> Callable[[int], None]:
    """The work as a function of the number of batches to test."""
    torch.manual_seed(0)
    sizes = BACKBONES[task.backbone]
    with device:
        clip_model = CLIP(*sizes).eval().requires_grad_(False)
    precision = PRECISIONS[entry.precision]
    cast_matmul_weights(clip_model, precision.matmul)
    learner = BMIPLearner(BMIPConfig(variant=task.variant), clip_model)
    names = class_names(task.classes)
    if entry.model == OURS:
        model = PromptedCLIP(clip_model, learner, names, precision, entry.chunk)
    else:
        model = StraightforwardBMIP(clip_model, learner, names)
    model.to(device)
    images = torch.randn(task.batch, 3, sizes[1], sizes[1], device=device)
    labels = torch.randint(task.classes, (task.batch,), device=device)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-3)

    def gradients(_: int) -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    @torch.no_grad()
    def test(batches: int) -> None:
        # A new state of the parameters, as before every evaluation: class features are computed again.
        learner.load_state_dict(learner.state_dict())
        for _ in range(batches):
            model(images)

    @torch.no_grad()
    def encode_images(batches: int) -> None:
        encode = model.encode_image if entry.model == OURS else clip_model.visual
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


def time_of(step: Callable[[int], None], batches: int, device: torch.device) -> float:
    """Seconds of a number of batches."""
    start = time.perf_counter()
    step(batches)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def count_flop() -> FlopCounterMode:
    """A context that counts the floating-point operations of matrix products, convolutions and attention."""

    def forward(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(
        gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
    ) -> int:
        return sdpa_backward_flop_count(gradient, query, key, value)

    # Some releases of PyTorch have no formulas for the fused attention on a CPU, and count it as nothing.
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={fused: forward, fused_backward: backward})


def flops_of(step: Callable[[int], None]) -> int:
    """Floating-point operations of the matrix products and attention of a batch."""
    with count_flop() as counter:
        step(1)
    return counter.get_total_flops()


def serve(connection: multiprocessing.connection.Connection, task: Task, entry: Entry, device: str) -> None:
    """In a process of its own: build, then answer a number of batches with their seconds and the peak memory.

    COUNT instead of a number is answered by the floating-point operations of a batch. It comes last: counting takes
    memory of its own.
    """
    device = torch.device(device)
    use_tf32(False)
    try:
        step = make_step(task, entry, device)
        while batches := connection.recv():
            if batches == COUNT:
                connection.send(flops_of(step))
            else:
                connection.send((time_of(step, batches, device), peak_memory(device)))
    except Exception as error:
        connection.send(error)


def product_speed(precision: str, device: str) -> float:
    """Floating-point operations per second of a square matrix product, large enough to fill the device."""
    size, seconds = (2048, 0.5) if device == "cpu" else (8192, 0.1)
    left, right = (torch.randn(size, size, device=device).to(PRECISIONS[precision].matmul) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@dataclass
class Measured:
    """What is known of an entry: the seconds of its repeats, bytes, operations of a batch; or why nothing is."""

    times: list[float] = field(default_factory=list)
    peak: int | None = None
    flop: int | None = None
    remark: str = ""


def measure(task: Task, entries: Sequence[Entry], device: str, repeats: int) -> list[dict[str, Any]]:
    """One record per entry, in seconds and bytes; without numbers, but with a remark, where an entry had no room.

    Raises:
        RuntimeError: an entry failed for another reason.
    """
    speeds = {entry.precision: product_speed(entry.precision, device) for entry in entries}
    without_room = [entry for entry in entries if entry.model == STRAIGHTFORWARD and not _fits(task, device)]
    tried = [entry for entry in entries if entry not in without_room]
    found = _measure_in_turns(task, tried, device, repeats) if device == "cpu" else {}
    for entry in tried if device != "cpu" else ():
        found[entry] = _measure_alone(task, entry, torch.device(device), repeats)
        gc.collect()
        torch.cuda.empty_cache()
        if entry.graph:
            found[entry].flop = found[entry._replace(graph=False)].flop
    records = []
    for entry in entries:
        measured = found.get(entry, Measured(remark="not tried, no room"))
        best = None if measured.remark else min(measured.times)
        records.append({**task._asdict(), **entry._asdict(), "seconds": best, "peak_bytes": measured.peak})
        records[-1]["times"] = [round(seconds, 6) for seconds in measured.times]
        records[-1]["remark"] = measured.remark
        # One batch is counted, and a test is not four times its first batch.
        known = best and task.work != TEST
        records[-1]["flop"] = measured.flop if known else None
        records[-1]["product_flop_per_second"] = speeds[entry.precision]
    for record in records:
        known = record["seconds"] and records[0]["seconds"]
        record["ratio"] = record["seconds"] / records[0]["seconds"] if known else None
    return records


def _measure_alone(task: Task, entry: Entry, device: torch.device, repeats: int) -> Measured:
    """In this process, on CUDA, whose allocator tells the peak of what runs between two resets."""
    measured, before = Measured(), torch.cuda.memory_allocated(device)
    try:
        step = make_step(task, entry, device)
        for _ in range(CUDA_WARM_UP):
            time_of(step, 1, device)
        torch.cuda.reset_peak_memory_stats(device)
        measured.times += [time_of(step, TEST_BATCHES, device) for _ in range(repeats)]
        if not entry.graph:  # whose memory is set aside before
            measured.peak = peak_memory(device) - before
            measured.flop = flops_of(step) if task.work != TEST else None
    except torch.cuda.OutOfMemoryError:
        measured = Measured(remark=OUT_OF_MEMORY)
    except Exception as error:
        if entry.graph:
            return Measured(remark="cannot be recorded")
        raise RuntimeError(_failure(task, entry, error)) from error
    return measured


def _measure_in_turns(task: Task, entries: Sequence[Entry], device: str, repeats: int) -> dict[Entry, Measured]:
    """Each in a process of its own, step by step."""
    spawn = multiprocessing.get_context("spawn")
    running: dict[Entry, tuple[multiprocessing.process.BaseProcess, Any]] = {}
    found = {entry: Measured() for entry in entries}
    for entry in entries:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=serve, args=(theirs, task, entry, device), daemon=True)
        process.start()
        theirs.close()
        running[entry] = process, ours
    # The first round warms up: it allocates what later ones use again. A test is long enough to be run once.
    rounds = [1, *[TEST_BATCHES] * (1 if task.work == TEST else repeats), COUNT]
    for number, batches in enumerate(tqdm(rounds, desc=" ".join(str(part) for part in task), leave=False)):
        for entry, (_, connection) in list(running.items()):
            try:
                connection.send(batches)
                answer = connection.recv()
            except (EOFError, ConnectionError):
                # The system killed it, which it does for memory.
                found[entry] = Measured(remark=OUT_OF_MEMORY)
                del running[entry]
                continue
            if isinstance(answer, Exception):
                raise RuntimeError(_failure(task, entry, answer)) from answer
            if batches == COUNT:
                found[entry].flop = answer
            elif number:
                found[entry].times.append(answer[0])
                found[entry].peak = answer[1]
    for process, connection in running.values():
        connection.send(0)
        process.join()
    return found


def _failure(task: Task, entry: Entry, error: Exception) -> str:
    return f"{_name(task, entry)} failed: {error}"


def _name(task: Task, entry: Entry) -> str:
    return " ".join(map(str, (*task, entry.model, entry.precision, entry.chunk)))


def profile(task: Task, entry: Entry, device: str, rows: int = 10) -> str:
    """Which operations a step spends its time in, as a table."""
    on = torch.device(device)
    step = make_step(task, entry, on)
    time_of(step, 1, on)
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device != "cpu")]
    with torch.profiler.profile(activities=activities) as profiler:
        time_of(step, 1, on)

    def microseconds(operation: Any) -> float:
        return operation.self_cpu_time_total if device == "cpu" else operation.self_device_time_total

    # With CUDA the kernels stand beside the operations that launch them, and would count twice.
    operations = [operation for operation in profiler.key_averages() if operation.device_type == DeviceType.CPU]
    operations.sort(key=microseconds, reverse=True)
    total = sum(map(microseconds, operations))
    lines = [[operation.key, operation.count, f"{microseconds(operation) / total:.1%}"] for operation in operations]
    return tabulate(lines[:rows], ["operation", "calls", "share of the step"], tablefmt="github")


def _fits(task: Task, device: str) -> bool:
    """Whether the straightforward step has room; CUDA's allocator says so itself, and kills nothing."""
    needed = STRAIGHTFORWARD_BYTES_PER_CLASS * task.classes
    return task.work != TRAIN or device != "cpu" or needed < 0.8 * free_memory(torch.device(device))


def share_of_limit(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> float | None:
    """The time that the counted work would take at the fastest product of all cases, over the time that it took."""
    if not record["flop"]:
        return None
    speeds = [other["product_flop_per_second"] for other in records if other["precision"] == record["precision"]]
    return record["flop"] / max(speeds) / record["seconds"]


def table(records: Sequence[dict[str, Any]]) -> str:
    """GitHub's Markdown; a ratio is a time over that of the case's first line."""
    rows = []
    for record in records:
        chunk = {AUTOMATIC: "auto", UNCHUNKED: "all"}.get(record["chunk"], record["chunk"])
        seconds, peak, ratio = record["seconds"], record["peak_bytes"], record["ratio"]
        flop, share = record["flop"], share_of_limit(record, records)
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
                f"{share:.0%}" if share else "",
            ]
        )
    headers = ["work", "variant", "classes", "batch", "model", "precision", "chunk", "seconds", "peak GiB", "ratio"]
    headers += ["GFLOP", "of limit"]
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


def copy_speed(device: str, size: int = 2**32, repeats: int = 10) -> float:
    """Bytes per second, read and written, of a large copy within a CUDA device's memory."""
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    best = min(time_of(lambda _: target.copy_(source), 1, source.device) for _ in range(repeats))
    return 2 * size / best


def _cpu_name() -> str:
    """Model and, where Linux tells, what decides the speed of bf16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    units = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return " ".join([facts.get("model name", platform.processor()), *units])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works = (TRAIN, TEST, IMAGES)
    parser.add_argument(
        "--standard", nargs="+", choices=works, default=list(works), help="parts of the standard table"
    )
    parser.add_argument("--work", nargs="+", choices=works, help="cases of your own instead, by the options below")
    parser.add_argument("--backbone", choices=tuple(BACKBONES), default="ViT-B/16", help="sizes of the random CLIP")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--classes", nargs="+", type=int, default=[50])
    parser.add_argument("--batch", type=int, help="images per batch; default: 4 in training, else 32")
    parser.add_argument("--precision", nargs="+", choices=tuple(PRECISIONS), default=["fp32"])
    parser.add_argument("--chunk", type=int, default=AUTOMATIC, help="MODEL.CLASS_CHUNK")
    parser.add_argument("--no-straightforward", action="store_true", help="leave out the slow baseline")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps; the fastest counts")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--profile", action="store_true", help="of the cases of --work, what a step spends its time in"
    )
    parser.add_argument("--json", type=Path, help="write the records there as well")
    parser.add_argument("--show", type=Path, help="only print the table of a file that --json wrote")
    args = parser.parse_args(argv)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device is {args.device}, but PyTorch sees no CUDA device; use cpu")
    if args.profile and not args.work:
        parser.error("--profile needs --work")
    if min([*args.classes, args.batch or 1, args.repeats]) < 1:
        parser.error("--classes, --batch and --repeats are numbers from 1 on")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.show:
        content = json.loads(args.show.read_text())
        print(_line(content["machine"]), table(content["records"]), sep="\n\n")
        return
    use_tf32(False)
    facts, records = machine(args.device), []
    print(_line(facts))
    if args.profile:
        for task, entries in chosen_cases(args):
            print(_name(task, entries[0]), profile(task, entries[0], args.device), sep="\n\n")
        return

    standard = [case for case in standard_cases(args.device, args.backbone) if case[0].work in args.standard]
    for task, entries in tqdm(chosen_cases(args) if args.work else standard, desc="cases"):
        records += measure(task, entries, args.device, args.repeats)
        if args.json:
            # After every case, so that an interruption loses no result.
            args.json.write_text(json.dumps({"machine": facts, "records": records}, indent=2) + "\n")
    print("", table(records), sep="\n")


def _line(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in facts.items())


if __name__ == "__main__":
    main()
