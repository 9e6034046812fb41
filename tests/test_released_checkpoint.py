"""A checkpoint in the authors' layout loads into `released`: same logits, nothing executed, mismatches explained."""

from __future__ import annotations

import pytest
import torch
from conftest import make_clip
from naive_bmip import naive_logits
from test_bmip_equals_naive import make_learner, naive_parameters

from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.errors import InputError
from trainers.prompting.learners.bmip import LAYOUT, BMIPConfig, BMIPLearner


def released_layout(learner: BMIPLearner, clip_model) -> dict[str, torch.Tensor]:
    """What the authors' trainer saves for these tensors, with those that take no part, in their types."""
    depth, share = learner.config.depth, learner.config.share_text
    width, vision_width = 64, 128
    state = {
        "prompt_learner.ctx_t": learner.text_prompts["0"].half(),
        "prompt_learner.ctx_v": torch.randn(77, vision_width),
        "prompt_learner.token_prefix": torch.randn(5, 1, width),
        "prompt_learner.token_suffix": torch.randn(5, 74, width),
        "logit_scale": clip_model.logit_scale,
    }
    linear = {"proj_t": learner.text_to_vision["0"], "proj_v": torch.nn.Linear(vision_width, width)}
    linear |= {"exchange_layer_t": torch.nn.Linear(2 * width, width)}
    for layer in range(1, depth):
        state[f"prompt_learner.compound_prompts_text.{layer - 1}"] = learner.text_prompts[str(layer)]
        state[f"prompt_learner.compound_prompts_visual.{layer - 1}"] = learner.vision_prompts[str(layer)]
        if share:
            linear["single_layer_t"] = learner.text_to_vision["deep"]
            linear["single_layer_v"] = learner.vision_to_text["deep"]
        else:
            unused = torch.nn.Linear(vision_width, width)
            heads = dict(learner.vision_to_text.items())
            linear[f"compound_prompt_projections_t.{layer - 1}"] = learner.text_to_vision[str(layer)]
            linear[f"compound_prompt_projections_v.{layer - 1}"] = heads.get(str(layer), unused)
    for name, module in linear.items():
        state |= {f"prompt_learner.{name}.{key}": value for key, value in module.state_dict().items()}
    for tower, acting, name in (
        ("image_encoder", learner.vision_gate, "learnable_linear1"),
        ("text_encoder", learner.text_gate, "learnable_linear2"),
    ):
        for layer in range(3):
            for linear_name in ("learnable_linear1", "learnable_linear2"):
                gate = acting[str(layer)] if linear_name == name and str(layer) in acting else torch.nn.Linear(1, 1)
                prefix = f"{tower}.transformer.resblocks.{layer}.{linear_name}"
                state |= {f"{prefix}.{key}": value for key, value in gate.state_dict().items()}
    return {key: value.detach().clone() for key, value in state.items()}


@pytest.mark.parametrize("share", [True, False])
def test_its_logits_are_those_of_its_tensors(small_clip, images, classnames, share):
    settings = dict(variant="released", depth=3, share_text=share, share_vision=share)
    source = make_learner(small_clip, **settings)
    source.load_state_dict({key: value.half().float() for key, value in source.state_dict().items()})
    target = BMIPLearner(BMIPConfig(**settings), small_clip)
    target.load_state_dict(LAYOUT.translate_for(released_layout(source, small_clip), target)[0])
    parameters = naive_parameters(source)
    expected = naive_logits(small_clip, images, classnames, parameters, depth=3, length=2, variant="released")
    logits = PromptedCLIP(small_clip, target, classnames)(images)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def write_run(folder, trained_on="tiny", depth=3):
    """A run folder as the authors' trainer leaves it, pickled scheduler object included."""
    clip_model = load_clip(trained_on)
    learner = make_learner(clip_model, variant="released", depth=depth)
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    checkpoint = {
        "state_dict": released_layout(learner, clip_model),
        "epoch": 10,
        "optimizer": optimiser.state_dict(),
        "scheduler": {"successor": schedule, "last_epoch": 1},
        "val_result": None,
    }
    (folder / "MultiModalPromptLearner").mkdir(parents=True)
    torch.save(checkpoint, folder / "MultiModalPromptLearner" / "model.pth.tar-10")
    return learner


def test_a_released_run_is_evaluated_by_the_command_line(run_train, tmp_path):
    write_run(tmp_path / "theirs")
    arguments = ["--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "10"]
    run = run_train(*arguments, options=["TRAINER.BMIP.VARIANT", "released"])
    assert run.status == 0, run.errors
    assert "authors' code" in run.output and 0 <= run.result["accuracy"] <= 100


@pytest.mark.parametrize(
    "options, words",
    [
        ((), ["TRAINER.BMIP.VARIANT", "paper", "released"]),
        (("TRAINER.BMIP.VARIANT", "released", "TRAINER.BMIP.PROMPT_DEPTH", "2"), ["TRAINER.BMIP.PROMPT_DEPTH", "3"]),
    ],
    ids=str,
)
def test_a_released_run_under_other_settings_is_refused(run_train, tmp_path, options, words):
    write_run(tmp_path / "theirs")
    run = run_train("--eval-only", "--model-dir", str(tmp_path / "theirs"), options=options)
    assert run.status == 2
    for word in words:
        assert word in run.errors


def test_prompts_of_another_backbone_are_refused(small_clip):
    other = make_clip(transformer_width=128, transformer_heads=2)
    learner = make_learner(small_clip, variant="released", depth=3)
    target = BMIPLearner(BMIPConfig(variant="released", depth=3), other)
    with pytest.raises(RuntimeError, match="size mismatch"):
        target.load_state_dict(LAYOUT.translate_for(released_layout(learner, small_clip), target)[0])


def test_our_own_keys_are_not_taken_for_theirs(small_clip):
    learner = make_learner(small_clip, variant="paper", depth=3)
    with pytest.raises(InputError, match="variant"):
        LAYOUT.translate_for({"prompt_learner.ctx_t": torch.zeros(2, 64)}, learner)
