"""HiCroPL: the flow as the paper has it and as its authors released it, their files, and features that are mixed."""

from __future__ import annotations

import pytest
import torch
from helpers.learners import TOLERANCE, by_layer, make, new_learner, refined
from helpers.objectives import anchoring, prepared
from helpers.published import write_run
from helpers.runs import assert_refused

from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.methods import METHODS

RELEASED = dict(variant="released", depth=3, cross=2)


def prompts(learner) -> list[dict[int, torch.Tensor]]:
    groups = by_layer(learner.text_prompts), by_layer(learner.vision_prompts)
    return [{layer: prompt.detach().clone() for layer, prompt in group.items()} for group in groups]


def assert_same(found, expected) -> None:
    for ours, theirs in zip(found, expected):
        for layer in ours:
            torch.testing.assert_close(ours[layer], theirs[layer], **TOLERANCE)


@pytest.mark.parametrize("gradients", [True, False], ids=["training", "test"])
def test_as_released_every_pass_refines_the_prompts_once_more(small_clip, images, classnames, gradients):
    learner = make(small_clip, "HiCroPL", **RELEASED)
    model = PromptedCLIP(small_clip, learner, classnames)
    results = []
    for _ in range(3):
        expected = [{layer: prompt.detach() for layer, prompt in group.items()} for group in refined(learner)]
        with torch.set_grad_enabled(gradients):
            results.append(model(images).detach())
        assert_same(prompts(learner), expected)
    assert not torch.allclose(results[0], results[1]) and not torch.allclose(results[1], results[2])
    assert not learner.recordable


def test_as_in_the_paper_a_pass_changes_nothing(small_clip, images, classnames):
    learner = make(small_clip, "HiCroPL", depth=3, cross=2)
    model, before = PromptedCLIP(small_clip, learner, classnames), prompts(learner)
    assert torch.equal(model(images), model(images)) and learner.recordable
    assert_same(prompts(learner), before)


def test_as_released_only_prompts_train(small_clip):
    trained = {
        variant: {name.split(".")[0] for name, p in start(small_clip, variant).named_parameters() if p.requires_grad}
        for variant in ("paper", "released")
    }
    assert trained["released"] == {"text_prompts", "vision_prompts"}
    assert trained["paper"] - trained["released"] == {
        *("text_proxies", "vision_proxies", "text_to_vision", "vision_to_text")
    }


def start(clip_model, variant: str = "paper"):
    torch.manual_seed(0)
    return new_learner(clip_model, "HiCroPL", depth=3, cross=1, variant=variant)


def test_vision_prompts_and_proxies_start_as_copies_of_one(small_clip):
    learner = start(small_clip)
    first, *others = learner.vision_prompts.values()
    assert all(torch.equal(first, other) for other in others)
    one, other = (dict(proxy.named_parameters()) for proxy in learner.vision_proxies)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(learner.text_prompts["1"], learner.text_prompts["2"])


@pytest.mark.parametrize("depth, cross", [(3, 3), (2, 6)])
def test_a_flow_in_one_direction_alone_is_refused(small_clip, depth, cross):
    with pytest.raises(InputError, match=f"{cross} and .*is {depth}, which leaves no layer"):
        new_learner(small_clip, "HiCroPL", depth=depth, cross=cross)


# ------------------------------------------------------------------------------------------------ the authors' files


def published(learner) -> dict[str, torch.Tensor]:
    """What the authors' trainer saves for these tensors, in its types."""
    state = {
        "prompt_learner.token_prefix": torch.randn(5, 1, 64).half(),
        "prompt_learner.token_suffix": torch.randn(5, 74, 64).half(),
        "prompt_learner.ZS_image_encoder.class_embedding": torch.zeros(128),
        "logit_scale": torch.zeros(()),
    }
    heads = {
        "text_prompts": "cross_prompts_text",
        "vision_prompts": "cross_prompts_visual",
        "text_to_vision": "text2visual_net",
        "vision_to_text": "visual2text_net",
    }
    for name, value in learner.state_dict().items():
        head, rest = name.split(".", 1)
        if head.endswith("proxies"):
            modality = {"text": "text", "vision": "visual"}[head.split("_")[0]]
            kind = f"{modality}_proxy_token" if rest.endswith("token") else f"attn_pooling_{modality}_nets"
            name = f"{kind}.{rest.removesuffix('.token')}"
        else:
            name = f"{heads[head]}.{rest}"
        state[f"prompt_learner.{name}"] = value.half()
    return {**state, "prompt_learner.ctx": state["prompt_learner.cross_prompts_text.0"]}


