"""PromptSRC, CoPrompt and PromptSRC_BMIP compute what their authors' code computes: a step, and whole epochs.

Needs checkouts of muzairkhattak/PromptSRC, ShuvenduRoy/CoPrompt and LAMDASZ-ML/BMIP, named by the environment
variables PROMPTSRC_ROOT, COPROMPT_ROOT and BMIP_ROOT. Each step is compared twice: with all casts of upstream's to
half precision switched off, where results agree as fp32 lets them, and in its setting fp16, where only roughly.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import CLASSNAMES, make_clip
from helpers.published import write_run
from helpers.runs import assert_refused
from test_baselines_match_upstream import SIZES, difference, mean_difference
from torch import Tensor, nn

import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import default_cfg
from trainers.prompting.checkpoints.checks import check_backbone
from trainers.prompting.core.class_tokens import tokenize_classes
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.prompted_clip import PromptedCLIP
from trainers.prompting.core.templates import EIGHTY, SIXTY
from trainers.prompting.learners.bmip import LAYOUT as BMIP_LAYOUT
from trainers.prompting.objectives.descriptions import PUBLISHED_NAMES, describe
from trainers.prompting.objectives.objective import Objective
from trainers.promptsrc import PromptSRC

trainers.register_all()
RUNNER = Path(__file__).with_name("upstream_objectives.py")
ROOTS = {
    "PromptSRC": ("PROMPTSRC_ROOT", "promptsrc"),
    "CoPrompt": ("COPROMPT_ROOT", "coprompt"),
    "PromptSRC_BMIP": ("BMIP_ROOT", "promptsrc_bmip"),
}
LABELS = torch.tensor([0, 1, 2, 3])
# Three of each class, as their code wants the same number of all; the second is drawn.
SENTENCES = {
    name.replace("_", " "): [f"a {name}.", f"{name}, seen from number_{i}.", f"not {name}."]
    for i, name in enumerate(CLASSNAMES)
}
DRAWN = 0.5
# Of the teacher's sentences, in most cases; encoding them takes most of the time.
FEW = 2
WORDS = "a photo of a"
# In proportion to the largest value: logits and loss, each gradient; and the mean of each gradient.
# Theirs rounds adapters to half precision, in which a unit may be on that is off in ours. How much that is depends on
# the CPU's products in half precision: at most 0.24 and 0.031 on the machines that ran this.
TOLERANCES = {"none": (1e-5, 2e-5, 2e-5), "fp16": (1e-2, 3e-1, 4e-2)}
# A gate has one number, a sum of many that nearly cancel out.
GATES = {"none": 1e-4, "fp16": 1e-1}


@dataclass(frozen=True)
class Case:
    """A trainer, with the settings of its node and of the objective."""

    trainer: str
    settings: dict = field(default_factory=dict)
    weight: float = 8.0
    distance: str = "cosine"
    epochs: int = 0
    rate: float = 0.0
    templates: int = 0

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.settings.items()]
        return " ".join([self.trainer, *words, f"W={self.weight}", self.distance, f"epochs={self.epochs}"])


def promptsrc(
    text=(4, 3), vision=(4, 3), words=WORDS, weights=(25.0, 10.0), gaussian=(15.0, 1.0), trainer="PromptSRC", **more
) -> Case:
    """`text` and `vision` are length and depth, `gaussian` mean and standard deviation."""
    names = ("N_CTX_TEXT", "PROMPT_DEPTH_TEXT", "N_CTX_VISION", "PROMPT_DEPTH_VISION")
    names += ("TEXT_LOSS_WEIGHT", "IMAGE_LOSS_WEIGHT", "GPA_MEAN", "GPA_STD")
    run = {key: more.pop(key) for key in ("epochs", "rate") if key in more}
    run["templates"] = more.pop("templates", FEW)
    return Case(trainer, dict(zip(names, (*text, *vision, *weights, *gaussian)), CTX_INIT=words, **more), **run)


def stacked(length: int, depth: int, share=True, towers=3, **more) -> Case:
    """`towers` is the depth that the authors hand to their towers beside that of the prompts."""
    more = {"PROMPT_DEPTH": depth, "CONNECT_METHOD": "None", "share": share, **more}
    return promptsrc((length, towers), (length, towers), trainer="PromptSRC_BMIP", **more)


def coprompt(length: int, depth: int, weight=8.0, distance="cosine", words=WORDS) -> Case:
    return Case("CoPrompt", dict(N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words), weight, distance)


STEPS = {
    "PromptSRC": [
        promptsrc(templates=0),
        promptsrc((2, 1), (3, 2), weights=(0.0, 10.0)),
        promptsrc((4, 2), (4, 2), weights=(25.0, 0.0)),
        promptsrc((6, 3), (2, 1), "", weights=(0.0, 0.0)),
    ],
    "CoPrompt": [
        coprompt(2, 3),
        coprompt(4, 1, weight=0.1),
        coprompt(2, 2, weight=100.0, distance="mse"),
        coprompt(6, 3, words=""),
    ],
    "PromptSRC_BMIP": [
        stacked(2, 3),
        stacked(4, 2, share=False),
        # The authors' file for transfer: three layers for the towers, more for the prompts.
        stacked(2, 3, towers=1, gaussian=(6.0, 10.0)),
        stacked(2, 1),
    ],
}
HALF = {trainer: cases[:1] for trainer, cases in STEPS.items()}
RUNS = {
    "PromptSRC": [
        promptsrc(gaussian=(3.0, 1.0), epochs=4, rate=0.1),
        promptsrc((2, 2), (2, 2), gaussian=(2.0, 10.0), epochs=3, rate=0.1),
    ],
    "PromptSRC_BMIP": [stacked(2, 3, gaussian=(3.0, 1.5), epochs=4, rate=0.1)],
}
PLANS = {
    **{(trainer, "none"): [*cases, *RUNS.get(trainer, [])] for trainer, cases in STEPS.items()},
    **{(trainer, "fp16"): cases for trainer, cases in HALF.items()},
}


def parameters(plans: dict[str, list[Case]], casts: str) -> list:
    return [
        pytest.param(
            casts,
            case,
            id=f"{casts}-{case}",
            marks=pytest.mark.skipif(
                not os.environ.get(ROOTS[trainer][0]), reason=f"{ROOTS[trainer][0]} names no checkout"
            ),
        )
        for trainer, cases in plans.items()
        for case in cases
    ]


@pytest.fixture(scope="module")
def clip_model() -> nn.Module:
    """Its weights are such that fp16 represents; CoPrompt's adapters are 512 wide whatever the checkpoint."""
    model = make_clip(**{**SIZES, "embed_dim": 512})
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return model


