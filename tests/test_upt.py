"""UPT: one draw of dropout for both towers, the method and what BMIP's authors released of it, and their files."""

from __future__ import annotations

import pytest
import torch
from helpers.learners import make, new_learner
from helpers.published import write_run

from trainers.prompting.core.learner import Readout
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.methods import METHODS

NO_READOUT = Readout(lambda *_: None, None, 1)


def tokens(prompts, layer: int) -> torch.Tensor:
    return prompts.at(layer, NO_READOUT)


def test_a_training_pass_has_one_draw_of_dropout_for_both_towers_and_the_next_pass_another(small_clip):
    learner = make(small_clip, "UPT", depth=2, dropout=0.5).train()
    calls = []
    for unifier in learner.unifiers.values():
        unifier.register_forward_hook(lambda *_: calls.append(1))
    passes = [(learner.vision(), learner.text()) for _ in range(2)]
    assert len(calls) == 2 * 2
    (first, _), (second, _) = passes
    assert not torch.equal(tokens(first, 1), tokens(second, 1))
    # A tower alone gets what its parameters are now.
    learner.vision()
    with torch.no_grad():
        learner.unified_prompts["0"].add_(1)
    learner.text()
    assert len(calls) == 2 * 4


def test_a_test_has_no_dropout_and_no_memory(small_clip, images, classnames):
    model = PromptedCLIP(small_clip, make(small_clip, "UPT", depth=2, dropout=0.5), classnames).eval()
    with torch.no_grad():
        assert torch.equal(model(images), model(images))
    assert model.learner._drawn is None


def test_released_text_gets_no_prompts_in_the_last_layer(small_clip):
    for variant, layers in (("paper", (3, 3)), ("released", (2, 3))):
        learner = new_learner(small_clip, "UPT", depth=3, variant=variant)
        assert (learner.text().depth, learner.vision().depth) == layers
        assert set(learner.text_prompts) == ({"0"} if variant == "released" else set())


@pytest.mark.parametrize("depth", [1, 3])
def test_a_file_of_the_authors_tells_its_settings_and_is_evaluated(run_train, tmp_path, small_clip, depth):
    learner = make(small_clip, "UPT", length=3, depth=depth, variant="released")
    own = dict(learner.state_dict())
    # As many rows as a sentence has tokens.
    vision = torch.cat([own.pop("vision_prompts.0"), torch.randn(74, 128)])
    state = {"prompt_learner.ctx_t": own.pop("text_prompts.0").half(), "prompt_learner.ctx_v": vision}
    for name, value in own.items():
        head, layer, *rest = name.split(".")
        theirs = {"unified_prompts": "compound_prompts", "unifiers": "compound_prompt_projections"}[head]
        state[".".join(["prompt_learner", theirs, str(int(layer) - 1), *rest])] = value
    state["prompt_learner.token_prefix"] = torch.randn(5, 1, 64).half()
    method = METHODS["UPT"]
    translated, left_out = method.layout.translate(state)
    assert method.told(translated) == dict(length=3, depth=depth) and sum(left_out.values()) == 1
    assert translated.keys() == learner.state_dict().keys()
    assert torch.equal(translated["vision_prompts.0"], learner.vision_prompts["0"])

    write_run(tmp_path / "theirs", "UPT", state)
    torch.save(small_clip.state_dict(), tmp_path / "clip.pt")
    keys = {"VARIANT": "released", "PROMPT_DEPTH": str(depth), "N_CTX": "3"}
    options = [word for key, value in keys.items() for word in (f"TRAINER.UPT.{key}", value)]
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer="UPT",
        options=["MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt"), *options],
    )
    assert run.status == 0, run.errors
