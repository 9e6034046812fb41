"""DeCoOp: its detectors, their threshold, the routing of images, and the two stages of its training."""

from __future__ import annotations

import math

import naive_methods
import naive_objectives as naive
import pytest
import torch
from conftest import CLASSNAMES, make_clip
from helpers.runs import assert_refused, saved
from torch import Tensor

import train
from trainers.base import TRAINER_REGISTRY
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import SELECTED
from trainers.prompting.errors import InputError
from trainers.prompting.learners.decoop import DeCoOpConfig, DeCoOpLearner, divisions, membership
from trainers.prompting.methods import METHODS
from trainers.prompting.objectives.decomposition import Decomposition, DecompositionConfig, otsu
from trainers.prompting.objectives.objective import RunFacts

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
BASE = CLASSNAMES[:4]
NEW = ["sun", "old oak", "bridge"]
LABELS = torch.tensor([0, 3, 1, 2])


@pytest.fixture
def learner(small_clip) -> DeCoOpLearner:
    torch.manual_seed(2)
    made = DeCoOpLearner(DeCoOpConfig(length=3), small_clip)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.4)
    return made


def contexts(learner: DeCoOpLearner) -> tuple[list[Tensor], list[Tensor]]:
    return tuple([one.text_prompts["0"] for one in kind] for kind in (learner.detectors, learner.classifiers))


# ------------------------------------------------------------------------------------------------ the routing


TESTED = {"base": BASE, "new": NEW, "open world": [*BASE, *NEW], "some of both": ["sun", *BASE[1:3]]}


@pytest.mark.parametrize("tested", TESTED.values(), ids=TESTED)
def test_images_are_routed_as_the_equations_say_among(small_clip, learner, images, tested):
    parts = naive_methods.decoop_parts(small_clip, images, tested, BASE, *contexts(learner), SELECTED)
    scores = sorted(score.item() for of_image, *_ in parts for score in of_image)
    learner.set_base(BASE)
    model, numbers = PromptedCLIP(small_clip, learner, tested), set()
    # Between each two scores, so that every number of detectors accepts some image.
    for low, high in zip([0.0, *scores], [*scores, 1.0]):
        learner.threshold.fill_((low + high) / 2)
        slow = naive_methods.decoop_logits(parts, (low + high) / 2)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(model(images), slow, **TOLERANCE)
        numbers |= {sum(score >= learner.threshold for score in of_image).item() for of_image, *_ in parts}
    assert numbers == {0, 1, 2, 3}


def test_an_image_at_the_threshold_is_accepted(small_clip, learner, images):
    learner.set_base(BASE)
    model = PromptedCLIP(small_clip, learner, BASE + NEW).eval()
    image_features, class_features = model.features(images[:1])
    number, tested = len(learner.detectors), len(model.classnames)
    logits = model.logits_of(image_features, class_features)[:, : -(number + 1) * tested]
    highest = membership(logits.unflatten(1, (number, -1)), model.router.own_number).max()
    found = []
    for threshold in (highest, torch.nextafter(highest, torch.tensor(2.0))):
        learner.threshold.fill_(threshold.item())
        found.append(model.logits(image_features, class_features))
    assert not torch.allclose(*found)


def test_before_training_the_classes_that_are_classified_stand_for_the_base_classes(small_clip, learner, images):
    unknown = PromptedCLIP(small_clip, learner, BASE)(images)
    learner.set_base(BASE)
    assert torch.equal(unknown, PromptedCLIP(small_clip, learner, BASE)(images))


def test_a_model_that_learns_its_base_classes_later_encodes_them_then(small_clip, learner, images):
    learner.threshold.fill_(0.34)  # of three classes or of seven
    model = PromptedCLIP(small_clip, learner, NEW).eval()
    with torch.no_grad():
        before = model(images)
        trained = DeCoOpLearner(DeCoOpConfig(length=3), small_clip)
        trained.load_state_dict(learner.state_dict())
        trained.set_base(BASE)
        learner.load_state_dict(trained.state_dict())
        after, fresh = model(images), PromptedCLIP(small_clip, trained, NEW)(images)
    assert learner.base == BASE
    assert torch.equal(after, fresh) and not torch.equal(before, after)


