"""The authors' own BMIP model, out of a checkout of their repository, for `benchmark.py`: nothing else builds it.

Their packages have the names of ours, so a process that has loaded theirs can load nothing more of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from torch import nn

# Their code computes in fp16. In fp32 all its casts to fp16 are left out.
PRECISIONS = ("fp32", "fp16")
# The recipe's: prompt tokens, layers, words.
LENGTH, DEPTH, CONTEXT = 2, 9, "a photo of a"


def make_model(checkout: str, sizes: Sequence, classnames: Sequence[str], precision: str) -> nn.Module:
    """Their model on the CPU, around a random CLIP; it returns a loss in training, and logits in testing."""
    from tests.upstream.run_trainers import stub_dassl, without_half_precision

    theirs = {"clip", "datasets", "trainers"}
    for name in [name for name in sys.modules if name.partition(".")[0] in theirs]:
        del sys.modules[name]
    sys.path.insert(0, checkout)
    stub_dassl()
    if precision == "fp32":
        without_half_precision()
    from clip.model import CLIP, convert_weights

    from trainers.bmip import CustomCLIP

    without_prompts = dict(vision_depth=0, language_depth=0, vision_ctx=0, language_ctx=0)
    design = dict(trainer="BMIP", bitp_length=LENGTH, connect_method="other", weight_threshold=0, **without_prompts)
    clip_model = CLIP(*sizes, design)
    if precision == "fp16":
        convert_weights(clip_model)
    keys = dict(N_CTX=LENGTH, CTX_INIT=CONTEXT, PROMPT_DEPTH=DEPTH, CONNECT_METHOD="None", WEIGHT_THRESHOLD=0)
    resolution = clip_model.visual.input_resolution
    cfg = SimpleNamespace(
        TRAINER=SimpleNamespace(BMIP=SimpleNamespace(**keys)),
        INPUT=SimpleNamespace(SIZE=(resolution, resolution)),
        SHARE=SimpleNamespace(SHARE_PARAMETER_VISUAL=True, SHARE_PARAMETER_TEXT=True),
    )
    model = CustomCLIP(cfg, classnames, clip_model)
    learner = model.prompt_learner
    # Shared vision prompts are views of one tensor until the model moves to a GPU; separate them in the same way.
    learner.compound_prompts_visual = nn.ParameterList(
        [nn.Parameter(prompt.detach().clone()) for prompt in learner.compound_prompts_visual]
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("prompt_learner" in name or "learnable_linear" in name)
    return model
