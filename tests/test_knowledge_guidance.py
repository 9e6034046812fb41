"""Knowledge guidance: its teacher, and KgCoOp, CoOp's prompts trained by it. Its terms: test_objectives.py."""

from __future__ import annotations

import naive_objectives as naive
import pytest
import torch
from helpers.learners import make
from helpers.objectives import prepared
from helpers.published import coop, random, write_run
from helpers.runs import assert_refused, assert_same_state, saved
from torch import Tensor

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.objectives.knowledge_guidance import KnowledgeGuidance, KnowledgeGuidanceConfig
from trainers.prompting.objectives.objective import RunFacts

W = "TRAINER.COOP.W"
# Else the prompts begin with the words of the teacher's sentence on Digits, and stay near it by themselves.
RANDOM = ["TRAINER.COOP.CTX_INIT", ""]
# By registered name; a data set that is not known has the last.
SENTENCES = {
    "EuroSAT": "a centered satellite photo of {}.",
    "DescribableTextures": "{} texture.",
    "Mine": "a photo of a {}.",
}


@pytest.mark.parametrize("dataset", SENTENCES)
def test_the_teacher_reads_the_sentence_of_the_data_set(small_clip, classnames, dataset):
    objective = KnowledgeGuidance(KnowledgeGuidanceConfig(), RunFacts(dataset=dataset))
    prepared(small_clip, make(small_clip, "CoOp"), classnames, objective)
    expected = torch.stack([naive.averaged_sentences(small_clip, name, [SENTENCES[dataset]]) for name in classnames])
    torch.testing.assert_close(objective.teacher_text, expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ whole runs


def test_the_default_weight_is_8_and_weight_0_is_coop(run_train, tmp_path):
    runs = {
        name: run_train(trainer=trainer, folder=tmp_path / name, options=[*RANDOM, *options])
        for name, (trainer, options) in {
            "KgCoOp": ("KgCoOp", []),
            "weight 8": ("KgCoOp", [W, "8"]),
            "weight 0": ("KgCoOp", [W, "0"]),
            "CoOp": ("CoOp", []),
        }.items()
    }
    states = {name: saved(run, 2)["state_dict"] for name, run in runs.items()}
    assert_same_state(states["KgCoOp"], states["weight 8"])
    assert_same_state(states["weight 0"], states["CoOp"])
    assert runs["weight 0"].losses() == runs["CoOp"].losses() != runs["KgCoOp"].losses()


# ------------------------------------------------------------------------------------------------ published files


def kgcoop(clip_model) -> dict[str, Tensor]:
    """What KgCoOp's authors save: CoOp's tensors, and parts that take no part."""
    parts = {"bias_vectors": random(1, 512)}
    parts |= {"meta_net.linear1.weight": random(512, 512), "meta_net.linear1.bias": random(512)}
    return {**coop(clip_model), **parts}


def test_a_published_file_is_evaluated_as_coops_and_says_that_the_other_parts_are_left_out(tmp_path, run_train):
    state = kgcoop(load_clip("tiny"))
    write_run(tmp_path / "kgcoop", "CoOp", state)
    write_run(tmp_path / "coop", "CoOp", {key: state[key] for key in ("ctx", "token_prefix", "token_suffix")})
    results = {}
    for trainer in ("KgCoOp", "CoOp"):
        flags = "--eval-only", "--model-dir", str(tmp_path / trainer.lower()), "--load-epoch", "5"
        run = run_train(*flags, trainer=trainer, folder=tmp_path / f"{trainer} tested")
        assert run.status == 0, run.errors
        assert ("3 are left out: parts that take no part" in run.output) is (trainer == "KgCoOp")
        assert "2 are left out: tokens of the class names" in run.output
        results[trainer] = run.result["weights_hash"], run.result["accuracy"]
    assert results["KgCoOp"] == results["CoOp"]


def test_a_file_with_parts_that_the_authors_do_not_have_is_refused(run_train, tmp_path):
    state = {**kgcoop(load_clip("tiny")), "other_net.weight": random(2, 2)}
    write_run(tmp_path / "theirs", "CoOp", state)
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="KgCoOp")
    assert_refused(run, ["does not have: other_net.weight"])
