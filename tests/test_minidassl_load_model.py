"""Loading for evaluation: which file, strictly, and what is said where that fails."""

from __future__ import annotations

import os
import re

from minidassl.own.checkpoint import CheckpointError

import pytest
import torch
from test_minidassl_training import ToyTrainer, make_toy
from torch import nn


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with files of epochs 2 and 4; to be read only."""
    folder = tmp_path_factory.mktemp("run")
    trainer = make_toy(folder, "TRAIN.CHECKPOINT_FREQ", 2)
    trainer.train()
    return folder, trainer


def weights(trainer: ToyTrainer) -> torch.Tensor:
    return trainer.model[2].weight.detach().clone()


@pytest.mark.parametrize("best", [False, True])
def test_the_best_file_is_taken_where_there_is_one_else_the_newest_epoch(tmp_path, capsys, best):
    trained = make_toy(tmp_path, "TEST.FINAL_MODEL", "best_val" if best else "last_step")
    trained.train()
    fresh = make_toy(tmp_path, seed=5)
    assert not torch.equal(weights(fresh), weights(trained))
    capsys.readouterr()
    fresh.load_model(trained.output_dir)
    lines = capsys.readouterr().out.splitlines()
    folder = os.path.join(trained.output_dir, "head")
    if best:
        pattern = rf'Loading weights to head from "{folder}/model-best.pth.tar" \(epoch = [1-4]\)'
        assert len(lines) == 1 and re.fullmatch(pattern, lines[0])
    else:
        assert lines == [
            "There is no model-best.pth.tar; taking the newest epoch, 4",
            f'Loading weights to head from "{folder}/model.pth.tar-4" (epoch = 4)',
        ]
    assert torch.equal(weights(fresh), weights(trained)), "training ends with what is deployed"


def test_an_epoch_can_be_chosen(run, capsys):
    folder, trained = run
    fresh = make_toy(folder, seed=5)
    fresh.load_model(trained.output_dir, epoch=2)
    assert '/model.pth.tar-2" (epoch = 2)' in capsys.readouterr().out
    assert not torch.equal(weights(fresh), weights(trained))


@pytest.mark.parametrize(
    "directory, epoch, message",
    [
        ("", None, "--model-dir"),
        (None, None, "--model-dir"),
        ("{out}", 3, r'Model not found at "{out}/head/model.pth.tar-3"; epochs saved there: \[2, 4\]'),
        ("{out}/none", None, r'Model not found at "{out}/none/head/model-best.pth.tar"; epochs saved there: none'),
    ],
)
def test_what_is_not_there_is_named_with_what_is(run, directory, epoch, message):
    folder, trained = run
    directory = directory and directory.format(out=trained.output_dir)
    with pytest.raises(CheckpointError, match=message.replace("{out}", re.escape(trained.output_dir))) as error:
        make_toy(folder).load_model(directory, epoch=epoch)
    assert isinstance(error.value, FileNotFoundError) is bool(directory)


def test_weights_of_another_shape_are_refused_with_names_and_shapes(run):
    folder, trained = run

    class Wider(ToyTrainer):
        def build_model(self):
            super().build_model()
            self._models["head"] = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 5), nn.Linear(5, 3))

    words = r'model.pth.tar-4" does not fit Sequential: .*3\.weight.*2\.weight.*\[3, 192\].*\[5, 192\].*another method'
    with pytest.raises(CheckpointError, match=words):
        make_toy(folder, kind=Wider).load_model(trained.output_dir)


def test_foreign_names_can_be_translated_before_strict_loading(run):
    folder, trained = run

    class Renaming(ToyTrainer):
        def build_model(self):
            super().build_model()
            self._models["head"] = nn.ModuleDict({"linear": self.model[2]})

        def convert_state_dict(self, name, state_dict):
            assert name == "head"
            return {key.replace("2.", "linear."): value for key, value in state_dict.items()}

    fresh = make_toy(folder, kind=Renaming, seed=5)
    fresh.load_model(trained.output_dir)
    assert torch.equal(weights(fresh), weights(trained))


def test_a_trainer_with_nothing_trained_has_nothing_to_load(run, capsys):
    trainer = make_toy(run[0])
    trainer._models.clear()
    trainer.load_model("")
    assert "Nothing to load" in capsys.readouterr().out