def test_a_file_of_the_authors_tells_its_settings_and_loads_into_the_released_variant(small_clip):
    method, learner = METHODS["HiCroPL"], make(small_clip, "HiCroPL", length=3, depth=3, cross=1)
    state = published(learner)
    assert method.layout.matches(state) and method.layout.implies == {"variant": "released"}
    translated, left_out = method.layout.translate(state)
    assert method.told(translated) == dict(length=3, depth=3, cross=1)
    assert translated.keys() == learner.state_dict().keys() and sum(left_out.values()) == 5
    for name, value in learner.state_dict().items():
        assert torch.equal(translated[name], value.half().float())


def test_a_file_of_the_authors_is_evaluated(run_train, tmp_path, small_clip):
    write_run(tmp_path / "theirs", "HiCroPL", published(make(small_clip, "HiCroPL", depth=3, cross=1)))
    torch.save(small_clip.state_dict(), tmp_path / "clip.pt")
    keys = {"VARIANT": "released", "PROMPT_DEPTH": "3", "CROSS_LAYER": "1"}
    options = [word for key, value in keys.items() for word in (f"TRAINER.HICROPL.{key}", value)]
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer="HiCroPL",
        options=["MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt"), *options],
    )
    assert run.status == 0, run.errors
    assert "1 are left out: the first text prompts once more" in run.output


# ------------------------------------------------------------------------------------------------ mixed features


def test_tests_classify_by_mixed_features_too(small_clip, images, classnames):
    learner = make(small_clip, "IVLP", text_depth=2, vision_depth=2)
    alone = PromptedCLIP(small_clip, learner, classnames)
    with torch.no_grad():
        features, frozen = alone.features(images), alone.frozen_features(images)
        model = prepared(small_clip, learner, classnames, anchoring()).eval()
        mixed = model.features(images)
    for found, own, added in zip(mixed, features, (frozen, model.class_anchors())):
        torch.testing.assert_close(found, torch.nn.functional.normalize(own + added, dim=-1))


def test_other_classes_have_anchors_of_their_own(small_clip, classnames):
    model = prepared(small_clip, make(small_clip, "CoOp", length=2), classnames, objective := anchoring())
    before = model.class_anchors()
    objective.describe = lambda names: [[f"{name}, as it is."] for name in names]
    model.set_classes(classnames[::-1])
    assert model.class_anchors().shape == before.shape and not torch.equal(model.class_anchors(), before.flip(0))


ANCHORED = ["TRAINER.OBJECTIVE", "anchoring", "TEST.NO_TEST", "True"]


@pytest.mark.parametrize("trained, tested", [(ANCHORED, []), (["TEST.NO_TEST", "True"], ANCHORED[:2])], ids=str)
def test_a_test_needs_the_mixing_of_the_training(run_train, tmp_path, trained, tested):
    run = run_train(trainer="MaPLe", folder=tmp_path / "run", options=trained)
    assert run.status == 0, run.errors
    flags = ("--eval-only", "--model-dir", str(run.folder))
    again = run_train(*flags, trainer="MaPLe", folder=tmp_path / "eval", options=tested)
    assert_refused(again, ["TRAINER.OBJECTIVE", "anchoring", "other settings"])


@pytest.mark.parametrize(
    "trainer, options, words",
    [
        ("HiCroPL", [], "method is 'HiCroPL', which is trained by anchoring.*train with train.py"),
        ("MaPLe", ANCHORED[:2], "trained by anchoring, which mixes features.*test them with train.py"),
    ],
)
def test_a_classifier_without_mixing_refuses_what_needs_it(run_train, trainer, options, words):
    run = run_train(trainer=trainer, options=options)
    with pytest.raises(InputError, match=words):
        PromptClassifier.load(run.folder)
