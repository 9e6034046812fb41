"""A run that was stopped and resumed equals one that was not, to the bit."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

from minidassl.own import checkpointing
from minidassl.own.checkpoint import load_checkpoint
from minidassl.utils import set_random_seed

import numpy as np
import pytest
import torch
from helpers.runs import assert_same_state
from helpers.toy import BATCHES, EPOCHS, Killed, toy_cfg
from test_minidassl_training import ToyTrainer, make_toy
from torch import nn


def kill(folder, options, epoch, **kwargs) -> ToyTrainer:
    trainer = make_toy(folder, *options, **kwargs)
    trainer.kill_at = epoch
    with pytest.raises(Killed):
        trainer.train()
    return trainer


def end_state(trainer: ToyTrainer) -> dict:
    file = load_checkpoint(os.path.join(trainer.output_dir, "head", f"model.pth.tar-{EPOCHS}"))
    return {
        "weights": trainer.model.state_dict(),
        "optimiser": trainer.optim.state_dict(),
        "schedule": trainer.sched.state_dict(),
        "best": trainer.best_result,
        "generators after": (random.random(), np.random.rand(), torch.rand(1).item()),
        "last file": file,
    }


SETTINGS = {
    "plain": [],
    "constant warm-up": ["OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant"],
    "stopped inside a linear warm-up": ["OPTIM.WARMUP_EPOCH", 3, "OPTIM.WARMUP_TYPE", "linear"],
    "warm-up that counts": ["OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant", "OPTIM.WARMUP_RECOUNT", False],
    "multi-step": ["OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", (2, 3), "OPTIM.WARMUP_EPOCH", 1],
    "single step, adamw": ["OPTIM.LR_SCHEDULER", "single_step", "OPTIM.STEPSIZE", (2,), "OPTIM.NAME", "adamw"],
    "best_val": ["TEST.FINAL_MODEL", "best_val"],
    "best_val, warm-up, adam": ["TEST.FINAL_MODEL", "best_val", "OPTIM.WARMUP_EPOCH", 2, "OPTIM.NAME", "adam"],
}


@pytest.mark.filterwarnings("error:.*lr_scheduler.*")
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, capsys, options, epoch):
    whole = make_toy(tmp_path, *options, name="whole")
    whole.train()
    result = [line for line in capsys.readouterr().out.splitlines() if line.startswith("*")][-5:]
    expected = end_state(whole)

    first = kill(tmp_path, options, epoch, name="parts")
    second = make_toy(tmp_path, *options, name="parts", seed=99)  # other initial weights, other generators
    capsys.readouterr()
    second.train()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("*")][-5:] == result
    assert f"Previous epoch: {epoch}" in lines and "Loaded scheduler" in lines
    assert list(second.logged) == [(e, b) for e in range(epoch, EPOCHS) for b in range(BATCHES)]
    assert {**first.logged, **second.logged} == whole.logged
    assert_same_state(end_state(second), expected)


# ---------------------------------------------------------------------------------------------- which file, which run


def files(trainer: ToyTrainer, name: str = "head") -> list[str]:
    return sorted(os.listdir(os.path.join(trainer.output_dir, name)))


@pytest.mark.parametrize(
    "options, kept",
    [
        ([], ["checkpoint", "model.pth.tar-4"]),
        (["TRAIN.CHECKPOINT_FREQ", 2], ["checkpoint", "model.pth.tar-2", "model.pth.tar-4"]),
        (["TRAIN.CHECKPOINT_FREQ", 3], ["checkpoint", "model.pth.tar-3", "model.pth.tar-4"]),
        (["TEST.FINAL_MODEL", "best_val"], ["checkpoint", "model-best.pth.tar", "model.pth.tar-4"]),
    ],
)
@pytest.mark.parametrize("stop", [None, 2, 3])
def test_only_the_files_asked_for_are_left(tmp_path, options, kept, stop):
    if stop is not None:
        kill(tmp_path, options, stop)
    trainer = make_toy(tmp_path, *options)
    trainer.train()
    assert files(trainer) == kept
    assert Path(trainer.output_dir, "head", "checkpoint").read_text() == "model.pth.tar-4\n"


def test_an_old_file_goes_only_after_the_new_one_is_written(tmp_path, monkeypatch):
    trainer = make_toy(tmp_path)
    real = checkpointing.save_checkpoint

    def fail_in_third(state, *args, **kwargs):
        if state["epoch"] == 3:
            raise OSError("disk full")
        real(state, *args, **kwargs)

    monkeypatch.setattr(checkpointing, "save_checkpoint", fail_in_third)
    with pytest.raises(OSError):
        trainer.train()
    assert files(trainer) == ["checkpoint", "model.pth.tar-2"]


def test_the_best_file_is_replaced_by_a_strictly_better_result_only(tmp_path, monkeypatch):
    results = iter([50.0, 50.0, 60.0, 55.0, 0.0])
    trainer = make_toy(tmp_path, "TEST.FINAL_MODEL", "best_val")
    monkeypatch.setattr(trainer, "test", lambda split=None: next(results))
    saved = []
    original = trainer.save_model
    monkeypatch.setattr(
        trainer, "save_model", lambda *a, **k: (saved.append((a[0] + 1, k.get("val_result"))), original(*a, **k))
    )
    trainer.train()
    assert saved == [(1, 50.0), (1, None), (2, None), (3, 60.0), (3, None), (4, None)]
    best = load_checkpoint(os.path.join(trainer.output_dir, "head", "model-best.pth.tar"))
    assert (best["epoch"], best["val_result"], trainer.best_result) == (3, 60.0, 60.0)


def test_a_pointer_to_an_older_best_file_does_not_rewind_the_run(tmp_path, capsys):
    kill(tmp_path, ["TEST.FINAL_MODEL", "best_val"], 3)
    trainer = make_toy(tmp_path, "TEST.FINAL_MODEL", "best_val")
    folder = os.path.join(trainer.output_dir, "head")
    best = load_checkpoint(os.path.join(folder, "model-best.pth.tar"))
    torch.save({**best, "epoch": 1}, os.path.join(folder, "model-best.pth.tar"))
    Path(folder, "checkpoint").write_text("model-best.pth.tar\n")
    trainer.train()
    assert "Previous epoch: 3" in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again_but_tested(tmp_path, capsys):
    make_toy(tmp_path).train()
    trainer = make_toy(tmp_path)
    capsys.readouterr()
    trainer.train()
    out = capsys.readouterr().out
    assert trainer.logged == {}
    assert f"Previous epoch: {EPOCHS}" in out and "=> result" in out
    assert files(trainer) == ["checkpoint", "model.pth.tar-4"]


@pytest.mark.parametrize("content", ["nothing", "empty folder", "half a file"])
def test_asking_to_resume_from_nothing_is_an_error_that_names_the_folder(tmp_path, content):
    earlier = tmp_path / "earlier"
    if content != "nothing":
        (earlier / "head").mkdir(parents=True)
    if content == "half a file":
        (earlier / "head" / "model.pth.tar-1.123.part").touch()
    trainer = make_toy(tmp_path, "RESUME", str(earlier))
    with pytest.raises(FileNotFoundError, match=f'"{earlier}".*--resume'):
        trainer.train()


@pytest.mark.parametrize("options", [[], ["TEST.FINAL_MODEL", "best_val"]], ids=["last_step", "best_val"])
def test_a_run_can_go_on_in_another_folder(tmp_path, options):
    whole = make_toy(tmp_path, *options, name="whole")
    whole.train()
    expected = end_state(whole)
    first = kill(tmp_path, options, 3, name="first")
    before = files(first)
    second = make_toy(tmp_path, *options, "RESUME", first.output_dir, name="second", seed=99)
    second.train()
    assert_same_state(end_state(second), expected)
    assert files(first) == before, "the earlier run's folder stays as it is"


def test_the_best_model_of_the_earlier_folder_is_deployed_if_it_stays_the_best(tmp_path, capsys):
    options = ["TEST.FINAL_MODEL", "best_val"]
    first = kill(tmp_path, options, 2, name="first")
    for name in files(first)[1:]:
        path = os.path.join(first.output_dir, "head", name)
        torch.save({**load_checkpoint(path), "best_result": 101.0}, path)
    second = make_toy(tmp_path, *options, "RESUME", first.output_dir, name="second")
    second.train()
    best = load_checkpoint(os.path.join(second.output_dir, "head", "model-best.pth.tar"))
    assert_same_state(second.model.state_dict(), best["state_dict"])
    assert best["epoch"] <= 2


def test_with_several_models_the_newest_epoch_that_all_have_is_taken(tmp_path, capsys):
    class Two(ToyTrainer):
        def build_model(self):
            super().build_model()
            self.other = nn.Linear(1, 1)
            self.register_model("other", self.other)

    trainer = kill(tmp_path, ["TRAIN.CHECKPOINT_FREQ", 1], 3, kind=Two)
    os.remove(os.path.join(trainer.output_dir, "other", "model.pth.tar-3"))
    make_toy(tmp_path, kind=Two).train()
    out = capsys.readouterr().out
    assert "Previous epoch: 2" in out and "Previous epoch: 3" not in out


def test_a_folder_with_only_a_best_file_is_resumed_from_that(tmp_path, capsys):
    kill(tmp_path, ["TEST.FINAL_MODEL", "best_val"], 1)
    trainer = make_toy(tmp_path, "TEST.FINAL_MODEL", "best_val")
    os.remove(os.path.join(trainer.output_dir, "head", "model.pth.tar-1"))
    trainer.train()
    assert "Previous epoch: 1" in capsys.readouterr().out


def test_a_longer_run_takes_up_the_schedule_of_its_own_length(tmp_path, capsys):
    make_toy(tmp_path).train()
    trainer = make_toy(tmp_path, "OPTIM.MAX_EPOCH", 8)
    trainer.train()
    assert "computed anew for epoch 5" in capsys.readouterr().out
    assert trainer.optim.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    assert files(trainer) == ["checkpoint", "model.pth.tar-4", "model.pth.tar-8"], "a finished run's file stays"


def test_a_file_without_generators_is_resumed_with_a_note(tmp_path, capsys):
    kill(tmp_path, [], 2)
    trainer = make_toy(tmp_path)
    path = os.path.join(trainer.output_dir, "head", "model.pth.tar-2")
    upstreams = ("state_dict", "epoch", "optimizer", "scheduler", "val_result")
    torch.save({key: load_checkpoint(path)[key] for key in upstreams}, path)
    trainer.train()
    assert "holds no random state" in capsys.readouterr().out
    assert files(trainer) == ["checkpoint", "model.pth.tar-2", "model.pth.tar-4"], "upstream meant it to stay"


# -------------------------------------------------------------------------------------------- what a file remembers


def test_the_gradient_scaler_is_saved_and_restored(tmp_path):
    restored = []
    for _ in range(2):
        trainer = make_toy(tmp_path)
        trainer.scaler = SimpleNamespace(state_dict=lambda: {"scale": 4096.0}, load_state_dict=restored.append)
        trainer.train()
    assert restored == [{"scale": 4096.0}]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_generators_of_all_cuda_devices_are_saved_and_restored():
    def draw():
        return [torch.rand(3, device=f"cuda:{index}").tolist() for index in range(torch.cuda.device_count())]

    draw()
    state = checkpointing._rng_state()
    first = draw()
    checkpointing._set_rng_state(state)
    assert draw() == first


class ForeignTrainer:
    """The attributes of upstream's trainer that the mix-in may rely on, and a method that it has to replace."""

    def __init__(self, cfg, model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        self._models, self._optims, self._scheds = {"m": model}, {"m": optimizer}, {"m": None}
        self.cfg, self.output_dir, self.max_epoch, self.device = cfg, cfg.OUTPUT_DIR, 3, torch.device("cpu")
        self.epoch, self.best_result = 0, -np.inf

    def get_model_names(self, names=None):
        return list(self._models)

    def after_epoch(self):
        raise AssertionError("the mix-in's after_epoch has to come first")


class Mixed(checkpointing.Checkpointing, ForeignTrainer): ...


def test_the_mix_in_works_in_front_of_a_foreign_trainer(tmp_path):
    cfg = toy_cfg("minidassl", tmp_path)
    trainer = Mixed(cfg, nn.Linear(2, 2))
    for trainer.epoch in range(2):
        trainer.after_epoch()
    state = random.getstate()
    again = Mixed(cfg, nn.Linear(2, 2))
    random.seed(0)
    assert again.resume_model_if_exist(cfg.OUTPUT_DIR) == 2
    assert_same_state(again._models["m"].state_dict(), trainer._models["m"].state_dict())
    assert random.getstate() == state
    shutil.rmtree(cfg.OUTPUT_DIR)
    set_random_seed(0)
    assert again.resume_model_if_exist(cfg.OUTPUT_DIR) == 0
