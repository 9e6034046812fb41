"""`scripts/tools/benchmark.py` measures, prints and writes what it says, on a CLIP small enough for a test."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from scripts.tools import benchmark


def test_all_entries_are_measured_and_compared_with_the_first(tmp_path, capsys):
    file = tmp_path / "result.json"
    options = ["--backbone", "tiny", "--variant", "paper", "--classes", "3", "--batch", "2", "--repeats", "1"]
    benchmark.main(["--work", "train", *options, "--json", str(file)])
    content = json.loads(file.read_text())
    assert {"date", "device", "threads", "torch"} <= content["machine"].keys()
    ours, straightforward, plain = content["records"]
    assert [record["model"] for record in content["records"]] == ["ours", "straightforward", "plain CLIP"]
    for record in (ours, straightforward, plain):
        assert record["seconds"] == pytest.approx(min(record["times"]), abs=1e-6) and record["seconds"] > 0
        assert record["peak_bytes"] > 2**20 and record["ratio"] == record["seconds"] / ours["seconds"]
    printed = capsys.readouterr().out
    assert f"{straightforward['ratio']:.2f}" in printed
    benchmark.main(["--show", str(file)])
    assert capsys.readouterr().out == printed


def test_the_share_of_the_limit_is_that_of_the_fastest_product():
    record = dict(flop=6e9, seconds=0.5, product_flop_per_second=24e9, precision="fp32")
    faster = {**record, "product_flop_per_second": 48e9}
    other = {**record, "product_flop_per_second": 96e9, "precision": "bf16"}
    assert benchmark.share_of_limit(record, [record, other]) == 0.5
    assert benchmark.share_of_limit(record, [record, faster, other]) == 0.25
    assert benchmark.share_of_limit({**record, "flop": None}, [record]) is None


def test_ours_takes_fewer_operations_than_the_straightforward_step():
    task, device = benchmark.Task("train", "paper", classes=3, batch=2, backbone="tiny"), benchmark.torch.device("cpu")
    ours, straightforward = (
        benchmark.flops_of(benchmark.make_step(task, benchmark.Entry(model), device))
        for model in (benchmark.OURS, benchmark.STRAIGHTFORWARD)
    )
    assert 0 < ours < straightforward


def test_the_table_tells_a_graph_from_a_step():
    record = dict(work="train", variant="paper", classes=3, batch=2, model=benchmark.OURS, precision="fp32", chunk=0)
    record.update(seconds=0.5, peak_bytes=None, ratio=1.0, flop=None, remark="")
    assert "ours, as a graph" in benchmark.table([{**record, "graph": True}])
    assert "graph" not in benchmark.table([record])


@pytest.mark.parametrize("work", ["train", "test", "images"])
@pytest.mark.parametrize("model", [benchmark.OURS, benchmark.STRAIGHTFORWARD, benchmark.PLAIN])
def test_every_work_runs_with_every_model(work, model):
    task = benchmark.Task(work, "released", classes=3, batch=2, backbone="tiny")
    step = benchmark.make_step(task, benchmark.Entry(model, "bf16"), benchmark.torch.device("cpu"))
    step(1)
    step(1)


def test_a_test_encodes_the_classes_once_and_all_its_batches(monkeypatch):
    calls = []
    for name in ("encode_text", "encode_image"):
        original = getattr(benchmark.PromptedCLIP, name)
        counted = lambda self, *args, name=name, original=original: calls.append(name) or original(self, *args)  # noqa: E731
        monkeypatch.setattr(benchmark.PromptedCLIP, name, counted)
    task = benchmark.Task("test", "paper", classes=3, batch=2, backbone="tiny")
    step = benchmark.make_step(task, benchmark.Entry(benchmark.OURS), benchmark.torch.device("cpu"))
    step(4)
    step(4)
    assert calls.count("encode_text") == 2 and calls.count("encode_image") == 8


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


def test_a_baseline_without_room_is_left_out_and_shown_as_such(monkeypatch):
    monkeypatch.setattr(benchmark, "free_memory", lambda device: 10**6)
    task = benchmark.Task("train", "paper", classes=3, batch=2, backbone="tiny")
    records = benchmark.measure(task, [benchmark.Entry(benchmark.STRAIGHTFORWARD)], "cpu", 1)
    assert records[0]["seconds"] is None and "no room" in benchmark.table(records)


def test_a_profile_names_operations_and_their_shares(capsys):
    options = ["--backbone", "tiny", "--variant", "paper", "--classes", "3", "--batch", "2"]
    benchmark.main(["--profile", "--work", "train", *options])
    shown = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"^\| aten::\w+ +\| +\d+ \| (\d+\.\d)% +\|$", shown, re.M)]
    assert "share of the step" in shown and len(shares) > 5
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) < 100.5


def test_a_failure_is_no_lack_of_memory():
    task = benchmark.Task("train", "paper", classes=0, batch=2, backbone="tiny")
    with pytest.raises(RuntimeError, match="train paper 0 2 tiny ours fp32 0 failed: .*no classes"):
        benchmark.measure(task, [benchmark.Entry(benchmark.OURS)], "cpu", 1)


@pytest.mark.parametrize("arguments", [["--device", "cuda"], ["--classes", "0"], ["--work", "sleep"], ["--profile"]])
def test_wrong_options_end_in_a_message(arguments, capsys):
    if benchmark.torch.cuda.is_available() and "cuda" in arguments:
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit):
        benchmark.parse_args(arguments)
    assert arguments[0] in capsys.readouterr().err
