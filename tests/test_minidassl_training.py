"""The life cycle of a run: order of events, log lines, TensorBoard. The toy here serves other files too."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from minidassl.engine import TrainerX, build_trainer
from minidassl.utils import AverageMeter, MetricMeter, set_random_seed

import pytest
import torch
from helpers.toy import BATCHES, EPOCHS, toy_cfg, toy_trainer
from torch import nn

ToyTrainer = toy_trainer("minidassl")


def make_toy(folder: Path, *options, kind=ToyTrainer, seed: int = 1, name: str = "out") -> ToyTrainer:
    set_random_seed(seed)
    return kind(toy_cfg("minidassl", folder, *options, name=name))


LINE = re.compile(
    r"epoch \[(\d)/4\] batch \[(\d)/3\] time \d\.\d{3} \(\d\.\d{3}\) data \d\.\d{3} \(\d\.\d{3}\) "
    r"loss \d+\.\d{4} \(\d+\.\d{4}\) acc \d+\.\d{4} \(\d+\.\d{4}\) lr (\d\.\d{4}e[-+]\d\d) eta \d:\d\d:\d\d"
)


def lines_of(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_run_prints_upstreams_lines_in_order(tmp_path, capsys):
    trainer = make_toy(tmp_path, "OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    capsys.readouterr()
    trainer.train()
    lines = lines_of(capsys)
    out = trainer.output_dir
    fixed = [line for line in lines if not LINE.fullmatch(line) and not line.startswith(("* ", "Elapsed"))]
    assert fixed == [
        "No checkpoint found, train from scratch",
        f"Initialize tensorboard (log_dir={out}/tensorboard)",
        *(f"Checkpoint saved to {out}/head/model.pth.tar-{epoch}" for epoch in range(1, EPOCHS + 1)),
        "Finish training",
        "Deploy the last-epoch model",
        "Evaluate on the *test* set",
        "=> result",
    ]
    assert re.fullmatch(r"Elapsed: 0:00:\d\d", lines[-1])
    logged = [LINE.fullmatch(line).groups() for line in lines if line.startswith("epoch")]
    # One line every second batch. The schedule is stepped in the third, so each line shows its own epoch's rate.
    assert logged == [
        ("1", "2", "1.0000e-05"),
        ("2", "2", "2.0000e-02"),
        ("3", "2", "1.7071e-02"),
        ("4", "2", "1.0000e-02"),
    ]


def test_few_batches_are_all_logged_and_the_last_shows_the_next_rate(tmp_path, capsys):
    make_toy(tmp_path, "TRAIN.PRINT_FREQ", 5, "OPTIM.MAX_EPOCH", 4).train()
    rates = [LINE.fullmatch(line).groups() for line in lines_of(capsys) if line.startswith("epoch")]
    assert [(epoch, batch) for epoch, batch, _ in rates] == [(str(e), str(b)) for e in (1, 2, 3, 4) for b in (1, 2, 3)]
    assert [rate for epoch, _, rate in rates if epoch == "1"] == ["2.0000e-02", "2.0000e-02", "1.7071e-02"]


class Late(ToyTrainer):
    """Returns one tensor, which each step changes: reading it late shows a later step's number."""

    checked: list

    def forward_backward(self, batch):
        super().forward_backward(batch)
        self.cell = getattr(self, "cell", torch.zeros(1))
        self.cell += 1
        return {"loss": self.cell, "acc": 7.0}

    def check_step(self, batch_idx, values):
        self.checked.append((self.epoch, batch_idx, values["loss"], values["acc"]))


def test_numbers_on_a_device_are_read_together_where_a_line_shows_them(tmp_path, capsys):
    trainer = make_toy(tmp_path, "OPTIM.MAX_EPOCH", 2, kind=Late)
    trainer.checked = []
    trainer.train()
    assert trainer.checked == [
        *((0, batch, 2.0, 7.0) for batch in (0, 1)),
        (0, 2, 3.0, 7.0),
        *((1, batch, 5.0, 7.0) for batch in (0, 1)),
        (1, 2, 6.0, 7.0),
    ]
    shown = [line for line in lines_of(capsys) if line.startswith("epoch")]
    assert ["loss 2.0000 (2.0000) acc 7.0000 (7.0000)" in line for line in shown] == [True, False]


@pytest.mark.parametrize(
    "seconds, epoch, batch, eta",
    [(1.0, 0, 0, "0:00:11"), (3600.0, 2, 2, "3:00:00"), (90000.0, 1, 0, "8 days, 8:00:00"), (9.9, 3, 2, "0:00:00")],
)
def test_the_remaining_time_counts_the_batches_of_all_epochs(tmp_path, seconds, epoch, batch, eta):
    trainer = make_toy(tmp_path)
    trainer.epoch, trainer.batch_idx, trainer.num_batches = epoch, batch, BATCHES
    meter = AverageMeter()
    meter.update(seconds)
    line = trainer._log_line(MetricMeter(), meter, meter)
    assert line.endswith(f" eta {eta}")


def test_each_hook_of_training_is_called_in_its_place(tmp_path):
    called = []

    def note(name):
        def hook(self, *arguments):
            called.append(name)
            return getattr(ToyTrainer, name)(self, *arguments)

        return hook

    names = ("before_train", "before_epoch", "run_epoch", "after_epoch", "after_train")
    make_toy(tmp_path, kind=type("Noting", (ToyTrainer,), {name: note(name) for name in names})).train()
    assert called == ["before_train", *names[1:4] * EPOCHS, "after_train"]


