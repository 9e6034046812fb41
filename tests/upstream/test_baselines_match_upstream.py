"""The baselines compute what their authors' code computes: start, loss, logits, and the gradient of a training step.

Needs a checkout of muzairkhattak/multimodal-prompt-learning, named by the environment variable MAPLE_ROOT. CoOp,
CoCoOp and the zero-shot methods are in it and in KaiyangZhou/CoOp, of which COOP_ROOT may name a checkout as well.

Upstream rounds to half precision in ways that this project does not. So each method is compared three times: with all
casts of upstream's switched off, where the results agree as fp32 lets them; as its setting PREC fp32 leaves them, with
the same roundings put into our model; and in its setting fp16, where only rough agreement can be asked for.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from conftest import CLASSNAMES, make_clip
from torch import Tensor, nn
from torch.nn import functional as F

import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import default_cfg
from trainers.prompting.checkpoints.checks import check_backbone
from trainers.prompting.core.clip_weights import PRECISIONS, cast_matmul_weights
from trainers.prompting.core.learner import PromptLearner, Readout, TowerPrompts
from trainers.prompting.core.prompted_clip import AUTOMATIC, PromptedCLIP
from trainers.prompting.core.templates import BY_DATASET

ROOTS = {name: os.environ.get(f"{name.upper()}_ROOT") for name in ("MaPLe", "CoOp")}
trainers.register_all()
pytestmark = pytest.mark.skipif(not ROOTS["MaPLe"], reason="MAPLE_ROOT names no checkout of MaPLe's repository")
RUNNER = Path(__file__).with_name("upstream_baselines.py")

# MaPLe's deep text prompts are 512 wide and its vision prompts 768, whatever the checkpoint.
SIZES = dict(transformer_width=512, transformer_heads=8, vision_width=768, embed_dim=128)
LAYERS = 3
MODULES = {"CoOp": "coop", "CoCoOp": "cocoop", "VPT": "vpt", "IVLP": "independentVL", "MaPLe": "maple"}
# Largest difference in proportion to the largest value, of the logits and of each gradient. Where a gradient is
# rounded to fp16 at the same place in both, a difference of 1e-7 before it can become one of 2^-10 after it, but does
# so for few values, which the mean difference shows.
TOLERANCES = {"none": (1e-5, 1e-5), "fp32": (1e-5, 2e-3), "fp16": (1e-2, 2e-2)}
MEAN_TOLERANCES = {"none": 1e-5, "fp32": 5e-5, "fp16": 1e-2}


@dataclass(frozen=True)
class Case:
    """A trainer with the settings of its configuration node, and the data set's name where it matters."""

    trainer: str
    settings: dict = field(default_factory=dict)
    dataset: str = ""

    @property
    def method(self) -> str:
        return "IVLP, language only" if self.settings.get("PROMPT_DEPTH_VISION") == 0 else self.trainer

    @property
    def uses_words(self) -> bool:
        length = self.settings.get("N_CTX_TEXT", self.settings.get("N_CTX", 0))
        any_number = self.trainer in ("CoOp", "CoCoOp")
        return bool(self.settings.get("CTX_INIT")) and self.trainer != "VPT" and (any_number or length <= 4)

    def __str__(self) -> str:
        words = [self.trainer, self.dataset, *(f"{key}={value}" for key, value in self.settings.items())]
        return " ".join(word for word in words if word)


WORDS = "a photo of a"
# More tokens than words: upstream counts words, and leaves the other tokens in the sentence.
LONG_WORDS = "a_photograph of some-thing"


def coop(length: int, words: str, position: str, csc: bool = False) -> Case:
    return Case("CoOp", dict(N_CTX=length, CTX_INIT=words, CLASS_TOKEN_POSITION=position, CSC=csc))


def cocoop(length: int, words: str) -> Case:
    return Case("CoCoOp", dict(N_CTX=length, CTX_INIT=words))


def vpt(length: int, depth: int) -> Case:
    return Case("VPT", dict(N_CTX_VISION=length, PROMPT_DEPTH_VISION=depth, CTX_INIT=WORDS))


def ivlp(text: tuple[int, int], vision: tuple[int, int], words: str) -> Case:
    """`text` and `vision` are length and depth."""
    names = ("N_CTX_TEXT", "PROMPT_DEPTH_TEXT", "N_CTX_VISION", "PROMPT_DEPTH_VISION")
    return Case("IVLP", dict(zip(names, (*text, *vision)), CTX_INIT=words))