@pytest.fixture(scope="module")
def views() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 32, 32, generator=generator).half().float() for _ in range(2)]


@pytest.fixture(scope="module")
def upstream(clip_model, views, tmp_path_factory):
    """Call for upstream's answer to a case; all cases of a plan are answered together."""
    folder = tmp_path_factory.mktemp("upstream")
    torch.save(clip_model.state_dict(), folder / "clip")
    (folder / "gpt_file").mkdir()
    (folder / "gpt_file" / "eurosat_prompt.json").write_text(json.dumps(SENTENCES))
    found: dict[tuple[str, str], list[dict]] = {}

    def run(trainer: str, casts: str) -> list[dict]:
        variable, module = ROOTS[trainer]
        cases = [{**dataclasses.asdict(case), "module": module} for case in PLANS[trainer, casts]]
        given = dict(clip=str(folder / "clip"), views=views, labels=LABELS, classnames=CLASSNAMES)
        torch.save({**given, "casts": casts, "cases": cases}, folder / "input")
        # Without -B, Python would write into the checkout.
        root = Path(os.environ[variable]).resolve()
        command = [sys.executable, "-B", RUNNER, root, folder / "input", folder / "output"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr[-4000:]
        return torch.load(folder / "output", weights_only=True)

    def answer(casts: str, case: Case) -> dict:
        key = case.trainer, casts
        if key not in found:
            found[key] = run(*key)
        answered = found[key][PLANS[key].index(case)]
        assert "error" not in answered, answered["error"]
        return answered

    return answer


@pytest.fixture
def same_sentences(monkeypatch, case) -> None:
    """The teacher is made of as many sentences as upstream's."""
    if case.templates:
        few = sorted(SIXTY)[: case.templates]
        monkeypatch.setattr(
            "trainers.prompting.objectives.self_regulation.TEACHER_SENTENCES", dict.fromkeys((60, 80), few)
        )


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, dict[str, float]]]:
    """Largest differences in proportion to the largest value, by trainer and casts, printed at the end."""
    rows: dict[str, dict[str, float]] = {}
    yield rows
    print("\nLargest differences from upstream, in proportion to the largest value of the tensor")
    for name, row in rows.items():
        print(f"{name}: {', '.join(f'{what} {value:.1e}' for what, value in row.items())}")


