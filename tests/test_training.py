"""A run from start to end: it learns, repeats to the bit, goes on after a stop, and knows when it is done."""

from __future__ import annotations

import pytest
import torch
from helpers.runs import assert_same_state, interrupt_in, saved
from torch.nn import functional as F

from trainers.base import PromptTrainer
from trainers.records import clear_run


def test_without_a_test_a_run_still_knows_that_it_is_trained(run_train):
    run = run_train(options=["TEST.NO_TEST", "True"])
    assert run.result["trained"] and run.result["accuracy"] is None and "Evaluate" not in run.output
    assert "Already trained" in run_train(options=["TEST.NO_TEST", "True"]).output


def test_training_beats_zero_shot_on_the_training_classes(run_train, tmp_path):
    zero_shot = run_train("--eval-only", trainer="ZeroshotCLIP", folder=tmp_path / "zero")
    options = ["DATASET.NUM_SHOTS", "16", "DATALOADER.TRAIN_X.BATCH_SIZE", "16", "OPTIM.MAX_EPOCH", "25"]
    trained = run_train(options=[*options, "OPTIM.LR", "0.01"])
    assert trained.result["accuracy"] > zero_shot.result["accuracy"] + 5


def test_the_same_seed_gives_the_same_run_to_the_bit(run_train, tmp_path):
    first, second = run_train(folder=tmp_path / "1"), run_train(folder=tmp_path / "2")
    assert first.losses() == second.losses() and len(first.losses()) == 4
    assert_same_state(saved(first, 2), saved(second, 2))
    other = run_train(folder=tmp_path / "3", options=["SEED", "2"])
    assert other.losses() != first.losses()


def test_a_finished_run_is_recognised_and_force_trains_it_again(run_train):
    first = run_train()
    assert first.status == 0 and first.result["trained"] and 0 <= first.result["accuracy"] <= 100
    again = run_train()
    assert again.status == 0 and "Already trained" in again.output and "epoch [" not in again.output
    assert "Finish training" in (first.folder / "log.txt").read_text()
    forced = run_train("--force")
    assert forced.losses() == first.losses()
    newest, _ = sorted(forced.folder.glob("log.txt*"))
    assert newest.read_text().count("epoch [") == 4 and "force: True" in newest.read_text()


def test_an_operation_that_cannot_repeat_to_the_bit_is_named_with_a_remedy(run_train, monkeypatch):
    def forward_backward(trainer, batch):
        torch.use_deterministic_algorithms(True)  # as train.py does on CUDA
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))

    monkeypatch.setattr(PromptTrainer, "forward_backward", forward_backward)
    try:
        run = run_train()
    finally:
        torch.use_deterministic_algorithms(False)
    assert run.status == 2 and "SEED is 1" in run.errors and "put_" in run.errors and "--seed -1" in run.errors


@pytest.mark.parametrize("end", ["finished", "interrupted"])
def test_a_run_is_not_taken_for_one_with_other_settings(run_train, monkeypatch, end):
    if end == "interrupted":
        interrupt_in(monkeypatch, epoch=1)
    run_train()
    for key, value in (("OPTIM.LR", "0.01"), ("TRAINER.BMIP.N_CTX", "1"), ("SEED", "2")):
        other = run_train(options=[key, value])
        assert other.status == 2
        assert f"{key} was" in other.errors and "--output-dir" in other.errors and "--force" in other.errors


def test_force_deletes_nothing_before_the_new_run_is_known_to_work(run_train, tmp_path):
    run = run_train()
    assert run_train("--force", options=["INPUT.SIZE", "(64, 64)"]).status == 2
    assert run_train("--force", "--resume", str(tmp_path / "run")).status == 2
    assert run.result["trained"] and saved(run, 2)


