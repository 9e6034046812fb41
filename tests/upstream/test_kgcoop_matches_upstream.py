"""KgCoOp computes what its authors' code computes: start, logits, loss, and the gradient of a training step.

Needs a checkout of htyao89/KgCoOp, named by the environment variable KGCOOP_ROOT: the folder that
has its train.py. All casts of upstream's to half precision are switched off, so that results agree as fp32 lets them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import CLASSNAMES
from test_baselines_match_upstream import LABELS, WORDS, batch, clip_model, difference, run_upstream  # noqa: F401
from test_configs import CONFIGS, load
from torch import Tensor

import trainers
from trainers.config import build_objective, default_cfg, settings_of
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import BY_DATASET
from trainers.prompting.objectives.knowledge_guidance import METHOD
from trainers.prompting.objectives.objective import Objective

trainers.register_all()
ROOT = os.environ.get("KGCOOP_ROOT", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="KGCOOP_ROOT names no checkout of KgCoOp's repository")
TOLERANCE = 1e-5  # in proportion to the largest value


@dataclass(frozen=True)
class Case:
    dataset: str
    weight: float = 8.0
    length: int = 4
    words: str = WORDS
    class_specific: bool = False

    @property
    def settings(self) -> dict:
        names = dict(N_CTX=self.length, CTX_INIT=self.words, CSC=self.class_specific)
        return {**names, "W": self.weight, "CLASS_TOKEN_POSITION": "end"}


CASES = [
    *[Case(dataset) for dataset in (*BY_DATASET, "SUN397", "ImageNetA")],
    Case("EuroSAT", weight=0.0),
    Case("EuroSAT", weight=1.0, length=16, words=""),
    Case("OxfordPets", weight=100.0, length=2, words="", class_specific=True),
]


@pytest.fixture(scope="module")
def upstream(clip_model, batch, tmp_path_factory) -> dict[Case, dict]:  # noqa: F811
    """Upstream's answers to all cases."""
    common = dict(trainer="KgCoOp", module="kgcoop", nodes=["COOP", "COCOOP"])
    cases = [{**common, "dataset": case.dataset, "settings": case.settings} for case in CASES]
    answers = run_upstream(ROOT, tmp_path_factory.mktemp("upstream"), cases, clip_model, batch, "none")
    assert [answer["error"] for answer in answers if "error" in answer] == []
    return dict(zip(CASES, answers))


@pytest.fixture(scope="module")
def report():
    """Largest differences in proportion to the largest value, printed at the end."""
    largest: dict[str, float] = {}
    yield largest
    print("\nLargest differences from upstream:", ", ".join(f"{what} {value:.1e}" for what, value in largest.items()))


@pytest.fixture
def same_sentences(monkeypatch) -> None:
    """The one sentence of ours that is not upstream's."""
    monkeypatch.setitem(BY_DATASET, "DescribableTextures", "a photo of a {}, a type of texture.")


def build(case: Case, clip_model) -> tuple[PromptedCLIP, Objective]:  # noqa: F811
    """Our model and objective as our trainer builds them out of the same settings."""
    cfg = default_cfg()
    cfg.TRAINER.NAME, cfg.DATASET.NAME = METHOD.name, case.dataset
    for key, value in case.settings.items():
        assert key in cfg.TRAINER.COOP
        cfg.TRAINER.COOP[key] = value
    torch.manual_seed(0)
    learner, objective = METHOD.learner(settings_of(cfg, METHOD), clip_model), build_objective(cfg, METHOD)
    return PromptedCLIP(clip_model, learner, CLASSNAMES).train(), objective


def context(tensors: dict[str, Tensor]) -> Tensor:
    translated, _ = METHOD.layout.translate(tensors)
    assert translated.keys() == {"text_prompts.0"}
    return translated["text_prompts.0"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_training_step_has_upstreams_logits_loss_and_gradient(
    upstream,
    report,
    clip_model,  # noqa: F811
    batch,  # noqa: F811
    same_sentences,
    case,
):
    theirs = upstream[case]
    logits, score = theirs["logits"]
    model, objective = build(case, clip_model)
    model.learner.load_state_dict({"text_prompts.0": context(theirs["state_dict"])})
    objective.prepare(model, CLASSNAMES)
    loss = objective.loss(model, [batch], LABELS)
    loss.total.backward()
    (parameter,) = model.learner.parameters()
    assert logits.std(dim=1).min() > 0.1 and score > 0.1, "too alike to tell a difference"
    compared = {
        "logits": (loss.logits, logits),
        "term": (loss.terms["loss_text"], case.weight * score),
        "loss": (loss.total, torch.tensor(theirs["loss"])),
        "gradient": (parameter.grad, context(theirs["gradients"])),
    }
    if not case.weight:
        assert compared.pop("term")[0] == 0
    found = {what: difference(ours.detach(), other)[1] for what, (ours, other) in compared.items()}
    for what, value in found.items():
        report[what] = max(report.get(what, 0.0), value)
    assert {what: value for what, value in found.items() if value > TOLERANCE} == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_file_that_upstream_saves_is_read(upstream, clip_model, case):  # noqa: F811
    theirs = upstream[case]
    assert theirs["name"] == METHOD.folder
    state = theirs["state_dict"]
    assert METHOD.layout.matches(state) and {"bias_vectors", "meta_net.linear1.weight"} <= state.keys()
    _, left_out = METHOD.layout.translate(state)
    assert sum(left_out.values()) == len(state) - 1
    (parameter,) = build(case, clip_model)[0].learner.parameters()
    start = theirs["start"]["ctx"]
    assert parameter.shape == start.shape and (not case.words or torch.equal(parameter.detach(), start))


def test_the_sentences_are_upstreams_but_for_that_of_textures(upstream, clip_model, batch):  # noqa: F811
    case = Case("DescribableTextures")
    model, objective = build(case, clip_model)
    model.learner.load_state_dict({"text_prompts.0": context(upstream[case]["state_dict"])})
    objective.prepare(model, CLASSNAMES)
    term, theirs = objective.loss(model, [batch], LABELS).terms["loss_text"], case.weight * upstream[case]["logits"][1]
    assert abs(term - theirs) > 1e-3 * theirs


def test_our_recipe_has_the_effect_of_theirs(tmp_path):
    name = "vit_b16_ep100_ctxv1"
    text = (Path(ROOT) / f"configs/trainers/KgCoOp/{name}.yaml").read_text()
    # The words are those of their code wherever this is set.
    assert "CTX_INIT: True" in text
    (tmp_path / f"{name}.yaml").write_text(text.replace("CTX_INIT: True", f"CTX_INIT: {WORDS}"))
    ours = load("KgCoOp", CONFIGS / f"trainers/KgCoOp/{name}.yaml")
    assert ours == load("KgCoOp", tmp_path / f"{name}.yaml")