def maple(length: int, depth: int, words: str) -> Case:
    return Case("MaPLe", dict(N_CTX=length, PROMPT_DEPTH=depth, CTX_INIT=words))


TEXT_ONLY = [
    *[coop(5, "", position, csc) for position in ("end", "middle", "front") for csc in (False, True)],
    *[coop(16, words, position) for position in ("end", "middle", "front") for words in (WORDS, LONG_WORDS)],
    coop(1, "", "middle"),
    cocoop(4, ""),
    cocoop(16, WORDS),
    cocoop(4, LONG_WORDS),
]
TRAINED = [
    *TEXT_ONLY,
    *[vpt(length, depth) for length, depth in ((4, 1), (2, 2), (8, 3))],
    ivlp((2, 1), (2, 1), WORDS),
    ivlp((2, 3), (4, 2), WORDS),
    ivlp((1, 2), (3, 3), "a_photo_of_a"),
    ivlp((4, 2), (1, 1), ""),
    ivlp((6, 3), (2, 3), WORDS),
    *[ivlp(text, (0, 0), words) for text, words in (((4, 3), WORDS), ((3, 1), ""), ((2, 2), WORDS))],
    maple(2, 1, WORDS),
    maple(2, 2, WORDS),
    maple(2, 3, WORDS),
    maple(4, 3, "a_photo_of_a"),
    maple(6, 2, WORDS),
    maple(3, 3, ""),
]
OTHER_DATASETS = ["StanfordCars", "SUN397", "Caltech101"]
OTHER_DATASETS += ["ImageNet", "ImageNetSketch", "ImageNetV2", "ImageNetA", "ImageNetR"]
ZERO_SHOT = [
    Case(trainer, dataset=dataset)
    for trainer in ("ZeroshotCLIP", "ZeroshotCLIP2")
    for dataset in (*BY_DATASET, *OTHER_DATASETS)
]
# Half precision is slow on a CPU.
HALF = [coop(4, WORDS, "end"), cocoop(4, WORDS), vpt(4, 3), ivlp((2, 3), (2, 3), WORDS), ivlp((4, 3), (0, 0), WORDS)]
HALF += [maple(2, 3, WORDS)]
HALF_ZERO_SHOT = [Case("ZeroshotCLIP", dataset="EuroSAT"), Case("ZeroshotCLIP2", dataset="ImageNet")]
# By checkout and casts, what runs in one process.
PLANS = {
    ("MaPLe", "none"): [*TRAINED, *ZERO_SHOT],
    ("MaPLe", "fp32"): TRAINED,
    ("MaPLe", "fp16"): [*HALF, *HALF_ZERO_SHOT],
    ("CoOp", "none"): [*TEXT_ONLY, *ZERO_SHOT[::5]],
    ("CoOp", "fp32"): TEXT_ONLY,
}
LABELS = torch.tensor([0, 1, 2, 3])


def runs(trained: bool, only_casts: str | None = None) -> list:
    """Parameters (checkout, casts, case) of a test, skipped where there is no checkout."""
    return [
        pytest.param(
            *(root, casts, case),
            id=f"{root}-{casts}-{case}",
            marks=pytest.mark.skipif(not ROOTS[root], reason=f"{root.upper()}_ROOT names no checkout"),
        )
        for (root, casts), cases in PLANS.items()
        for case in cases
        if bool(case.settings) is trained and only_casts in (None, casts)
    ]


@pytest.fixture(scope="module")
def clip_model() -> nn.Module:
    """Its weights are such that fp16 represents: upstream rounds them on loading, as OpenAI's files are rounded."""
    model = make_clip(**SIZES)
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return model


@pytest.fixture(scope="module")
def batch() -> Tensor:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return images.half().float()


def run_upstream(
    checkout: str, folder: Path, cases: list[dict], clip_model: nn.Module, images: Tensor, casts: str
) -> list[dict]:
    """Answers of a checkout's own code to cases as RUNNER describes them; files go into `folder`."""
    torch.save(clip_model.state_dict(), folder / "clip")
    given = dict(clip=str(folder / "clip"), images=images, labels=LABELS, classnames=CLASSNAMES)
    torch.save({**given, "casts": casts, "cases": cases}, folder / "input")
    # Without -B, Python would write into the checkout.
    command = [sys.executable, "-B", RUNNER, Path(checkout).resolve(), folder / "input", folder / "output"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "output", weights_only=True)


