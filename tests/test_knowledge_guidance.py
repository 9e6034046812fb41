"""Knowledge guidance: terms, teacher and gradients are the equations', and KgCoOp is CoOp's prompts trained by it."""

from __future__ import annotations

import sys

import naive_objectives as naive
import pytest
import torch
from test_bad_input import assert_refused
from test_released_baselines import class_tokens, coop, random, write_run
from test_self_regulation import LABELS, PAIRS, TOLERANCE, assert_gradients, saved, units
from test_training import assert_same_state, interrupt_in
from torch import Tensor
from torch.nn import functional as F

from experiments import evaluate_checkpoint
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.core.clip_weights import load_clip, text_width
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.objectives.knowledge_guidance import KnowledgeGuidance, KnowledgeGuidanceConfig
from trainers.prompting.objectives.objective import RunFacts

W = "TRAINER.COOP.W"
# Else the prompts begin with the words of the teacher's sentence on Digits, and stay near it by themselves.
RANDOM = ["TRAINER.COOP.CTX_INIT", ""]
BY = ["TRAINER.OBJECTIVE", "knowledge_guidance"]
# By registered name; a data set that is not known has the last.
SENTENCES = {
    "EuroSAT": "a centered satellite photo of {}.",
    "DescribableTextures": "{} texture.",
    "Mine": "a photo of a {}.",
}


def prepared(clip_model, learner, classnames, dataset="EuroSAT", **settings) -> tuple[PromptedCLIP, KnowledgeGuidance]:
    objective = KnowledgeGuidance(KnowledgeGuidanceConfig(**settings), RunFacts(dataset=dataset))
    objective.extend(learner, clip_model)
    model = PromptedCLIP(clip_model, learner, classnames).train()
    objective.prepare(model, classnames)
    return model, objective


def teachers_of(clip_model, classnames, dataset="EuroSAT") -> list[Tensor]:
    template = SENTENCES[dataset]
    return [naive.averaged_sentences(clip_model, name, [template]) for name in classnames]


# ------------------------------------------------------------------------------------------------ the loss


@pytest.mark.parametrize("name", PAIRS)
def test_every_term_and_its_gradient_are_the_equations(small_clip, images, classnames, name):
    pair = PAIRS[name](small_clip)
    model, objective = prepared(small_clip, pair.learner, classnames, weight=5.0)
    images.requires_grad_(True)
    total, logits, terms = objective.loss(model, [images], LABELS)

    raw_images, raw_classes = pair.features(images, classnames, lambda feature: feature)
    image_features, classes = units(raw_images), units(raw_classes)
    student = naive.logits(small_clip.logit_scale.exp(), image_features, classes)
    pairs = naive.all_pairs(classes, teachers_of(small_clip, classnames))
    slow = {
        "loss_ce": naive.cross_entropy(student, LABELS.tolist()),
        "loss_text": 5.0 * naive.mean_cosine_distance(pairs),
    }
    assert terms.keys() == slow.keys() and min(slow.values()) > 1e-2
    for key, value in slow.items():
        torch.testing.assert_close(terms[key], value, **TOLERANCE, msg=lambda m, key=key: f"{key}: {m}")
    torch.testing.assert_close(total, sum(slow.values()), **TOLERANCE)
    torch.testing.assert_close(logits, model(images))
    assert_gradients(total, sum(slow.values()), {**dict(pair.learner.named_parameters()), "images": images})


def test_the_papers_squared_distance_of_unit_vectors_is_twice_the_term(small_clip, images, classnames):
    pair = PAIRS["CoOp"](small_clip)
    model, objective = prepared(small_clip, pair.learner, classnames, weight=1.0)
    term = objective.loss(model, [images], LABELS).terms["loss_text"]
    pairs = naive.all_pairs(units(pair.features(images, classnames, None)[1]), teachers_of(small_clip, classnames))
    # naive.mean_square divides by the entries of a feature too.
    torch.testing.assert_close(2 * term, naive.mean_square(pairs) * len(pairs[0][0]), **TOLERANCE)


@pytest.mark.parametrize("dataset", SENTENCES)
def test_the_teacher_reads_the_sentence_of_the_data_set(small_clip, classnames, dataset):
    _, objective = prepared(small_clip, PAIRS["CoOp"](small_clip).learner, classnames, dataset)
    expected = torch.stack(teachers_of(small_clip, classnames, dataset))
    torch.testing.assert_close(objective.teacher_text, expected, rtol=1e-5, atol=1e-6)


def test_the_teacher_does_not_follow_the_prompts(small_clip, classnames):
    pair = PAIRS["MaPLe"](small_clip)
    _, objective = prepared(small_clip, pair.learner, classnames)
    before = objective.teacher_text.clone()
    with torch.no_grad():
        for parameter in pair.learner.parameters():
            parameter.mul_(2)
    assert torch.equal(objective.teacher_text, before) and not objective.teacher_text.requires_grad


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp", "BMIP"])
def test_weight_0_is_plain_cross_entropy(small_clip, images, classnames, name):
    learner = PAIRS[name](small_clip).learner
    model, objective = prepared(small_clip, learner, classnames, weight=0.0)
    total, plain = objective.loss(model, [images], LABELS).total, F.cross_entropy(model(images), LABELS)
    assert torch.equal(total, plain)
    assert_gradients(total, plain, dict(learner.named_parameters()))