def test_construction_goes_through_its_steps_in_order(tmp_path, monkeypatch):
    order = []
    for step in ("check_cfg", "build_data_loader", "build_model"):
        original = getattr(ToyTrainer, step)

        def record(self, *args, step=step, original=original):
            order.append((step, hasattr(self, "evaluator"), hasattr(self, "num_classes")))
            return original(self, *args)

        monkeypatch.setattr(ToyTrainer, step, record)
    trainer = make_toy(tmp_path)
    assert order == [
        ("check_cfg", False, False),
        ("build_data_loader", False, False),
        ("build_model", False, True),
    ]
    assert trainer.best_result == float("-inf") and trainer.device.type == "cpu"
    assert (trainer.epoch, trainer.start_epoch, trainer.max_epoch) == (0, 0, EPOCHS)
    assert trainer.dm.dataset.classnames == ["colour 0", "colour 1", "colour 2"]


@pytest.mark.parametrize(
    "options, expected",
    [
        (["TEST.NO_TEST", True], []),
        (["TEST.FINAL_MODEL", "last_step"], ["test"]),
        (["TEST.SPLIT", "val"], ["val"]),
        (["TEST.FINAL_MODEL", "best_val"], ["val"] * EPOCHS + ["test"]),
        (["TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True], []),
    ],
)
def test_what_is_evaluated_and_when(tmp_path, capsys, options, expected):
    make_toy(tmp_path, *options).train()
    found = re.findall(r"Evaluate on the \*(\w+)\* set", capsys.readouterr().out)
    assert found == expected


def test_validation_falls_back_to_test_images(tmp_path, capsys):
    trainer = make_toy(tmp_path)
    trainer.val_loader = None
    trainer.test(split="val")
    assert "Evaluate on the *test* set" in capsys.readouterr().out


def test_test_returns_the_accuracy_of_the_model_in_evaluation_mode(tmp_path):
    trainer = make_toy(tmp_path)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
        trainer.model[2].bias[1] = 1.0  # every image is called class 1: two of six
    accuracy = trainer.test()
    assert accuracy == pytest.approx(100 / 3)
    assert not trainer.model.training


def test_models_are_registered_once_and_known_by_name(tmp_path):
    trainer = make_toy(tmp_path)
    with pytest.raises(ValueError, match="duplicate model names: 'head'"):
        trainer.register_model("head", nn.Linear(1, 1))
    assert trainer.get_model_names() == ["head"]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path):
    trainer = make_toy(tmp_path)
    before = trainer.model[2].weight.clone()
    with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!"):
        trainer.model_backward_and_update(trainer.model[2].weight.sum() * float("nan"))
    assert torch.equal(trainer.model[2].weight, before)


def test_tensorboard_gets_averages_rates_and_results(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_toy(tmp_path, "TEST.FINAL_MODEL", "best_val")
    trainer.train()
    events = EventAccumulator(os.path.join(trainer.output_dir, "tensorboard"))
    events.Reload()
    results = ("accuracy", "error_rate", "macro_f1")
    assert sorted(events.Tags()["scalars"]) == sorted(
        ["train/loss", "train/acc", "train/lr", *(f"{s}/{r}" for s in ("val", "test") for r in results)]
    )
    loss = events.Scalars("train/loss")
    assert [event.step for event in loss] == list(range(EPOCHS * BATCHES))
    average = sum(trainer.logged[1, batch] for batch in range(3)) / 3
    assert loss[5].value == pytest.approx(average, rel=1e-6)
    assert events.Scalars("train/lr")[2].value == pytest.approx(0.02 * (1 + 0.5**0.5) / 2)
    assert [event.step for event in events.Scalars("val/accuracy")] == list(range(EPOCHS))
    assert [event.step for event in events.Scalars("test/accuracy")] == [EPOCHS - 1]


def test_evaluation_alone_writes_no_scalars_and_no_files(tmp_path):
    trainer = make_toy(tmp_path)
    trainer.test()
    assert not os.path.exists(trainer.output_dir)


def test_training_goes_on_without_tensorboard(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    make_toy(tmp_path, "OPTIM.MAX_EPOCH", 1).train()
    assert "TensorBoard is not installed" in capsys.readouterr().out


def test_a_trainer_is_built_by_its_registered_name(tmp_path, capsys):
    assert isinstance(build_trainer(toy_cfg("minidassl", tmp_path)), ToyTrainer)
    assert capsys.readouterr().out.startswith("Loading trainer: ToyTrainer\n")
    with pytest.raises(ValueError, match="did you mean 'ToyTrainer'"):
        build_trainer(toy_cfg("minidassl", tmp_path, "TRAINER.NAME", "ToyTrianer"))


def test_a_trainer_without_a_model_says_what_to_define(tmp_path):
    with pytest.raises(NotImplementedError, match="TrainerX must define build_model"):
        TrainerX(toy_cfg("minidassl", tmp_path))


@pytest.mark.parametrize(
    "key", ["INPUT.NO_TRANSFORM", "DATALOADER.RETURN_IMG0", "TEST.PER_CLASS_RESULT", "TEST.COMPUTE_CMAT"]
)
def test_an_option_that_would_be_ignored_is_refused_with_the_remedy(tmp_path, key):
    with pytest.raises(ValueError, match=f"{key} is True.* install upstream Dassl"):
        make_toy(tmp_path, key, True)