@pytest.fixture(scope="module")
def upstream(clip_model, batch, tmp_path_factory):
    """Call for upstream's answer to a case; all cases of a plan are answered together."""
    folder = tmp_path_factory.mktemp("upstream")
    found: dict[tuple[str, str], list[dict]] = {}

    def run(root: str, casts: str) -> list[dict]:
        cases = [
            {
                **dataclasses.asdict(case),
                "module": MODULES.get(case.trainer, "zsclip"),
                "nodes": [case.trainer.upper()],
            }
            for case in PLANS[root, casts]
        ]
        return run_upstream(ROOTS[root], folder, cases, clip_model, batch, casts)

    def answer(root: str, casts: str, case: Case) -> dict:
        if (root, casts) not in found:
            found[root, casts] = run(root, casts)
        (answered,) = (found[root, casts][i] for i, other in enumerate(PLANS[root, casts]) if other == case)
        assert "error" not in answered, answered["error"]
        return answered

    return answer


@pytest.fixture(scope="module")
def report() -> Iterator[dict[tuple[str, str, str], dict[str, list[float]]]]:
    """Differences by checkout, casts and method, printed at the end."""
    rows: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    yield rows
    print("\nLargest differences from upstream: absolute, and in proportion to the largest value of the tensor")
    for key, found in rows.items():
        cells = [
            f"{what} {max(x for x, _ in pairs):.1e} ({max(y for _, y in pairs):.1e})" for what, pairs in found.items()
        ]
        print(f"{' | '.join(key)}: {len(found['logits'])} comparisons, {', '.join(cells)}")


def build(case: Case, clip_model: nn.Module, casts: str) -> PromptedCLIP:
    """Our model as our trainer builds it out of the same settings."""
    trainer = TRAINER_REGISTRY.get(case.trainer)
    cfg = default_cfg()
    cfg.DATASET.NAME = case.dataset or cfg.DATASET.NAME
    node = cfg.TRAINER[trainer.method.node]
    for key, value in case.settings.items():
        assert key in node
        node[key] = value
    precision = PRECISIONS["fp16" if casts == "fp16" else "fp32"]
    if casts == "fp16":
        clip_model = copy.deepcopy(clip_model)
        cast_matmul_weights(clip_model, precision.matmul)
    torch.manual_seed(0)
    return PromptedCLIP(clip_model, trainer.build_parts(cfg, clip_model)[0], CLASSNAMES, precision)