# ------------------------------------------------------------------------------------------------ whole runs


def test_kgcoop_is_coops_prompts_by_knowledge_guidance_and_weight_0_is_coop(run_train, tmp_path):
    runs = {
        name: run_train(trainer=trainer, folder=tmp_path / name, options=[*RANDOM, *options])
        for name, (trainer, options) in {
            "KgCoOp": ("KgCoOp", []),
            "by objective": ("CoOp", BY),
            "weight 8": ("KgCoOp", [W, "8"]),
            "weight 0": ("KgCoOp", [W, "0"]),
            "CoOp": ("CoOp", []),
        }.items()
    }
    assert [run.errors for run in runs.values() if run.status] == []
    states = {name: saved(run, 2)["state_dict"] for name, run in runs.items()}
    assert_same_state(states["KgCoOp"], states["by objective"])
    assert_same_state(states["KgCoOp"], states["weight 8"])
    assert_same_state(states["weight 0"], states["CoOp"])
    assert runs["KgCoOp"].losses() == runs["by objective"].losses() != runs["CoOp"].losses()
    assert runs["weight 0"].losses() == runs["CoOp"].losses()
    assert not torch.equal(states["KgCoOp"]["text_prompts.0"], states["CoOp"]["text_prompts.0"])


def test_bmips_prompts_train_by_it(run_train, tmp_path):
    plain = run_train(folder=tmp_path / "plain")
    guided = run_train(folder=tmp_path / "guided", options=BY)
    assert guided.status == 0, guided.errors
    assert "loss_text" in guided.output and guided.losses() != plain.losses()


def test_an_interrupted_and_resumed_run_ends_in_the_same_prompts_to_the_bit(run_train, tmp_path, monkeypatch):
    whole = run_train(trainer="KgCoOp", folder=tmp_path / "whole")
    interrupt_in(monkeypatch, epoch=1)
    assert run_train(trainer="KgCoOp", folder=tmp_path / "stopped").status == 130
    resumed = run_train(trainer="KgCoOp", folder=tmp_path / "stopped")
    assert resumed.status == 0, resumed.errors
    assert "epoch [2/2]" in resumed.output and "epoch [1/2]" not in resumed.output
    assert_same_state(saved(resumed, 2), saved(whole, 2))
    assert_same_state(resumed.result, whole.result)


def test_a_run_is_not_resumed_with_another_weight(run_train, monkeypatch):
    interrupt_in(monkeypatch, epoch=1)
    run = run_train(trainer="KgCoOp")
    (run.folder / "settings.yaml").unlink()  # as a run that was copied by hand
    other = run_train(trainer="KgCoOp", options=[W, "1"])
    assert other.status == 2 and f"{W} was 8.0" in other.errors and "epoch [" not in other.output


@pytest.mark.parametrize("trainer", ["KgCoOp", "BMIP"])
@pytest.mark.parametrize("value, allowed", [("-1", "0.0 or more"), ("1e999", "a finite number")])
def test_a_bad_weight_is_refused(run_train, trainer, value, allowed):
    run = run_train(trainer=trainer, options=[*(BY if trainer == "BMIP" else []), W, value])
    assert_refused(run, [W, allowed])


def test_keys_of_coops_prompts_are_refused_where_the_prompts_are_anothers(run_train):
    run = run_train(options=[*BY, "TRAINER.COOP.N_CTX", "4"])
    assert_refused(run, ["TRAINER.COOP.N_CTX is 4", "TRAINER.BMIP"])


def test_a_classifier_refuses_the_method_and_names_the_prompts_that_it_trains():
    with pytest.raises(InputError, match="'KgCoOp'.*knowledge_guidance.*set it to CoOp"):
        PromptClassifier("KgCoOp", "tiny")


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


def test_a_published_file_of_other_length_is_evaluated_by_the_script(data_root, tmp_path, capsys, monkeypatch):
    clip_model = load_clip("tiny")
    width = text_width(clip_model)
    state = {**kgcoop(clip_model), "ctx": random(6, width), **class_tokens(width, 6)}
    write_run(tmp_path / "theirs", "CoOp", state)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    arguments = ["--trainer", "KgCoOp", "--model-dir", str(tmp_path / "theirs"), "digits", "--root", data_root]
    folder = ["--output-dir", str(tmp_path / "evaluation")]
    options = ["INPUT.SIZE", "(32, 32)", "TRAINER.COOP.PREC", "fp32", "DATALOADER.NUM_WORKERS", "0"]
    assert evaluate_checkpoint.main([*arguments, *folder, "--backbone", "tiny", *options]) == 0
    shown = capsys.readouterr().out
    assert "TRAINER.COOP.N_CTX 6" in shown and "3 are left out: parts that take no part" in shown


def test_a_file_with_parts_that_the_authors_do_not_have_is_refused(run_train, tmp_path):
    state = {**kgcoop(load_clip("tiny")), "other_net.weight": random(2, 2)}
    write_run(tmp_path / "theirs", "CoOp", state)
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), trainer="KgCoOp")
    assert_refused(run, ["does not have: other_net.weight"])
