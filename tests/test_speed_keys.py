"""The keys that trade memory and speed reach the code that they are for, and change no result."""

from __future__ import annotations

import pytest
import torch

from trainers.prompting.core import prompted_clip
from trainers.prompting.core.clip_weights import use_tf32


def test_class_chunk_bounds_the_classes_of_a_step_and_leaves_the_run_as_it_is(run_train, tmp_path, monkeypatch):
    sizes = []

    def group_classes(*arguments):
        groups = original(*arguments)
        sizes.append([len(group.classes) for group in groups])
        return groups

    original = prompted_clip.group_classes
    monkeypatch.setattr(prompted_clip, "group_classes", group_classes)
    runs = [run_train(folder=tmp_path / chunk, options=["MODEL.CLASS_CHUNK", chunk]) for chunk in ("0", "2")]
    assert sizes[0] == [5] and max(sizes[-1]) == 2
    first, second = ([float(loss.split()[0]) for loss in run.losses()] for run in runs)
    assert first == pytest.approx(second, rel=1e-3) and len(first) > 2


def test_a_run_may_be_continued_with_another_chunk_or_cache(run_train, monkeypatch):
    run_train(options=["OPTIM.MAX_EPOCH", "2", "TEST.NO_TEST", "True"])
    again = run_train(options=["MODEL.CLASS_CHUNK", "2", "DATALOADER.CACHE_GB", "0.0", "TEST.NO_TEST", "True"])
    assert again.status == 0 and "Already trained" in again.output


@pytest.mark.parametrize("enabled", [True, False])
def test_tf32_is_what_the_key_says_for_products_and_convolutions(run_train, enabled):
    use_tf32(not enabled)
    assert run_train(options=["MODEL.TF32", str(enabled), "OPTIM.MAX_EPOCH", "1"]).status == 0
    assert torch.get_float32_matmul_precision() == ("high" if enabled else "highest")
    assert torch.backends.cudnn.allow_tf32 is enabled
    use_tf32(False)