def translate(case: Case, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return TRAINER_REGISTRY.get(case.trainer).method.layout.translate(tensors)[0]


def round_as_upstream(learner: PromptLearner) -> None:
    """Round to fp16, on the way in and its gradient on the way back, what upstream casts even in PREC fp32.

    That is all prompts that enter inside the towers, for each class or image apart; the first text prompts are part
    of the sentence's embedding, which stays in fp32.
    """

    def rounded(prompts: TowerPrompts | None, first: int) -> TowerPrompts | None:
        def at(layer: int, readout: Readout) -> Tensor:
            tokens = prompts.at(layer, readout)
            if layer < first:
                return tokens
            rows = readout.total if readout.samples is None else len(readout.samples)
            return tokens.expand(rows, -1, -1).half().float()

        return None if prompts is None else TowerPrompts(prompts.length, prompts.depth, at)

    text, vision = learner.text, learner.vision
    learner.text = lambda image_features=None: rounded(
        text() if image_features is None else text(image_features), first=1
    )
    learner.vision = lambda: rounded(vision(), first=0)


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Largest difference: absolute, and in proportion to their largest value."""
    assert ours.shape == theirs.shape
    found = (ours - theirs.float()).abs().max().item()
    return found, found / theirs.float().abs().max().item()


def mean_difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().mean() / theirs.abs().mean()).item()


# All classes at once, as so few are by default, and in three groups, two of which are recomputed for the gradient.
@pytest.mark.parametrize("class_chunk", [AUTOMATIC, 2], ids=["at once", "in groups"])
@pytest.mark.parametrize("root, casts, case", runs(trained=True))
def test_a_checkpoint_of_upstreams_gives_upstreams_loss_logits_and_gradients(
    upstream, report, clip_model, batch, root, casts, case, class_chunk
):
    theirs = upstream(root, casts, case)
    model = build(case, clip_model, casts)
    learner = model.learner
    check_backbone(theirs["state_dict"], clip_model, "this CLIP")
    learner.load_state_dict(translate(case, theirs["state_dict"]))
    model.class_chunk = class_chunk
    if casts == "fp32":
        round_as_upstream(learner)
    assert theirs["logits"].float().std(dim=1).min() > 0.1, "too alike to tell a difference"

    logits = model(batch)
    loss = F.cross_entropy(logits, LABELS)
    loss.backward()
    expected = translate(case, theirs["gradients"])
    parameters = dict(learner.named_parameters())
    assert parameters.keys() == expected.keys()
    assert all(gradient.abs().max() > 1e-4 for gradient in expected.values()), "too small to tell a difference"

    gradients = {name: difference(parameter.grad, expected[name]) for name, parameter in parameters.items()}
    means = {name: mean_difference(parameter.grad, expected[name]) for name, parameter in parameters.items()}
    found = {
        "logits": [difference(logits, theirs["logits"])],
        "loss": [difference(loss, torch.tensor(theirs["loss"]))],
        "gradients": list(gradients.values()),
    }
    row = report.setdefault((root, casts, case.method), {what: [] for what in found})
    for what, pairs in found.items():
        row[what] += pairs
        print(f"{what}: {max(x for x, _ in pairs):.1e}, relative {max(y for _, y in pairs):.1e}")
    print(f"gradients, mean: relative {max(means.values()):.1e}")

    of_logits, of_gradients = TOLERANCES[casts]
    assert found["logits"][0][1] < of_logits
    assert found["loss"][0][1] < of_logits
    assert {name: relative for name, (_, relative) in gradients.items() if relative > of_gradients} == {}
    assert {name: mean for name, mean in means.items() if mean > MEAN_TOLERANCES[casts]} == {}


@pytest.mark.parametrize("root, casts, case", runs(trained=True, only_casts="none"))
def test_training_starts_from_the_same_words_or_the_same_distribution(upstream, clip_model, root, casts, case):
    theirs = translate(case, upstream(root, casts, case)["start"])
    ours = build(case, clip_model, casts).learner.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {k: v.shape for k, v in theirs.items()}
    for name, tensor in ours.items():
        if name == "text_prompts.0" and case.uses_words:
            assert torch.equal(tensor, theirs[name])
        elif tensor.numel() >= 500:
            # Both are samples, whose deviations scatter by 1 / sqrt(2 n).
            assert tensor.std().item() == pytest.approx(
                theirs[name].std().item(), rel=6 / (2 * tensor.numel()) ** 0.5
            ), name
            assert tensor.abs().max().item() == pytest.approx(theirs[name].abs().max().item(), rel=0.4), name
    deep = [name for name in ours if name.startswith("text_to_vision") and not name.startswith("text_to_vision.0.")]
    for name in deep:
        copied = "text_to_vision.1." + name.rsplit(".", 1)[1]
        assert torch.equal(ours[name], ours[copied]) and torch.equal(theirs[name], theirs[copied])


@pytest.mark.parametrize("case", [c for c in TRAINED if c not in TEXT_ONLY] + [TEXT_ONLY[0], cocoop(4, "")], ids=str)
def test_the_folder_of_a_checkpoint_has_upstreams_name(upstream, case):
    assert upstream("MaPLe", "none", case)["name"] == TRAINER_REGISTRY.get(case.trainer).method.folder


@pytest.mark.parametrize("root, casts, case", runs(trained=False))
def test_zero_shot_clip_has_upstreams_text_features_and_logits(upstream, report, clip_model, batch, root, casts, case):
    theirs = upstream(root, casts, case)
    model = build(case, clip_model, casts)
    with torch.no_grad():
        features, logits = model.class_features(), model(batch)
    found = {
        "logits": [difference(logits, theirs["logits"])],
        "features": [difference(features, theirs["text_features"])],
    }
    row = report.setdefault((root, casts, case.method), {what: [] for what in found})
    for what, pairs in found.items():
        row[what] += pairs
        print(f"{what}: {pairs[0][0]:.1e}, relative {pairs[0][1]:.1e}")
    assert max(relative for ((_, relative),) in found.values()) < TOLERANCES[casts][0]
