"""Which classes are encoded together, and for how many of them activations are held."""

from __future__ import annotations

import itertools
import random
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from trainers.prompting.core import batching, memory
from trainers.prompting.core.batching import group_classes, held_batches
from trainers.prompting.core.memory import automatic_held

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def random_lengths(classes: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(6, 20), weights=range(14, 0, -1), k=classes)


@pytest.mark.parametrize("classes", [1, 2, 37, 1000])
@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_every_class_is_in_one_group_that_is_as_long_as_its_longest_sentence(classes, device, chunk):
    lengths = random_lengths(classes)
    groups = group_classes(lengths, device, chunk)
    assert sorted(label for group in groups for label in group.classes) == list(range(classes))
    for group in groups:
        assert group.length == max(lengths[label] for label in group.classes)
        assert len(group.classes) <= (chunk or classes)


def cost(parts: list[list[int]]) -> int:
    return sum(max(part) * len(part) + batching.GROUP_COST["cpu"] for part in parts)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_cheapest_of_all(seed, monkeypatch):
    monkeypatch.setattr(batching, "GROUP_COST", {"cpu": 7})
    lengths = sorted(random_lengths(10, seed))
    possible = []
    for bits in itertools.product([False, True], repeat=len(lengths) - 1):
        parts = [[lengths[0]]]
        for cut, length in zip(bits, lengths[1:]):
            parts.append([length]) if cut else parts[-1].append(length)
        possible.append(cost(parts))
    groups = group_classes(lengths, CPU)
    assert cost([[lengths[label] for label in group.classes] for group in groups]) == min(possible)


def test_a_few_classes_are_one_group_and_many_are_cut():
    assert len(group_classes(random_lengths(5), CPU)) == 1
    lengths = random_lengths(1000)
    padded = sum(group.length * len(group.classes) for group in group_classes(lengths, CPU))
    assert padded < 1.05 * sum(lengths) < max(lengths) * 1000


def test_no_group_has_more_tokens_than_its_device_takes_at_once():
    for device in (CPU, CUDA):
        groups = group_classes([15] * 20_000, device)
        assert len(groups) > 1
        assert all(group.length * len(group.classes) <= batching.LARGEST_GROUP[device.type] for group in groups)


def test_the_last_groups_are_held_up_to_the_number_of_classes():
    sizes = [len(group.classes) for group in group_classes([8] * 10, CPU, chunk=3)]
    assert sizes == [2, 3, 2, 3]
    assert [held_batches(sizes, held) for held in (1, 3, 4, 5, 8, 9, 10, 99)] == [1, 1, 1, 2, 3, 3, 4, 4]


def test_as_many_classes_are_held_as_fit_into_the_share_of_free_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 4000)
    lengths = [5, 10, 20, 1]
    # A quarter of 4,000 bytes is 100 tokens of 10 bytes; the longest come first.
    assert automatic_held(lengths, 10, CPU) == 4
    assert automatic_held([30] * 10, 10, CPU) == 3
    assert automatic_held([30] * 10, 1000, CPU) == 1


def test_plenty_of_free_memory_is_not_all_used(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**50)
    assert automatic_held([10] * 100_000, 2**18, CPU) == memory.MOST_BYTES["cpu"] // (10 * 2**18)


def test_free_memory_is_what_the_system_says():
    available = psutil.virtual_memory().available
    assert memory.free_memory(CPU) == pytest.approx(available, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_unused_memory_is_handed_back_whenever_the_process_has_grown(monkeypatch):
    now, handed_back = {"size": 0}, []
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=now["size"]))
    library = SimpleNamespace(malloc_trim=lambda pad: handed_back.append(now["size"]))
    monkeypatch.setattr(memory, "_resident", 0)
    monkeypatch.setattr(memory.psutil, "Process", lambda: process)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    slack = memory.SLACK
    # Half, more than one, hardly more than that, three; then it shrinks, and grows again by more than one.
    for now["size"] in (slack // 2, slack + 1, slack + 2, 3 * slack, slack // 5, 2 * slack):
        memory.return_unused_memory(CPU)
    assert handed_back == [slack + 1, 3 * slack, 2 * slack]