def build(case: Case, clip_model: nn.Module, casts: str = "none") -> tuple[PromptedCLIP, Objective]:
    """Our model and objective, of the same settings."""
    trainer = TRAINER_REGISTRY.get(case.trainer)
    cfg = default_cfg()
    cfg.TRAINER.NAME = case.trainer
    cfg.OPTIM.MAX_EPOCH = case.epochs or 20
    cfg.TRAINER.W, cfg.TRAINER.DISTILL = case.weight, case.distance
    if case.trainer == "PromptSRC_BMIP":
        cfg.TRAINER.BMIP.VARIANT = "released"
        cfg.TRAINER.BMIP.N_CTX = case.settings["N_CTX_TEXT"]
        cfg.TRAINER.BMIP.PROMPT_DEPTH = case.settings["PROMPT_DEPTH"]
        cfg.TRAINER.BMIP.CTX_INIT = case.settings["CTX_INIT"]
        cfg.SHARE.SHARE_PARAMETER_VISUAL = cfg.SHARE.SHARE_PARAMETER_TEXT = case.settings["share"]
    node = cfg.TRAINER["CoPrompt" if case.trainer == "CoPrompt" else "PROMPTSRC"]
    # The stack's prompts have BMIP's keys, set above, and refuse PromptSRC's.
    of_prompts = PromptSRC.method.keys if case.trainer == "PromptSRC_BMIP" else {}
    for key, value in case.settings.items():
        if key in node and f"TRAINER.PROMPTSRC.{key}" not in of_prompts:
            node[key] = value
    precision = PRECISIONS["fp16" if casts == "fp16" else "fp32"]
    if casts == "fp16":
        clip_model = copy.deepcopy(clip_model)
        cast_matmul_weights(clip_model, precision.matmul)
    torch.manual_seed(0)
    learner, objective = trainer.build_parts(cfg, clip_model)
    if case.trainer == "CoPrompt":
        objective.describe = lambda names: [SENTENCES[name.replace("_", " ")] for name in names]
    return PromptedCLIP(clip_model, learner, CLASSNAMES, precision).train(), objective


def translate(case: Case, tensors: dict[str, Tensor], learner) -> dict[str, Tensor]:
    if case.trainer == "PromptSRC_BMIP":
        return BMIP_LAYOUT.translate_for(tensors, learner)[0]
    return TRAINER_REGISTRY.get(case.trainer).method.layout.translate(tensors)[0]


