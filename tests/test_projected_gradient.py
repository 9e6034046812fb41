"""Projected gradients: the projection, its teacher, and ProGrad, CoOp's prompts trained by it.

Its loss and gradients with every learner: test_objectives.py.
"""

from __future__ import annotations

import naive_objectives as naive
import pytest
import torch
from helpers.learners import make
from helpers.objectives import EQUATIONS, prepared
from helpers.published import coop, write_run
from helpers.runs import assert_refused, assert_same_state, saved

import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import default_cfg, merge
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.openai_clip import clip
from trainers.prompting.objectives.objective import RunFacts
from trainers.prompting.objectives.projected_gradient import ProGradConfig, ProjectedGradient, projected
from trainers.prompting.recipes import read_mapping

trainers.register_all()
# By registered name, the words before the class name.
WORDS = {
    "EuroSAT": "a centered satellite photo of",
    "DescribableTextures": "a texture of",
    "OxfordPets": "a type of pet, a photo of a",  # a comma is a token of its own
    "Mine": "a photo of a",
}


def test_only_the_part_against_the_general_direction_is_taken_away():
    general = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    against = torch.tensor([[3.0, -4.0], [1.0, 0.5]])
    torch.testing.assert_close(projected(against, general, 1.0), torch.tensor([[3.0, 0.0], [1.0, 0.5]]))
    torch.testing.assert_close(projected(against, general, 0.25), torch.tensor([[3.0, -3.0], [1.0, 0.5]]))
    for aligned in (-against, torch.tensor([[3.0, 0.0], [1.0, 0.5]])):
        assert torch.equal(projected(aligned, general, 1.0), aligned)
    assert torch.equal(projected(against, torch.zeros(2, 2), 1.0), against)


def test_gradients_of_scaled_losses_are_scaled(small_clip, images, classnames):
    gradients = []
    for factor in (1, 1024):
        learner, objective = make(small_clip, "CoOp", length=4), EQUATIONS["projected gradient"][0]()
        model = prepared(small_clip, learner, classnames, objective)
        found = objective.loss(model, [images], torch.tensor([1, 1, 2, 0]))
        objective.backward(found, list(learner.parameters()), lambda loss, factor=factor: factor * loss)
        gradients.append([parameter.grad for parameter in learner.parameters()])
    for one, scaled in zip(*gradients):
        torch.testing.assert_close(1024 * one, scaled)


@pytest.mark.parametrize("dataset", WORDS)
def test_the_teacher_reads_a_sentence_that_ends_in_the_name(small_clip, classnames, dataset):
    objective = ProjectedGradient(None, RunFacts(dataset=dataset))
    prepared(small_clip, make(small_clip, "CoOp"), classnames, objective)
    sentence = f"{WORDS[dataset]} {{}}."
    expected = torch.stack([naive.averaged_sentences(small_clip, name, [sentence]) for name in classnames])
    torch.testing.assert_close(objective.teacher_text, expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ the context


def tokens_of(words: str) -> list[int]:
    return clip._tokenizer.encode(words)


def learner_of(clip_model, dataset: str, **keys):
    cfg = default_cfg()
    words = {"CTX_INIT": "on", **keys}
    names = ["TRAINER.NAME", "ProGrad", "DATASET.NAME", dataset]
    cfg.merge_from_list([*names, *(word for key in words for word in (f"TRAINER.COOP.{key}", words[key]))])
    return TRAINER_REGISTRY.get("ProGrad").build_parts(cfg, clip_model)[0]


@pytest.mark.parametrize("dataset", WORDS)
def test_the_last_context_tokens_are_the_words_of_the_data_set_and_the_first_are_zero(small_clip, dataset):
    words, learner = WORDS[dataset], learner_of(small_clip, dataset)
    number = len(words.split())
    context = learner.text_prompts["0"]
    assert context.shape[0] == 16 and not context[:-number].any()
    assert torch.equal(context[-number:], small_clip.token_embedding.weight[tokens_of(words)[:number]])
    # Of each word a token; those that are left over stay in the sentence, in front of the class name.
    assert learner.template == " ".join(["X"] * (16 - number) + [words, "{}."])


def test_without_words_the_context_is_random(small_clip):
    for off in ("", "off"):
        learner = learner_of(small_clip, "EuroSAT", CTX_INIT=off, N_CTX=3)
        assert learner.template == "X X X {}." and learner.text_prompts["0"].std() > 0.01


def test_words_of_ones_own_are_the_last_of_the_context_too(small_clip):
    learner = learner_of(small_clip, "EuroSAT", CTX_INIT="my_photo of", N_CTX=4)
    assert learner.template == "X my photo of {}." and not learner.text_prompts["0"][0].any()


def test_a_context_that_is_shorter_than_its_words_is_refused(run_train):
    run = run_train(trainer="ProGrad", options=["TRAINER.COOP.N_CTX", "3", "TRAINER.COOP.CTX_INIT", "on"])
    assert_refused(run, ["TRAINER.COOP.N_CTX is 3", "'a photo of a'", "4 words"])


def test_the_authors_file_says_true_for_the_data_sets_sentence(tmp_path):
    (tmp_path / "theirs.yaml").write_text("LOSS: {NAME: prograd, T: 1.0}\nTRAINER: {COOP: {CTX_INIT: True}}\n")
    cfg = default_cfg()
    merge(cfg, read_mapping(tmp_path / "theirs.yaml"), "theirs")
    assert ProGradConfig(context=cfg.TRAINER.COOP.CTX_INIT, dataset="EuroSAT").words == WORDS["EuroSAT"]


# ------------------------------------------------------------------------------------------------ whole runs


def test_without_a_share_training_is_that_by_cross_entropy_and_the_share_matters(run_train, tmp_path):
    states, losses = {}, {}
    for name, options in {
        "cross-entropy": [],
        "none": ["TRAINER.OBJECTIVE", "projected_gradient", "LOSS.LAMBDA", "0"],
        "all": ["TRAINER.OBJECTIVE", "projected_gradient"],
    }.items():
        run = run_train(trainer="BMIP", folder=tmp_path / name, options=options)
        assert run.status == 0, run.errors
        states[name], losses[name] = saved(run, 2)["state_dict"], run.losses()
    assert_same_state(states["cross-entropy"], states["none"])
    assert losses["cross-entropy"] == losses["none"] != losses["all"]


def test_a_published_file_is_evaluated_as_coops(tmp_path, run_train):
    state = coop(load_clip("tiny"))
    write_run(tmp_path / "theirs", "CoOp", state)
    results = []
    for trainer in ("ProGrad", "CoOp"):
        flags = "--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"
        length = str(len(state["ctx"]))
        options = ["TRAINER.COOP.N_CTX", length, "TRAINER.COOP.CTX_INIT", "on" if trainer == "ProGrad" else ""]
        run = run_train(*flags, trainer=trainer, folder=tmp_path / trainer, options=options)
        assert run.status == 0, run.errors
        results.append((run.result["weights_hash"], run.result["accuracy"]))
    assert results[0] == results[1]
