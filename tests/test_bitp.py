"""BITP: what enters which layer in each of its four ways, and the files of its authors."""

from __future__ import annotations

import pytest
import torch
from helpers.learners import make, new_learner
from helpers.published import write_run

from trainers.prompting.core.class_tokens import context_vectors
from trainers.prompting.core.learner import Readout
from trainers.prompting.learners.bitp import FIRST, in_pairs
from trainers.prompting.methods import METHODS

TOWERS = ("text", "vision")
NO_READOUT = Readout(lambda *_: None, None, 1)


def tokens(prompts, layer: int) -> torch.Tensor:
    return prompts.at(layer, NO_READOUT)


@pytest.mark.parametrize("connect", FIRST)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_new_text_prompts_enter_one_layer_less_but_for_add_which_fills_the_towers(small_clip, connect, depth):
    learner = new_learner(small_clip, "BITP", connect=connect, depth=depth)
    expected = (min(2 * depth - 1, 3),) * 2 if connect == "add" else (max(1, depth - 1), depth)
    assert (learner.text().depth, learner.vision().depth) == expected


def test_projected_prompts_follow_the_own_ones_in_add(small_clip):
    learner = make(small_clip, "BITP", connect="add", depth=2)
    head = learner.vision_to_text["deep"]
    assert torch.equal(tokens(learner.text(), 1), learner.text_prompts["1"])
    torch.testing.assert_close(tokens(learner.text(), 2), head(learner.vision_prompts["1"]))


def test_words_of_the_sentence_are_in_the_other_text_slots_of_joint(small_clip):
    learner = new_learner(small_clip, "BITP", connect="joint", length=2, depth=3)
    words = context_vectors(small_clip, "a photo of a", 4)
    assert torch.equal(tokens(learner.text(), 0), words) and learner.text_slots == 4
    longer = new_learner(small_clip, "BITP", connect="joint", length=3, depth=3)
    placeholders = tokens(longer.text(), 0)[3:]
    assert torch.equal(placeholders, context_vectors(small_clip, "X X X", 3))
    assert longer.template == "X X X X X X {}."


def test_a_row_of_exchange_has_two_neighbours():
    first, second = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[4.0], [5.0], [6.0]])
    assert in_pairs(first, second).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert in_pairs(first[:1], second[:1]).tolist() == [[1, 4]]


@pytest.mark.parametrize("shared", [True, False])
def test_vision_prompts_start_as_copies_of_one_or_in_the_bound_of_vpt(small_clip, shared):
    prompts = new_learner(small_clip, "BITP", connect="add", depth=3, share_vision=shared).vision_prompts
    assert torch.equal(prompts["1"], prompts["2"]) is torch.equal(prompts["0"], prompts["1"]) is shared
    bound = (6 / (48 + 128)) ** 0.5
    assert shared or 0.8 * bound < prompts["1"].abs().max() <= bound


@pytest.mark.parametrize("connect", FIRST)
@pytest.mark.parametrize("shared", [True, False])
def test_a_file_of_the_authors_tells_its_settings_and_is_evaluated(run_train, tmp_path, small_clip, connect, shared):
    settings = dict(length=2, depth=3, share_text=shared, share_vision=shared)
    learner = make(small_clip, "BITP", connect=connect, **settings)
    own = dict(learner.state_dict())
    # As many rows as a sentence has tokens; theirs has all tensors, whatever the connection.
    first = own.pop("vision_prompts.0", torch.randn(2, 128))
    state = {"prompt_learner.ctx_t": own.pop("text_prompts.0").half()}
    state["prompt_learner.ctx_v"] = torch.cat([first, torch.randn(75, 128)])
    names = {"text_to_vision": ("single_layer_t", "compound_prompt_projections_t")}
    names |= {"vision_to_text": ("single_layer_v", "compound_prompt_projections_v")}
    names |= {f"{tower}_exchange": (f"exchange_layer_{tower[0]}", f"compound_exchange_{tower[0]}") for tower in TOWERS}
    for name, value in own.items():
        group, layer, *rest = name.split(".")
        if group.endswith("prompts"):
            kind = {"text_prompts": "text", "vision_prompts": "visual"}[group]
            theirs = f"compound_prompts_{kind}.{int(layer) - 1}"
        elif layer == "0":
            theirs = "proj_t"
        else:
            theirs = names[group][0] if shared else f"{names[group][1]}.{int(layer) - 1}"
        state[".".join(["prompt_learner", theirs, *rest])] = value
    state["prompt_learner.proj_v.weight"] = torch.randn(64, 128).half()
    for tower, widths in (("t", (128, 64)), ("v", (64, 128))):
        # Of these, some connections have no use.
        for one, copies in names.values():
            if one.endswith(f"_{tower}"):
                missing = one if shared else f"{copies}.0"
                state.setdefault(f"prompt_learner.{missing}.weight", torch.randn(widths))
    method = METHODS["BITP"]
    translated, left_out = method.layout.translate_for(state, learner)
    assert translated.keys() == learner.state_dict().keys()
    assert method.told(method.layout.translate(state)[0]) == settings
    assert sum(left_out.values()) == len(state) - len(translated)

    write_run(tmp_path / "theirs", "BITP", state)
    torch.save(small_clip.state_dict(), tmp_path / "clip.pt")
    keys = {"TRAINER.BITP.CONNECT_METHOD": connect, "TRAINER.BITP.PROMPT_DEPTH": "3", "TRAINER.BITP.N_CTX": "2"}
    keys |= {f"SHARE.SHARE_PARAMETER_{tower}": str(shared) for tower in ("TEXT", "VISUAL")}
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer="BITP",
        options=["MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt"), *[word for pair in keys.items() for word in pair]],
    )
    assert run.status == 0, run.errors