@pytest.mark.parametrize("casts, case", [*parameters(STEPS, "none"), *parameters(HALF, "fp16")])
@pytest.mark.usefixtures("same_sentences")
def test_a_training_step_has_upstreams_loss_and_gradients(
    upstream, report, clip_model, views, monkeypatch, casts, case
):
    theirs = upstream(casts, case)
    model, objective = build(case, clip_model, casts)
    learner = model.learner
    check_backbone(theirs["state_dict"], clip_model, "this CLIP")
    learner.load_state_dict(translate(case, theirs["state_dict"], learner))
    monkeypatch.setattr("random.random", lambda: DRAWN)
    objective.prepare(model, CLASSNAMES)
    loss, logits, terms = objective.loss(model, views, LABELS)
    loss.backward()
    assert loss > (1 + 10 * TOLERANCES[casts][0]) * terms["loss_ce"], "the objective makes no difference"
    expected = translate(case, theirs["gradients"], learner)
    ours = dict(learner.named_parameters())
    assert ours.keys() == expected.keys()
    # The authors' gates of the text tower read nothing, so that their scales have no gradient at all.
    silent = {name for name, gradient in expected.items() if not gradient.abs().max()}
    assert all(name.startswith("text_gate") and name.endswith("weight") for name in silent)
    assert all(not ours.pop(name).grad.abs().max() for name in silent)
    if casts == "fp16":
        # What half precision rounds to next to nothing cannot be compared.
        ours = {name: parameter for name, parameter in ours.items() if expected[name].abs().max() > 1e-4}
        assert len(ours) > len(expected) / 2

    of_logits, of_gradients, of_means = TOLERANCES[casts]
    found = {
        "logits": difference(logits.detach(), theirs["logits"])[1],
        "loss": difference(loss.detach(), torch.tensor(theirs["loss"]))[1],
    }
    gradients = {name: difference(parameter.grad, expected[name])[1] for name, parameter in ours.items()}
    means = {name: mean_difference(parameter.grad, expected[name]) for name, parameter in ours.items()}
    row = report.setdefault(f"{case.trainer}, casts {casts}", {})
    for what, value in (*found.items(), ("gradients", max(gradients.values())), ("mean", max(means.values()))):
        row[what] = max(row.get(what, 0.0), value)
    assert {what: value for what, value in found.items() if value > of_logits} == {}
    for limit, differences in ((of_gradients, gradients), (of_means, means)):
        beyond = {
            name: value for name, value in differences.items() if value > (GATES[casts] if "gate" in name else limit)
        }
        assert beyond == {}


@pytest.mark.parametrize("casts, case", parameters(RUNS, "none"))
@pytest.mark.usefixtures("same_sentences")
def test_training_ends_in_upstreams_average_over_the_epochs(upstream, report, clip_model, views, casts, case):
    theirs = upstream(casts, case)
    model, objective = build(case, clip_model)
    learner = model.learner
    learner.load_state_dict(translate(case, theirs["state_dict"], learner))
    optimiser = torch.optim.SGD(learner.parameters(), lr=case.rate)
    objective.prepare(model, CLASSNAMES)
    for epoch in range(1, case.epochs + 1):
        for rows in (slice(0, 2), slice(2, 4)):
            optimiser.zero_grad()
            objective.loss(model, [view[rows] for view in views], LABELS[rows]).total.backward()
            optimiser.step()
        last = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
        objective.end_epoch(learner, epoch)
    expected = translate(case, theirs["end"], learner)
    row = report.setdefault(f"{case.trainer}, {case.epochs} epochs", {"average": 0.0})
    differs = 0.0
    for name, parameter in learner.named_parameters():
        found = difference(parameter.detach(), expected[name])[1]
        differs = max(differs, difference(last[name], expected[name])[1])
        row["average"] = max(row["average"], found)
        assert found < 1e-5, name
    assert differs > 1e-3, "the average is not to be told from the last epoch"


@pytest.mark.parametrize("casts, case", parameters({k: v[:1] for k, v in STEPS.items()}, "none"))
def test_training_starts_from_the_same_words_shapes_and_spread(upstream, clip_model, casts, case):
    model, _ = build(case, clip_model)
    theirs = translate(case, upstream(casts, case)["start"], model.learner)
    ours = model.learner.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert torch.equal(ours["text_prompts.0"], theirs["text_prompts.0"])
    for name, tensor in ours.items():
        if name.startswith("adapters"):
            assert tensor.std().item() == pytest.approx(theirs[name].std().item(), rel=0.02)