def test_classes_of_one_name_are_allowed_as_imagenet_has_them(small_clip, learner, images):
    names = ["sunglasses", "cat", "sunglasses", "dog"]
    learner.set_base(names)
    logits = PromptedCLIP(small_clip, learner, [*names, "sun"])(images)
    assert logits.shape == (4, 5) and torch.equal(logits[:, 0], logits[:, 2])


@pytest.mark.parametrize(
    "number, parts, own",
    [
        (5, 3, [[1, 2, 4, 0], [0, 2, 3, 1], [0, 1, 3, 4]]),
        (6, 3, [[1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 3, 4]]),
        (4, 2, [[1, 3], [0, 2]]),
        (2, 3, [[1, 0], [0, 1], [0, 1]]),
        (1, 3, [[0], [0], [0]]),
    ],
)
def test_every_detector_has_as_many_own_classes(number, parts, own):
    assert divisions(number, parts) == own


# ------------------------------------------------------------------------------------------------ the losses


def prepared(clip_model, learner, images, epochs: int = 9, **settings) -> tuple[PromptedCLIP, Decomposition]:
    model = PromptedCLIP(clip_model, learner, BASE).train()
    objective = Decomposition(DecompositionConfig(**settings), RunFacts(epochs=epochs))
    objective.training_images = lambda: [images[:1], images[1:]]
    objective.prepare(model, BASE)
    return model, objective


def rows(clip_model, images, context: Tensor, names: list[str]) -> list[list[Tensor]]:
    features, classes = naive_methods.coop_features(clip_model, images, names, [context] * len(names))
    units = [[naive.unit(one) for one in kind] for kind in (features, classes)]
    return naive.logits(clip_model.logit_scale.exp(), *units)


def assert_terms_and_gradients(found, slow: dict[str, Tensor], parameters: list[Tensor]) -> None:
    assert found.terms.keys() == slow.keys()
    for name, value in slow.items():
        assert value > 1e-3, f"{name} is too small to be compared"
        torch.testing.assert_close(found.terms[name], value, **TOLERANCE)
    torch.testing.assert_close(found.total, sum(slow.values()), **TOLERANCE)
    pairs = (torch.autograd.grad(total, parameters) for total in (found.total, sum(slow.values())))
    for fast, reference in zip(*pairs):
        assert reference.abs().max() > 1e-4
        torch.testing.assert_close(fast, reference, **TOLERANCE)


def test_detectors_learn_by_their_equations(small_clip, learner, images):
    model, objective = prepared(small_clip, learner, images, margin=0.7)
    objective.before_step()
    found = objective.loss(model, [images], LABELS)
    terms, detectors = [], contexts(learner)[0]
    for i, context in enumerate(detectors):
        own = [1, 2] if i == 0 else [0, 2, 3] if i == 1 else [0, 1, 3]
        own += [0] * (i == 0)  # the third that the others have; images of class 0 stay foreign
        places = [own.index(label) if label % 3 != i else None for label in LABELS.tolist()]
        terms.append(naive.detector_terms(rows(small_clip, images, context, [BASE[j] for j in own]), places, 0.7))
    first, second = (sum(values) / 3 for values in zip(*terms))
    assert_terms_and_gradients(found, {"loss_ce": first, "loss_margin": second}, detectors)
    assert found.logits.shape == (4, 4) and not found.logits.requires_grad


@pytest.mark.parametrize("labels", [[1, 1, 2, 2], [0, 0, 3, 3]], ids=["all own", "all foreign"])
def test_a_batch_of_one_kind_has_no_margin(small_clip, learner, images, labels):
    model, objective = prepared(small_clip, learner, images, margin=5.0)
    objective.before_step()
    found = objective.loss(model, [images], torch.tensor(labels))
    found.total.backward()
    # Of class 0's detector; the two others see both kinds.
    terms = [
        naive.detector_terms(rows(small_clip, images, context, [BASE[j] for j in own]), places, 5.0)
        for context, own, places in zip(
            contexts(learner)[0],
            ([1, 2, 0], [0, 2, 3], [0, 1, 3]),
            [
                [own.index(one) if one % 3 != i else None for one in labels]
                for i, own in enumerate(([1, 2, 0], [0, 2, 3], [0, 1, 3]))
            ],
        )
    ]
    assert terms[0][1] == 0
    torch.testing.assert_close(found.terms["loss_margin"], sum(term for _, term in terms) / 3, **TOLERANCE)
    assert all(one.text_prompts["0"].grad.isfinite().all() for one in learner.detectors)


