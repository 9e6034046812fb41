"""Our methods compute what their authors' code computes: start, logits, loss, gradients, averages, and checkpoints.

`comparison.py` says how, and how to add a method. Methods whose repository no environment variable names are skipped.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator

import pytest
import torch
from comparison import LABELS, LIMITS, RATE, Case, all_cases, build, difference, mean_difference, theirs, views
from conftest import CLASSNAMES
from helpers.published import write_run
from helpers.upstream import root

from trainers.prompting.checkpoints.checks import check_backbone
from trainers.prompting.core.class_tokens import tokenize_classes
from trainers.prompting.core.prompted_clip import AUTOMATIC
from trainers.prompting.core.templates import EIGHTY, SIXTY
from trainers.prompting.methods import METHODS
from trainers.prompting.objectives.descriptions import PUBLISHED_NAMES, describe

# A gate has one number, a sum of many that nearly cancel out: where most do, ours is 3e-5 of it off the same sum in
# double precision, and theirs 8e-5.
GATES = {"none": 2e-4, "fp16": 1e-1}
FAINT = 1e-4  # of gradients
DRAWN = 0.5
# Of linear layers that start as copies of one, the first.
COPIES = {"text_to_vision": 1, "text_maps": 0, "vision_maps": 0}

ZERO_SHOT = [case for case in all_cases() if not case.keys]
RUNS = [case for case in all_cases() if case.epochs]
STEPS = [case for case in all_cases() if case.keys and not case.epochs]
EXACT = [case for case in STEPS if case.casts == "none"]
ONE_EACH = list({case.trainer: case for case in reversed(EXACT)}.values())


@pytest.fixture
def as_theirs(monkeypatch, case) -> None:
    """Our code without its intended differences, and with their draws."""
    monkeypatch.setattr("random.random", lambda: DRAWN)
    for target, value in case.patches.items():
        monkeypatch.setattr(target, value)


@pytest.fixture(scope="module")
def report() -> Iterator:
    """Call to note differences, of which the largest are printed at the end."""
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def note(case: Case, found: dict[str, list[tuple[float, float]]]) -> None:
        row = rows.setdefault(f"{case.checkout} | {case.casts} | {case.trainer}", {})
        for what, pairs in found.items():
            row.setdefault(what, []).extend(pairs)

    yield note
    print("\nLargest differences from upstream: absolute, and in proportion to the largest value of the tensor")
    for name, row in rows.items():
        cells = [
            f"{what} {max(x for x, _ in pairs):.1e} ({max(y for _, y in pairs):.1e})"
            for what, pairs in row.items()
            if pairs
        ]
        print(f"{name}: {', '.join(cells)}")


# All classes at once, as so few are by default, and in three groups, two of which are recomputed for the gradient.
@pytest.mark.parametrize("class_chunk", [AUTOMATIC, 2], ids=["at once", "in groups"])
@pytest.mark.parametrize("case", STEPS, ids=str)
@pytest.mark.usefixtures("as_theirs")
def test_a_checkpoint_of_theirs_gives_the_logits_loss_and_gradients_of_their_training_step(report, case, class_chunk):
    given = theirs(case)
    model, objective = build(case)
    learner, model.class_chunk = model.learner, class_chunk
    assert given["name"] == case.method.folder
    check_backbone(given["state_dict"], model.clip_model, "this CLIP")
    learner.load_state_dict(case.translate(given["state_dict"], learner))
    objective.prepare(model, CLASSNAMES)
    objective.before_step()
    if case.tests_apart:
        with torch.no_grad():
            tested = model(views()[0])
    loss, logits, terms = found = objective.loss(model, views(), LABELS)
    objective.backward(found, list(learner.parameters()), lambda loss: loss)

    of_values, of_gradients, of_means = case.limits or LIMITS[case.casts]
    others = list(given["outputs"])
    expected_logits = others.pop(case.logits)
    # Cosines of random features spread by the square root of their width.
    spread = expected_logits.float().std(dim=1).min() * model.clip_model.text_projection.shape[1] ** 0.5
    # Frozen features, which make up half of mixed ones, are alike.
    least = 0.03 if objective.mixes_features else 0.07
    assert spread > least * 128**0.5, "too alike to tell a difference"
    found = {
        "logits": [difference(tested if case.tests_apart else logits, expected_logits)],
        "loss": [difference(loss, torch.tensor(given["loss"]))],
        "terms": [difference(terms[name], w * other) for (name, w), other in zip(case.terms.items(), others)],
    }
    regularised = loss > (1 + 10 * of_values) * torch.nn.functional.cross_entropy(logits, LABELS)
    assert regularised == case.regularised, "the objective makes no difference"
    assert {what: pairs for what, pairs in found.items() if any(y > of_values for _, y in pairs)} == {}

    expected = case.translate(given["gradients"], learner)
    ours = {name: parameter.grad for name, parameter in learner.named_parameters() if parameter.requires_grad}
    assert ours.keys() == expected.keys()
    # Gates of the text tower read nothing in BMIP's released code, so that their scales have no gradient at all.
    silent = {name for name, gradient in expected.items() if not gradient.abs().max()}
    assert all(name.startswith("text_gate") and name.endswith("weight") for name in silent)
    assert all(not ours.pop(name).abs().max() for name in silent)
    faint = {name for name in ours if expected[name].abs().max() <= FAINT}
    assert case.faint or not faint, "too small to tell a difference"
    if case.casts == "fp16":
        ours = {name: gradient for name, gradient in ours.items() if name not in faint}
        assert len(ours) > len(expected) / 2
    gradients = {name: difference(gradient, expected[name]) for name, gradient in ours.items()}
    means = {name: mean_difference(gradient, expected[name]) for name, gradient in ours.items()}
    report(case, {**found, "gradients": gradients.values(), "mean of one": [(0.0, max(means.values()))]})
    for limit, relative in ((of_gradients, {name: y for name, (_, y) in gradients.items()}), (of_means, means)):
        beyond = {n: value for n, value in relative.items() if value > (GATES[case.casts] if "gate" in n else limit)}
        assert beyond == {}


@pytest.mark.parametrize("case", RUNS, ids=str)
@pytest.mark.usefixtures("as_theirs")
def test_training_ends_in_their_average_over_the_epochs(report, case):
    given = theirs(case)
    model, objective = build(case)
    learner = model.learner
    learner.load_state_dict(case.translate(given["state_dict"], learner))
    optimiser = torch.optim.SGD(learner.parameters(), lr=RATE)
    objective.prepare(model, CLASSNAMES)
    for epoch in range(1, case.epochs + 1):
        for rows in (slice(0, 2), slice(2, 4)):
            optimiser.zero_grad()
            objective.before_step()
            objective.loss(model, [view[rows] for view in views()], LABELS[rows]).total.backward()
            optimiser.step()
        last = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
        objective.end_epoch(learner, epoch)
    expected = case.translate(given["end"], learner)
    found = {name: difference(parameter, expected[name]) for name, parameter in learner.named_parameters()}
    report(case, {"average": found.values()})
    assert {name: relative for name, (_, relative) in found.items() if relative >= 1e-5} == {}
    of_last = [difference(tensor, expected[name])[1] for name, tensor in last.items()]
    assert max(of_last) > 1e-3, "the average is not to be told from the last epoch"


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_training_starts_from_the_same_words_or_the_same_distribution(case):
    learner = build(case)[0].learner
    ours, given = learner.state_dict(), case.translate(theirs(case)["start"], learner)
    assert {name: tensor.shape for name, tensor in ours.items()} == {k: v.shape for k, v in given.items()}
    for name, tensor in ours.items():
        if name == "text_prompts.0" and case.from_words:
            assert torch.equal(tensor, given[name])
        elif tensor.numel() >= 500:
            # Both are samples, whose deviations scatter by 1 / sqrt(2 n).
            scatter = 6 / (2 * tensor.numel()) ** 0.5
            assert tensor.std().item() == pytest.approx(given[name].std().item(), rel=scatter), name
            assert tensor.abs().max().item() == pytest.approx(given[name].abs().max().item(), rel=0.4), name
    for name in ours:
        head, *rest = name.split(".")
        if head in COPIES and rest[0].isdigit() and int(rest[0]) >= COPIES[head]:
            copied = ".".join([head, str(COPIES[head]), *rest[1:]])
            assert torch.equal(ours[name], ours[copied]) and torch.equal(given[name], given[copied])


@pytest.mark.parametrize("case", ZERO_SHOT, ids=str)
def test_zero_shot_clip_has_their_text_features_and_logits(report, case):
    given = theirs(case)
    model, _ = build(case)
    with torch.no_grad():
        features, logits = model.class_features(), model(views()[0])
    found = {
        "logits": [difference(logits, given["outputs"][0])],
        "features": [difference(features, given["text_features"])],
    }
    report(case, found)
    assert max(relative for ((_, relative),) in found.values()) < LIMITS[case.casts][0]


@pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.trainer)
def test_a_file_that_their_code_saved_is_evaluated_by_its_prompts_alone(run_train, tmp_path, case):
    given = theirs(case)
    state = {key: value.contiguous() for key, value in given["state_dict"].items()}
    of_folder = {method.folder: trainer for trainer, method in METHODS.items()}
    write_run(tmp_path / "theirs", of_folder[given["name"]], state)
    torch.save(case.clip_model.state_dict(), tmp_path / "clip.pt")
    keys = {"MODEL.BACKBONE.NAME": tmp_path / "clip.pt", **case.keys, **case.ours}
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer=case.trainer,
        options=[str(word) for pair in keys.items() for word in pair],
    )
    assert run.status == 0, run.errors
    assert 0 <= run.result["accuracy"] <= 100
    taken, left_out = case.method.layout.translate_for(state, build(case)[0].learner)
    assert f"{len(taken)} tensors of it are taken" in run.output
    assert all(f"{number} are left out: {reason}" in run.output for reason, number in left_out.items())
    assert sum(left_out.values()) == len(state) - len(taken)
    teachers = sum("ZS_image_encoder" in key or "model_distill" in key for key in state)
    assert (f"{teachers} are left out: the frozen teacher" in run.output) is (teachers > 0)


# ----------------------------------------------------------------------------------- sentences of single methods


@pytest.mark.parametrize("checkout, ours", [("PromptSRC", SIXTY), ("BMIP", EIGHTY)])
def test_the_teachers_sentences_are_promptsrcs_and_those_of_bmips_authors(checkout, ours):
    names = runpy.run_path(str(root(checkout) / "trainers" / "imagenet_templates.py"))
    assert sorted(ours) == sorted(names["IMAGENET_TEMPLATES"])


def test_kgcoops_sentence_of_textures_is_ours_alone():
    (case,) = (case for case in EXACT if (case.trainer, case.dataset) == ("KgCoOp", "DescribableTextures"))
    given = theirs(case)
    model, objective = build(case)
    model.learner.load_state_dict(case.translate(given["state_dict"], model.learner))
    objective.prepare(model, CLASSNAMES)
    objective.before_step()
    term = objective.loss(model, views(), LABELS).terms["loss_text"]
    expected = case.terms["loss_text"] * given["outputs"][1]
    assert abs(term - expected) > 1e-3 * expected


@pytest.mark.parametrize("case", [case for case in EXACT if case.checkout == "MMRL"], ids=str)
def test_other_classes_than_the_trainings_are_tested_by_the_first_of_mmrls_logits(case):
    given = theirs(case)
    model = build(case)[0].eval()
    model.learner.load_state_dict(case.translate(given["state_dict"], model.learner))
    model.learned = torch.zeros(len(CLASSNAMES), dtype=torch.bool)
    with torch.no_grad():
        found = difference(model(views()[0]), given["outputs"][0])
    assert found[1] < LIMITS["none"][0]
    assert difference(given["outputs"][0], given["outputs"][case.logits])[1] > 0.01


def test_the_cases_of_prograd_have_gradients_that_are_projected_and_others_that_are_not():
    kinds = set()
    for case in (case for case in EXACT if case.trainer == "ProGrad"):
        model, objective = build(case)
        learner = model.learner
        learner.load_state_dict(case.translate(theirs(case)["state_dict"], learner))
        objective.prepare(model, CLASSNAMES)
        found = objective.loss(model, views(), LABELS)
        (plain,) = torch.autograd.grad(found.total, list(learner.parameters()), retain_graph=True)
        objective.backward(found, list(learner.parameters()), lambda loss: loss)
        (parameter,) = learner.parameters()
        kinds.add(torch.equal(parameter.grad, plain))
    assert kinds == {True, False}


def test_every_published_file_of_descriptions_is_found_by_its_data_set_and_fits(capsys):
    folder = root("CoPrompt") / "gpt_file"
    found = {}
    for dataset, name in PUBLISHED_NAMES.items():
        file = folder / f"{name}_prompt.json"
        if file.is_file():
            found[dataset] = classnames = list(json.loads(file.read_text()))
            described = describe(dataset, str(folder), [name.replace(" ", "_") for name in classnames])
            assert str(file) in capsys.readouterr().out and len({len(sentences) for sentences in described}) == 1
            longest = max((sentence for sentences in described for sentence in sentences), key=len)
            tokenize_classes([longest], ("{}",), 77)
    # The others stand on the authors' list, but not in their repository.
    assert set(PUBLISHED_NAMES) - set(found) == {"ImageNet", "ImageNetA", "ImageNetR", "ImageNetSketch", "ImageNetV2"}
    assert {"Annual Crop Land", "Sea or Lake"} <= set(found["EuroSAT"]) and len(found["SUN397"]) == 397
