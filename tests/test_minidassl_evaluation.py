"""The evaluator's numbers, its printed block, and batch accuracy."""

from __future__ import annotations

from minidassl.config import get_cfg_default
from minidassl.evaluation import build_evaluator
from minidassl.metrics import compute_accuracy

import pytest
import torch

# Class 0 has 2 of 3 right, class 1 has 1 of 1, class 2 has 0 of 1; 3 occurs as a prediction only.
TRUE = [0, 0, 0, 1, 2]
PREDICTED = [0, 0, 1, 1, 3]


def scores(predicted: list[int]) -> torch.Tensor:
    return torch.eye(4)[predicted]


@pytest.fixture
def evaluator():
    evaluator = build_evaluator(get_cfg_default())
    for start, end in ((0, 2), (2, 5)):
        evaluator.process(scores(PREDICTED[start:end] * 1000), torch.tensor(TRUE[start:end] * 1000))
    return evaluator


def test_results_are_percentages_as_plain_floats_accuracy_first(capsys, evaluator):
    results = evaluator.evaluate()
    # F1 by hand: class 0: 2*2/(2*2+0+1) = 0.8; class 1: 2*1/(2*1+1+0) = 2/3; class 2: 0.
    expected = dict(accuracy=60.0, error_rate=40.0, macro_f1=100 * (0.8 + 2 / 3) / 3)
    assert list(results) == list(expected)
    assert results == pytest.approx(expected)
    assert all(type(value) is float for value in results.values())
    assert capsys.readouterr().out == (
        "Loading evaluator: Classification\n"
        "=> result\n* total: 5,000\n* correct: 3,000\n* accuracy: 60.0%\n* error: 40.0%\n* macro_f1: 48.9%\n"
    )


def test_reset_forgets_everything(evaluator):
    evaluator.reset()
    evaluator.process(scores([1]), torch.tensor([1]))
    assert evaluator.evaluate() == dict(accuracy=100.0, error_rate=0.0, macro_f1=100.0)


def test_evaluating_nothing_is_an_error_that_says_so(evaluator):
    evaluator.reset()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluator.evaluate()


def test_an_unknown_evaluator_lists_the_known_ones():
    cfg = get_cfg_default()
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(ValueError, match="did you mean 'Classification'"):
        build_evaluator(cfg)


def test_batch_accuracy_counts_labels_among_the_k_best():
    output = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 2.0, 0.0], [9.0, 1.0, 2.0, 3.0]])
    target = torch.tensor([0, 2, 0, 1])
    top1, top2, top4 = compute_accuracy(output, target, topk=(1, 2, 4))
    assert (top1.tolist(), top2.tolist(), top4.tolist()) == ([25.0], [50.0], [100.0])
    assert compute_accuracy((output, "features"), target)[0].item() == 25.0
    assert compute_accuracy(output.half(), target)[0].item() == 25.0