def test_a_run_goes_on_from_another_folder_and_then_from_its_own(run_train, tmp_path, monkeypatch):
    options = ["OPTIM.MAX_EPOCH", "4"]
    whole = run_train(folder=tmp_path / "whole", options=options)
    interrupt_in(monkeypatch, epoch=1)
    run_train(folder=tmp_path / "first", options=options)
    resume = ("--resume", str(tmp_path / "first"))
    interrupt_in(monkeypatch, epoch=3)
    run_train(*resume, folder=tmp_path / "second", options=options)
    last = run_train(*resume, folder=tmp_path / "second", options=options)
    assert last.losses() == whole.losses()[-2:]
    assert_same_state(saved(last, 4), saved(whole, 4))
    changed = run_train(*resume, folder=tmp_path / "third", options=[*options, "SEED", "2"])
    assert changed.status == 2 and "SEED" in changed.errors


def test_the_gates_of_every_layer_are_reported_over_all_images(run_train):
    report = run_train().output.split("=> gates")[1]
    rows = [line.split() for line in report.splitlines() if line.startswith(("text", "vision"))]
    assert [row[:2] for row in rows] == [[tower, layer] for tower in ("text", "vision") for layer in "012"]
    for _, _, mean, std, low, high in rows:
        assert 0 < float(low) <= float(mean) <= float(high) < 1 and float(std) >= 0


def test_no_train_builds_and_stops(run_train):
    run = run_train("--no-train")
    assert run.status == 0 and "Trainable parameters" in run.output and "epoch [" not in run.output
    assert not (run.folder / "result.json").exists()


# Nothing changes at this rate: the first validation is the best, and the e-th epoch is e - 1 without gain.
FLAT = ["OPTIM.LR", "1e-12", "OPTIM.WARMUP_EPOCH", "0", "TEST.NO_TEST_EARLY", "False", "OPTIM.MAX_EPOCH", "10"]


@pytest.mark.parametrize("patience, last", [("1", 6), ("4", 6), ("7", 8)])
def test_early_stopping_waits_for_its_patience_and_for_the_sixth_epoch(run_train, patience, last):
    options = [*FLAT, "TRAIN.PATIENT_COUNT", patience]
    run = run_train(options=options)
    assert run.status == 0 and "Early stopping" in run.output
    assert f"epoch [{last}/10]" in run.output and f"epoch [{last + 1}/10]" not in run.output
    assert run.result["trained"] and "Finish training" in run.output


def test_early_stopping_remembers_its_count_over_an_interruption(run_train, monkeypatch):
    interrupt_in(monkeypatch, epoch=3)
    options = [*FLAT, "TRAIN.PATIENT_COUNT", "5"]
    run_train(options=options)
    resumed = run_train(options=options)
    assert "epoch [6/10]" in resumed.output and "epoch [7/10]" not in resumed.output


def test_a_run_stopped_early_is_not_trained_on_when_only_its_test_was_interrupted(run_train):
    options = [*FLAT, "TRAIN.PATIENT_COUNT", "1"]
    run = run_train(options=options)
    (run.folder / "result.json").unlink()
    again = run_train(options=options)
    assert "epoch [" not in again.output and again.result["trained"]


def test_patience_starts_anew_with_every_gain_and_the_best_model_is_deployed(run_train, monkeypatch):
    scripted, counts = iter([50.0, 40.0, 60.0, 30.0]), []
    test = PromptTrainer.test

    def test_split(trainer, split=None):
        if split != "val":
            return test(trainer, split)
        counts.append(trainer.early_stopping.waited)
        return next(scripted)

    monkeypatch.setattr(PromptTrainer, "test", test_split)
    options = ["OPTIM.MAX_EPOCH", "4", "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST_EARLY", "False"]
    run = run_train(options=options)
    assert counts == [0, 0, 1, 0]
    best = torch.load(run.folder / "MultiModalPromptLearner" / "model-best.pth.tar", weights_only=True)
    assert (best["epoch"], best["val_result"]) == (3, 60.0)
    assert "(epoch = 3)" in run.output