def test_sub_classifiers_learn_by_their_equations(small_clip, learner, images):
    model, objective = prepared(small_clip, learner, images)
    for epoch in (1, 2, 3):
        objective.end_epoch(learner, epoch)
    assert objective.stage == 1
    parts = naive_methods.decoop_parts(small_clip, images, BASE, BASE, *contexts(learner), SELECTED)
    of_detectors = list(zip(*([score.item() for score in scores] for scores, *_ in parts)))
    threshold = min(map(naive.otsu, of_detectors))
    assert learner.threshold.item() == pytest.approx(threshold, rel=1e-5)
    objective.before_step()
    found = objective.loss(model, [images], LABELS)
    teacher, terms, classifiers = [list(plain) for *_, plain in parts], [], contexts(learner)[1]
    for i, context in enumerate(classifiers):
        accepted = [scores[i] >= threshold for scores, *_ in parts]
        of_context = rows(small_clip, images, context, BASE)
        terms.append(naive.classifier_terms(of_context, teacher, accepted, LABELS.tolist()))
    first, second = (sum(values) / 3 for values in zip(*terms))
    assert_terms_and_gradients(found, {"loss_ce": first, "loss_kl": second}, classifiers)


@pytest.mark.parametrize("number", [2, 3, 40, 400])
@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_otsus(number, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(number, generator=generator) * 0.4
    scores[: number // 3] += 0.5
    assert otsu(scores) == pytest.approx(naive.otsu(scores.tolist()), rel=1e-6)


def test_equal_scores_are_their_own_threshold():
    assert otsu(torch.full((7,), 0.25)) == 0.25


# ------------------------------------------------------------------------------------------------ the stages


def factors(steps: int, **settings) -> list[float]:
    """By which the gradients are multiplied, over epochs of as many steps."""
    clip_model = make_clip()
    learner = DeCoOpLearner(DeCoOpConfig(length=2), clip_model)
    model, objective = prepared(clip_model, learner, torch.zeros(2, 3, 32, 32), epochs=6, **settings)
    found = []
    for epoch in range(1, 7):
        for _ in range(steps):
            objective.before_step()
            found.append(objective.rate.item())
        objective.end_epoch(learner, epoch)
    return found


def test_the_sub_classifiers_rate_falls_with_steps_as_released_or_with_epochs():
    by_step, by_epoch = factors(3), factors(3, cosine="epoch")
    cosine = [0.5 + 0.5 * math.cos(math.pi * done / 4) for done in range(12)]
    assert by_step == pytest.approx([1.0] * 6 + cosine, abs=1e-6)
    assert by_epoch == pytest.approx([1.0] * 6 + [value for value in cosine[:4] for _ in range(3)], abs=1e-6)
    assert factors(1, detector_epochs=5)[:5] == [1.0] * 5


def test_each_stage_trains_its_own_contexts_and_the_threshold_is_of_all_training_images(run_train, tmp_path):
    options = ["OPTIM.MAX_EPOCH", "3", "OPTIM.LR", "0.1", "TRAIN.CHECKPOINT_FREQ", "1", "DATASET.NUM_SHOTS", "5"]
    # Batches of 4 of 25 images: one is left out of each epoch, but not of the threshold.
    run = run_train(trainer="DeCoOp", options=options)
    assert run.status == 0, run.errors
    states = [saved(run, epoch)["state_dict"] for epoch in (1, 2, 3)]
    for earlier, later, kind in ((0, 1, "classifiers"), (1, 2, "classifiers")):
        moved = {key for key in states[0] if not torch.equal(states[earlier][key], states[later][key])}
        assert moved == {key for key in states[0] if key.startswith(kind)}
    assert "loss_margin" in run.output and "loss_kl" in run.output
    assert 0 < states[0]["threshold"] < 1
    (line,) = (line for line in run.output.splitlines() if "from a probability of" in line)
    assert f"{states[0]['threshold'].item():.4f}" in line
    seen = []
    trainer = TRAINER_REGISTRY.get("DeCoOp")
    with pytest.MonkeyPatch.context() as patch:
        own = trainer._training_images
        patch.setattr(trainer, "_training_images", lambda self: [seen.append(x) or x for x in own(self)])
        assert run_train(trainer="DeCoOp", folder=tmp_path / "again", options=options).status == 0
    assert sum(map(len, seen)) == 25
    assert torch.equal(saved(run, 3)["state_dict"]["threshold"], states[0]["threshold"])


def test_new_and_all_classes_are_tested_with_the_base_classes_of_the_checkpoint(run_train, tmp_path):
    run = run_train(trainer="DeCoOp", options=["OPTIM.LR", "0.1"])
    names = bytes(saved(run, 2)["state_dict"]["base_names"].tolist()).decode().split("\n")
    assert names == [entry["name"] for entry in run.result["per_class"]] and len(names) == 5
    (run.folder / "result.json").unlink()  # which names them, too
    results = {}
    for classes in ("base", "new", "all"):
        flags = ("--eval-only", "--model-dir", str(run.folder))
        options = ["DATASET.SUBSAMPLE_CLASSES", classes]
        tested = run_train(*flags, trainer="DeCoOp", folder=tmp_path / classes, options=options)
        assert tested.status == 0, tested.errors
        results[classes] = tested.result
    # The same detectors see the same classes in both.
    assert results["new"]["accuracy"] == pytest.approx(results["all"]["open_world"]["new"])
    assert results["all"]["open_world"]["accuracy"] == pytest.approx(results["all"]["accuracy"])


# ------------------------------------------------------------------------------------------------ what is refused


def test_detectors_that_take_all_epochs_are_refused(run_train):
    run = run_train(trainer="DeCoOp", options=["TRAINER.DECOOP.DETECTOR_EPOCHS", "2"])
    assert_refused(run, ["TRAINER.DECOOP.DETECTOR_EPOCHS is 2", "OPTIM.MAX_EPOCH", "a third"])


@pytest.mark.parametrize("trainer", ["BMIP", "CoOp"])
def test_other_prompts_are_not_trained_as_decoops(run_train, trainer):
    run = run_train(trainer=trainer, options=["TRAINER.OBJECTIVE", "decomposition"])
    assert_refused(run, ["TRAINER.OBJECTIVE is 'decomposition'", "than those of DeCoOp", "choose that trainer"])


@pytest.mark.parametrize("objective", ["cross_entropy", "self_regulation"])
def test_its_prompts_are_not_trained_by_another_objective(run_train, objective):
    run = run_train(trainer="DeCoOp", options=["TRAINER.OBJECTIVE", objective])
    assert_refused(
        run, ["TRAINER.OBJECTIVE", objective, "DeCoOp (--trainer) stands for decomposition", "leave the key"]
    )


def test_a_single_feature_of_a_class_is_refused(small_clip, learner):
    with pytest.raises(TypeError, match="no single features"):
        PromptedCLIP(small_clip, learner, BASE).encode_text()


def test_a_threshold_and_lengths_are_told_by_a_checkpoint(small_clip, learner):
    assert METHODS["DeCoOp"].told(learner.state_dict()) == {"length": 3, "number": 3}
    assert METHODS["DeCoOp"].told({}) == {"length": 0, "number": 0}
    with pytest.raises(InputError, match="number"):
        DeCoOpConfig(number=1)


def test_a_summary_tells_what_a_test_costs(capsys):
    flags = ["--trainer", "DeCoOp", "--dataset-config-file", "configs/datasets/digits.yaml", "--backbone", "tiny"]
    assert train.main([*flags, "--summary", "TRAINER.DECOOP.K", "4"]) == 0
    printed = capsys.readouterr().out
    assert "each image once" in printed and "4 times for the detectors" in printed and "7 times" in printed
    assert sum(line.startswith(("detectors.", "classifiers.")) for line in printed.splitlines()) == 8
