"""Independence of hand-written sentences: the criterion, and DeKg, CoOp's prompts trained by it.

Its loss and gradients with every learner: test_objectives.py.
"""

from __future__ import annotations

import pytest
import torch
from helpers.published import coop, random, write_run
from helpers.runs import assert_same_state, saved

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.objectives.knowledge_independence import centred, dependence

W, INDEPENDENCE = "TRAINER.COOP.W", "LOSS.WEIGHT"
RANDOM = ["TRAINER.COOP.CTX_INIT", ""]


def test_features_whose_products_do_not_vary_together_are_independent():
    teacher = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert dependence(apart, centred(teacher)) == pytest.approx(0)
    # Both kernels are the same projection on one direction, of the norm 1.
    assert dependence(teacher, centred(teacher)) == pytest.approx(1)
    assert dependence(teacher, centred(3 * teacher)) == pytest.approx(1)
    assert dependence(torch.ones(4, 2), centred(teacher)) == pytest.approx(0)


def test_a_batch_has_the_mean_of_its_images():
    generator = torch.Generator().manual_seed(0)
    features, teacher = torch.randn(3, 5, 8, generator=generator), torch.randn(5, 8, generator=generator)
    each = [dependence(one, centred(teacher)) for one in features]
    torch.testing.assert_close(dependence(features, centred(teacher)), torch.stack(each).mean())


def test_the_defaults_are_8_and_6_and_without_independence_it_is_kgcoop(run_train, tmp_path):
    runs = {
        name: run_train(trainer=trainer, folder=tmp_path / name, options=[*RANDOM, *options])
        for name, (trainer, options) in {
            "DeKg": ("DeKg", []),
            "8 and 6": ("DeKg", [W, "8", INDEPENDENCE, "6"]),
            "8 and 0": ("DeKg", [INDEPENDENCE, "0"]),
            "KgCoOp": ("KgCoOp", []),
        }.items()
    }
    states = {name: saved(run, 2)["state_dict"] for name, run in runs.items()}
    assert_same_state(states["DeKg"], states["8 and 6"])
    assert_same_state(states["8 and 0"], states["KgCoOp"])
    assert runs["8 and 0"].losses() == runs["KgCoOp"].losses()
    # The term is small beside the others.
    assert any(not torch.equal(tensor, states["KgCoOp"][name]) for name, tensor in states["DeKg"].items())


def test_a_published_file_with_its_image_tower_is_evaluated_as_coops(run_train, tmp_path):
    clip_model = load_clip("tiny")
    state = coop(clip_model)
    tower = {f"image_encoder.{name}": tensor for name, tensor in clip_model.visual.state_dict().items()}
    write_run(tmp_path / "dekg", "CoOp", {**state, "bias_vectors": random(1, 512), **tower})
    write_run(tmp_path / "coop", "CoOp", state)
    results = {}
    for trainer in ("CoOp", "DeKg"):
        flags = "--eval-only", "--model-dir", str(tmp_path / trainer.lower()), "--load-epoch", "5"
        run = run_train(*flags, trainer=trainer, folder=tmp_path / f"{trainer} tested")
        assert run.status == 0, run.errors
        results[trainer] = run.result["weights_hash"], run.result["accuracy"]
    assert f"{len(tower)} are left out: frozen CLIP" in run.output
    assert "1 are left out: parts that take no part" in run.output
    assert results["DeKg"] == results["CoOp"]