def test_an_epoch_can_be_chosen_for_evaluation(run_train, tmp_path):
    run = run_train(options=["TRAIN.CHECKPOINT_FREQ", "1"])
    arguments = ["--eval-only", "--model-dir", str(run.folder), "--load-epoch", "1"]
    assert "(epoch = 1)" in run_train(*arguments, folder=tmp_path / "eval").output


def test_without_validation_there_is_no_early_stopping(run_train):
    run = run_train(options=[*FLAT, "TEST.NO_TEST_EARLY", "True", "TRAIN.PATIENT_COUNT", "1"])
    assert "epoch [10/10]" in run.output and "*val*" not in run.output


def test_init_seed_fixes_the_initial_prompts_apart_from_the_seed(run_train, tmp_path):
    def state(name, *options):
        options = ["OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0", "OPTIM.MAX_EPOCH", "1", *options]
        return saved(run_train(folder=tmp_path / name, options=options), 1)

    one, two = (state(seed, "SEED", seed, "MODEL.INIT_SEED", "48") for seed in "12")
    assert_same_state(one["state_dict"], two["state_dict"])
    assert not torch.equal(one["rng"]["torch"], two["rng"]["torch"])
    other = state("3", "SEED", "2")
    assert not torch.equal(other["state_dict"]["text_prompts.1"], one["state_dict"]["text_prompts.1"])


def test_init_weights_start_from_another_run(run_train, tmp_path):
    first = run_train(folder=tmp_path / "first")
    file = first.folder / "MultiModalPromptLearner" / "model.pth.tar-2"
    options = ["MODEL.INIT_WEIGHTS", str(file), "OPTIM.LR", "0.0", "OPTIM.WARMUP_EPOCH", "0"]
    second = run_train(folder=tmp_path / "second", options=options)
    assert_same_state(saved(second, 2)["state_dict"], saved(first, 2)["state_dict"])


def test_a_loss_that_is_not_finite_ends_in_an_error_whose_remedy_works(run_train, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(F, "cross_entropy", lambda logits, labels: logits.sum() * float("nan"))
        run = run_train()
    assert run.status == 2 and "OPTIM.LR" in run.errors and "PREC" in run.errors
    assert run_train(options=["OPTIM.LR", "0.001"]).status == 0


def test_force_deletes_what_runs_write_and_nothing_else(run_train):
    run = run_train()
    (checkpoints,) = {path.parent for path in run.folder.glob("*/model.pth.tar-2")}
    (checkpoints / "model.pth.tar-1.77.part").write_text("of a killed run")
    own = {run.folder / "notes.txt", checkpoints / "notes.txt", checkpoints / "model.pth.tar-2.copy"}
    for path in own:
        path.write_text("mine")
    clear_run(run.folder)
    left = {path for path in run.folder.rglob("*") if path.is_file() and not path.name.startswith("log.txt")}
    assert left == own


def test_a_start_clears_what_killed_processes_left_and_nothing_else(run_train, monkeypatch):
    options = ["OPTIM.MAX_EPOCH", "4"]
    interrupt_in(monkeypatch, epoch=3)
    run = run_train(options=options)
    (newest,) = run.folder.glob("*/model.pth.tar-3")
    leftovers = [
        newest.with_name(name) for name in ("model.pth.tar-2", "model.pth.tar-4.77.part", "checkpoint.8.part")
    ]
    leftovers += [run.folder / "result.json.12.part"]
    own = [run.folder / "thesis.part", newest.with_name("notes.1.part")]
    for path in (*leftovers, *own):
        path.write_bytes(newest.read_bytes())
    assert run_train(options=options).status == 0
    assert not [path.name for path in leftovers if path.exists()] and all(path.exists() for path in own)


def test_epochs_that_were_kept_on_purpose_stay(run_train, monkeypatch):
    run_train()
    again = run_train("--force", options=["OPTIM.MAX_EPOCH", "3", "TRAIN.CHECKPOINT_FREQ", "1"])
    assert len(list(again.folder.glob("*/model.pth.tar-*"))) == 3
