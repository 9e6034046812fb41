"""ProDA: its loss, the sentences that take turns, both variants, and the files of BMIP's authors."""

from __future__ import annotations

import naive_methods
import naive_objectives as naive
import pytest
import torch
from helpers.learners import make
from helpers.published import write_run
from helpers.runs import assert_refused

from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.methods import METHODS
from trainers.prompting.objectives.prompt_distribution import PromptDistribution, PromptDistributionConfig

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
LABELS = torch.tensor([0, 3, 1, 4])


def trained(clip_model, classnames, number: int = 6, chunk: int = 0, **settings):
    learner = make(clip_model, "ProDA", number=number, length=3)
    objective = PromptDistribution(PromptDistributionConfig(**settings))
    objective.extend(learner, clip_model)
    model = PromptedCLIP(clip_model, learner, classnames, class_chunk=chunk).train()
    objective.prepare(model, classnames)
    return model, objective


@pytest.mark.parametrize("chunk", [0, 1, 4])
@pytest.mark.parametrize("together", [2, 3, 6])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_loss_and_its_gradient_are_the_equations(small_clip, images, classnames, variant, together, chunk):
    settings = dict(variant=variant, together=together, weight=2.0)
    model, objective = trained(small_clip, classnames, chunk=chunk, **settings)
    objective.before_step()
    total, logits, terms = objective.loss(model, [images], LABELS)

    contexts = list(model.learner.text_prompts["0"])
    drawn = objective.drawn.tolist()
    samples = naive_methods.proda_samples(small_clip, classnames, contexts, drawn)
    seen = [naive.frozen_image(small_clip, image) for image in images]
    bound = naive.upper_bound(small_clip.logit_scale.exp(), seen, samples, LABELS.tolist())
    slow = {"loss_ce": naive.cross_entropy(bound, LABELS.tolist())}
    if variant == "paper":
        nameless = [naive_methods.coop_features(small_clip, [], [""], [context])[1][0] for context in contexts]
        slow["loss_orthogonality"] = 2 * naive.mean_absolute_cosine(nameless)
    assert terms.keys() == slow.keys() and all(value > 1e-3 for value in slow.values())
    for key, value in slow.items():
        torch.testing.assert_close(terms[key], value, **TOLERANCE)
    torch.testing.assert_close(total, sum(slow.values()), **TOLERANCE)
    means = [sum(of_class) / len(of_class) for of_class in zip(*samples)]
    plain = torch.stack([small_clip.logit_scale.exp() * torch.stack([f @ mean for mean in means]) for f in seen])
    torch.testing.assert_close(logits, plain, **TOLERANCE)
    assert total > torch.nn.functional.cross_entropy(logits, LABELS) + 1e-3

    (parameter,) = model.learner.parameters()
    (ours,), (theirs,) = (torch.autograd.grad(loss, [parameter]) for loss in (total, sum(slow.values())))
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    of_each = ours.flatten(1).abs().max(dim=1).values > 1e-4
    assert of_each.nonzero().flatten().tolist() == (list(range(6)) if variant == "paper" else sorted(drawn))


@pytest.mark.parametrize("chunk", [0, 1, 2, 7])
@pytest.mark.parametrize("chosen", [[5, 0, 3], [1], [2, 4, 0, 5, 3, 1]])
def test_chosen_sentences_have_the_features_that_they_have_among_all(small_clip, classnames, chosen, chunk):
    model, _ = trained(small_clip, classnames, chunk=chunk)
    whole, some = model.sentence_features(), model.sentence_features(torch.tensor(chosen))
    torch.testing.assert_close(some, whole[chosen], **TOLERANCE)
    torch.testing.assert_close(whole.mean(dim=0), model.class_features(), **TOLERANCE)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(6, 5), **TOLERANCE)
    assert (model.class_features().norm(dim=-1) < 0.99).all()


def test_all_sentences_have_their_turn_before_one_has_its_next(small_clip, classnames):
    _, objective = trained(small_clip, classnames, number=6, together=2)
    orders = []
    for _ in range(4):
        drawn = []
        for _ in range(3):
            objective.before_step()
            drawn += objective.drawn.tolist()
        assert sorted(drawn) == list(range(6))
        orders.append(drawn)
    assert len({tuple(order) for order in orders}) > 1


def test_no_sentence_is_twice_in_a_step_where_steps_do_not_divide_their_number(small_clip, classnames):
    _, objective = trained(small_clip, classnames, number=6, together=4)
    seen = []
    for _ in range(6):
        objective.before_step()
        drawn = objective.drawn.tolist()
        assert len(set(drawn)) == 4
        seen += drawn
    assert set(seen[:8]) == set(range(6)) and all(seen.count(number) >= 3 for number in range(6))


def test_a_resumed_training_goes_on_with_the_sentences_that_are_left(small_clip, classnames):
    _, objective = trained(small_clip, classnames, number=6, together=2)
    objective.before_step()
    state = objective.training_state()
    expected = []
    for _ in range(2):
        objective.before_step()
        expected.append(objective.drawn.tolist())
    resumed = PromptDistribution(objective.config)
    resumed.load_training_state(state)
    resumed.prepare(trained(small_clip, classnames, number=6)[0], classnames)
    for drawn in expected:
        resumed.before_step()
        assert resumed.drawn.tolist() == drawn


def test_a_test_has_all_sentences_whatever_was_drawn(small_clip, images, classnames):
    model, objective = trained(small_clip, classnames)
    model.eval()
    with torch.no_grad():
        before = model(images)
        objective.before_step()
        objective.loss(model, [images], LABELS)
        assert torch.equal(model(images), before)


@pytest.mark.parametrize("number, parts", [(2, (0, 0, 2)), (4, (1, 1, 2)), (7, (1, 1, 5)), (32, (8, 8, 16))])
def test_a_quarter_of_the_sentences_has_the_name_in_front_and_one_in_the_middle(small_clip, number, parts):
    positions = make(small_clip, "ProDA", number=number, length=2).positions
    assert positions == ("front",) * parts[0] + ("middle",) * parts[1] + ("end",) * parts[2]


@pytest.mark.parametrize("trainer", ["BMIP", "CoOp", "CoCoOp"])
def test_a_learner_with_one_sentence_is_refused(run_train, trainer):
    run = run_train(trainer=trainer, options=["TRAINER.OBJECTIVE", "prompt_distribution"])
    assert_refused(
        run, ["TRAINER.OBJECTIVE", "'prompt_distribution'", "no other prompts than those of ProDA", "(--trainer)"]
    )


def test_a_file_of_the_authors_tells_its_settings_and_is_evaluated(run_train, tmp_path, small_clip):
    learner = make(small_clip, "ProDA", number=5, length=3)
    state = {"prompt_learner.ctx": learner.text_prompts["0"].detach()}
    for name in ("token_prefix", "token_suffix", "nc_token_prefix", "nc_token_suffix"):
        state[f"prompt_learner.{name}"] = torch.randn(5, 1, 64)
    method = METHODS["ProDA"]
    translated, left_out = method.layout.translate(state)
    assert method.told(translated) == dict(length=3, number=5) and sum(left_out.values()) == 4
    assert translated.keys() == learner.state_dict().keys()

    write_run(tmp_path / "theirs", "ProDA", state)
    torch.save(small_clip.state_dict(), tmp_path / "clip.pt")
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer="ProDA",
        options=[
            *("MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt")),
            *("TRAINER.ProDA.N_PROMPT", "5", "TRAINER.ProDA.N_CTX", "3"),
        ],
    )
    assert run.status == 0, run.errors