@pytest.mark.parametrize(
    "variable, ours", [("PROMPTSRC_ROOT", SIXTY), ("BMIP_ROOT", EIGHTY)], ids=["PromptSRC", "BMIP"]
)
def test_the_teachers_sentences_are_promptsrcs_and_those_of_bmips_authors(variable, ours):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    names = runpy.run_path(str(Path(os.environ[variable]) / "trainers" / "imagenet_templates.py"))
    assert sorted(ours) == sorted(names["IMAGENET_TEMPLATES"])


# ------------------------------------------------------------------------------------------------ published files

NODES = {"PromptSRC": "PROMPTSRC", "CoPrompt": "CoPrompt", "PromptSRC_BMIP": "BMIP"}


def options(case: Case, backbone: Path) -> list[str]:
    """Of train.py, for the prompts of a case."""
    keys = {"MODEL.BACKBONE.NAME": backbone, "TRAINER.PROMPTSRC.GPA_MEAN": 1}
    node = f"TRAINER.{NODES[case.trainer]}"
    if case.trainer == "PromptSRC_BMIP":
        keys[f"{node}.VARIANT"] = "released"
        keys[f"{node}.N_CTX"], keys[f"{node}.PROMPT_DEPTH"] = (
            case.settings["N_CTX_TEXT"],
            case.settings["PROMPT_DEPTH"],
        )
    else:
        keys.update(
            {f"{node}.{key}": value for key, value in case.settings.items() if key.startswith(("N_CTX", "PROMPT_D"))}
        )
    return [str(word) for pair in keys.items() for word in pair]


TEACHERS = {"PromptSRC": "ZS_image_encoder", "CoPrompt": "model_distill", "PromptSRC_BMIP": "ZS_image_encoder"}
LAYOUT = {"PromptSRC": "IVLP", "CoPrompt": "MaPLe", "PromptSRC_BMIP": "IVLP"}


@pytest.mark.parametrize("casts, case", parameters({k: v[:1] for k, v in STEPS.items()}, "none"))
def test_a_checkpoint_that_upstreams_code_saved_is_evaluated_without_its_teacher(
    upstream, clip_model, run_train, tmp_path, casts, case
):
    theirs = upstream(casts, case)
    state = {key: value.contiguous() for key, value in theirs["state_dict"].items()}
    assert theirs["name"] == TRAINER_REGISTRY.get(case.trainer).method.folder
    write_run(tmp_path / "theirs", LAYOUT[case.trainer], state)
    assert (tmp_path / "theirs" / theirs["name"]).is_dir()
    torch.save(clip_model.state_dict(), tmp_path / "clip.pt")
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer=case.trainer,
        options=options(case, tmp_path / "clip.pt"),
    )
    assert run.status == 0, run.errors
    teacher = sum(TEACHERS[case.trainer] in key for key in state)
    assert teacher and f"{teacher} are left out: the frozen teacher" in run.output
    assert ("adapters.text.layers.2.weight" in run.output) is (case.trainer == "CoPrompt")
    assert 0 <= run.result["accuracy"] <= 100


@pytest.mark.parametrize("casts, case", parameters({"PromptSRC_BMIP": STEPS["PromptSRC_BMIP"][:1]}, "none"))
def test_the_authors_stacked_checkpoint_is_of_their_variant_alone(
    upstream, clip_model, run_train, tmp_path, casts, case
):
    state = {key: value.contiguous() for key, value in upstream(casts, case)["state_dict"].items()}
    write_run(tmp_path / "theirs", "IVLP", state)
    torch.save(clip_model.state_dict(), tmp_path / "clip.pt")
    run = run_train(
        *("--eval-only", "--model-dir", str(tmp_path / "theirs"), "--load-epoch", "5"),
        trainer=case.trainer,
        options=[*options(case, tmp_path / "clip.pt"), "TRAINER.BMIP.VARIANT", "paper"],
    )
    assert_refused(run, ["TRAINER.BMIP.VARIANT", "released"])


@pytest.mark.skipif(not os.environ.get("COPROMPT_ROOT"), reason="COPROMPT_ROOT names no checkout")
def test_every_published_file_of_descriptions_is_found_by_its_data_set_and_fits(capsys):
    folder = Path(os.environ["COPROMPT_ROOT"]) / "gpt_file"
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
