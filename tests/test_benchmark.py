"""`scripts/tools/benchmark.py` measures, prints and writes what it says, on a CLIP small enough for a test."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.tools import benchmark
from scripts.tools.benchmark import main

DOCS = Path(__file__).parents[1] / "docs"
OPTIONS = ["--work", "train", "--backbone", "tiny", "--variant", "paper", "--classes", "3"]


def tiny(work: str, variant: str = "paper", classes: int = 3) -> benchmark.Task:
    return benchmark.Task(work, variant, classes, batch=2, backbone="tiny")


def test_all_entries_are_measured_and_compared_with_the_first(tmp_path, capsys):
    file = tmp_path / "result.json"
    main([*OPTIONS, "--repeats", "1", "--json", str(file)])
    content = json.loads(file.read_text())
    assert {"date", "device", "threads", "torch"} <= content["machine"].keys()
    ours, straightforward, plain = content["records"]
    assert [record["model"] for record in content["records"]] == ["ours", "straightforward", "plain CLIP"]
    for record in (ours, straightforward, plain):
        assert record["seconds"] == min(record["times"]) > 0 and record["peak_bytes"] > 2**20
        assert record["ratio"] == record["seconds"] / ours["seconds"]
    assert straightforward["flop"] > ours["flop"] > plain["flop"] > 0
    assert straightforward["launches"] > ours["launches"] > plain["launches"] > 0
    assert f" {ours['launches']} " in benchmark.table({**content, "records": [ours]})
    printed = capsys.readouterr().out
    assert f"{straightforward['ratio']:.2f}" in printed
    main(["--show", str(file)])
    assert capsys.readouterr().out == printed


def test_the_documented_table_of_a_gpu_is_that_of_its_file(capsys):
    main(["--show", str(DOCS / "measurements" / "h200.json")])
    assert capsys.readouterr().out in (DOCS / "PERFORMANCE.md").read_text()


@pytest.mark.parametrize("work", ["train", "test", "images"])
@pytest.mark.parametrize("model", [benchmark.OURS, benchmark.STRAIGHTFORWARD, benchmark.PLAIN])
def test_every_work_runs_with_every_model(work, model):
    step = benchmark.make_step(tiny(work, "released"), benchmark.Entry(model, "bf16"), "cpu")
    step(1)
    step(1)


def test_a_test_encodes_the_classes_once_and_all_its_batches(monkeypatch):
    calls = []
    for name in ("encode_text", "all_image_features"):
        original = getattr(benchmark.PromptedCLIP, name)
        counted = lambda self, *args, name=name, original=original: calls.append(name) or original(self, *args)  # noqa: E731
        monkeypatch.setattr(benchmark.PromptedCLIP, name, counted)
    step = benchmark.make_step(tiny("test"), benchmark.Entry(benchmark.OURS), "cpu")
    step(4)
    step(4)
    assert calls.count("encode_text") == 2 and calls.count("all_image_features") == 8


def test_the_fused_attention_is_counted_as_its_matrix_products():
    query, key, value = (torch.ones(2, 3, tokens, 8, requires_grad=True) for tokens in (5, 7, 7))
    counted = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend), benchmark.count_flop() as forward:
            output = F.scaled_dot_product_attention(query, key, value)
        with benchmark.count_flop() as backward:
            output.sum().backward()
        counted[backend] = forward.get_total_flops(), backward.get_total_flops()
    one_product = 2 * query.numel() * key.shape[-2]
    assert counted[SDPBackend.MATH] == (2 * one_product, 4 * one_product)
    # The fused kernel keeps no attention map, so its backward pass computes it a second time.
    assert counted[SDPBackend.FLASH_ATTENTION] == (2 * one_product, 5 * one_product)


def test_the_authors_model_follows_ours_where_it_has_the_precision():
    task = benchmark.Task("train", "paper", 5, 4, "ViT-B/16")
    entries = [benchmark.Entry(benchmark.OURS, precision) for precision in ("fp32", "bf16")]
    _, found = benchmark.with_authors((task, [*entries, benchmark.Entry(benchmark.PLAIN)]))
    assert found == [*entries, benchmark.Entry(benchmark.PLAIN), benchmark.Entry(benchmark.AUTHORS)]
    assert benchmark.with_authors((task._replace(work="images"), entries))[1] == entries


def one_second(*_: object) -> tuple[float, int]:
    return 1.0, 0


def nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize("device, together", [("cpu", 2), ("cuda", 1)])
def test_rows_live_together_on_a_cpu_and_one_after_another_on_a_gpu(device, together, monkeypatch):
    for name, stub in {"_build": nothing, "_time": one_second, "_count": nothing, "_end": nothing}.items():
        monkeypatch.setattr(benchmark, name, stub)
    monkeypatch.setattr(benchmark, "count_launches", nothing)
    monkeypatch.setattr(benchmark, "product_speed", lambda *_: 1.0)
    ask, living = benchmark.Row.ask, []

    def counted(row, *arguments):
        answer = ask(row, *arguments)
        living.append(len(multiprocessing.active_children()))
        return answer

    monkeypatch.setattr(benchmark.Row, "ask", counted)
    entries = [benchmark.Entry(benchmark.OURS), benchmark.Entry(benchmark.PLAIN)]
    records = benchmark.measure(tiny("train"), entries, device, 2)
    assert [record["times"] for record in records] == [[1.0, 1.0]] * 2 and max(living) == together


def killed(*_: object) -> None:
    """Ends a process as the system does that is short of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_entry_that_the_system_kills_had_no_room(monkeypatch):
    monkeypatch.setattr(benchmark, "_build", killed)
    records = benchmark.measure(tiny("train"), [benchmark.Entry(benchmark.STRAIGHTFORWARD)], "cpu", 1)
    assert records[0]["seconds"] is None and "out of memory" in benchmark.table({"machine": {}, "records": records})


def test_a_failure_is_no_lack_of_memory():
    with pytest.raises(RuntimeError, match="train paper 0 2 tiny ours fp32 failed: .*no classes"):
        benchmark.measure(tiny("train", classes=0), [benchmark.Entry(benchmark.OURS)], "cpu", 1)


def test_a_profile_names_operations_and_their_shares(capsys):
    main(["--profile", *OPTIONS])
    shown = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"^\| aten::\w+ +\| +\d+ \| (\d+\.\d)% +\|$", shown, re.M)]
    assert "share of the step" in shown and len(shares) > 5
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 100.5


@pytest.mark.parametrize(
    "arguments", [["--device", "cuda"], ["--classes", "0"], ["--work", "sleep"], ["--authors", "."]]
)
def test_wrong_options_end_in_a_message(arguments, capsys):
    if torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert arguments[0] in f"{end.value}{capsys.readouterr().err}"
