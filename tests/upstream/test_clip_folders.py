"""The core runs on the `clip` folders of the field's checkouts as they are, and computes what it does on OpenAI's.

Needs checkouts named by COOP_ROOT, MAPLE_ROOT, PROMPTSRC_ROOT, COPROMPT_ROOT, BMIP_ROOT; those that are not named are
skipped. This file is also the program that is run on each of them: python test_clip_folders.py CHECKOUT OUTPUT.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKOUTS = ("CoOp", "MaPLe", "PromptSRC", "CoPrompt", "BMIP")
CLASSNAMES = ["forest", "annual crop land", "sea_or_lake"]
# Small models of either kind of vision tower.
VIT = (32, 32, 3, 128, 8, 77, 49408, 64, 1, 3)
RESNET = (32, 64, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2)


def compute() -> dict:
    from trainers.prompting.core.assemble import Foreign, Plan, Tower
    from trainers.prompting.core.clip_weights import assembled, load_clip, new_clip
    from trainers.prompting.core.design import Design, Images
    from trainers.prompting.core.learner import FixedSentence
    from trainers.prompting.core.prompted_clip import PromptedCLIP
    from trainers.prompting.learners.bmip import BMIPConfig, BMIPLearner

    torch.set_num_threads(1)
    found = {}
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    tiny = load_clip("tiny", needs_vit=True)
    found["names"] = sorted(tiny.state_dict())
    torch.manual_seed(1)
    learner = BMIPLearner(BMIPConfig(length=2, depth=3, context="a photo of a"), tiny)
    model = PromptedCLIP(tiny, learner, CLASSNAMES)
    logits = model(images)
    found["logits"] = logits.detach()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    found["gradients"] = {name: parameter.grad for name, parameter in learner.named_parameters()}
    for name, sizes in (("ViT", VIT), ("ResNet", RESNET)):
        torch.manual_seed(2)
        plain = new_clip(*sizes).eval().requires_grad_(False)
        found[f"{name} weights"] = {key: value.sum() for key, value in plain.state_dict().items()}
        pictures = torch.rand(2, 3, sizes[1], sizes[1], generator=torch.Generator().manual_seed(3))
        found[name] = PromptedCLIP(plain, FixedSentence("a photo of a {}."), CLASSNAMES)(pictures)
        if name == "ViT":
            # As a CLIP of another library, with another number of heads.
            plan = Plan(Tower(heads=2), Tower(heads=4, eps=1e-3), Design(Images(sizes[1])))
            foreign = assembled(name, Foreign(plain.state_dict(), plan))
            found["put together"] = PromptedCLIP(foreign, FixedSentence("a photo of a {}."), CLASSNAMES)(pictures)
    return found


def main(checkout: str, output: str) -> None:
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]
    sys.path.insert(0, checkout)
    import clip.model

    assert checkout == "-" or Path(clip.model.__file__).is_relative_to(checkout), "another clip came first"
    sys.path[0] = str(REPOSITORY)
    torch.save(compute(), output)


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What a checkout's clip computes; "-" stands for OpenAI's package."""
    # Not above: the program runs without the helpers.
    from helpers.upstream import environment

    known = {}

    def get(checkout: str) -> dict:
        if checkout not in known:
            output = tmp_path_factory.mktemp("clip") / "found.pt"
            command = [sys.executable, "-W", "ignore", __file__, checkout, str(output)]
            without_dassl = environment(upstream=False)
            done = subprocess.run(command, capture_output=True, text=True, env=without_dassl, cwd=output.parent)
            assert done.returncode == 0, done.stderr[-3000:]
            known[checkout] = torch.load(output, weights_only=True)
        return known[checkout]

    return get


@pytest.mark.parametrize("name", CHECKOUTS)
def test_a_checkouts_clip_gives_openais_logits_and_gradients_to_the_bit(computed, name):
    from helpers.runs import assert_same_state
    from helpers.upstream import root

    assert_same_state(computed(str(root(name))), computed("-"))


if __name__ == "__main__":
    main(*sys.argv[1:])
